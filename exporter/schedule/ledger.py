"""What load the sweeps caused in the last hour, and whether the budget of a group allows one more.

Pure, but for the clock that it is given. It must not know when a probe is due, nor how a sweep is run.

A budget holds in every hour, wherever that hour begins: a sweep is charged when it ends, only one runs in a group, and
each gets at most what was left as it began.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from exporter.core.limits import GroupBudget, Load
from exporter.core.outcome import SkipReason
from exporter.core.probe import Probe
from exporter.core.result import SweepResult, WindowCounts
from exporter.core.units import NS
from exporter.schedule.ledger_file import KeptCharge, LedgerFile
from exporter.schedule.phase import ProbeKey, probe_key

_K = TypeVar("_K")

HOUR_NS = 3600 * NS

EXPECTED_RATIO = 1.2
"""A sweep begins if the budget allows so many times what the probe's last one took: else it would be cut short."""

_KNOWN_PROBES = 10_000
"""Of how many probes the last sweep's load is remembered: under discovery they come and go for ever."""


@dataclass(frozen=True, slots=True)
class _Charge:
    ended_ns: int
    key: ProbeKey
    load: Load


class Ledger:
    """A `Sink` (exporter.core.result): sweeps are charged as they end. For one thread."""

    def __init__(
        self,
        budget: GroupBudget,
        now_ns: Callable[[], int] = time.monotonic_ns,
        file: LedgerFile | None = None,
        now_unix_s: Callable[[], float] = time.time,
    ) -> None:
        """Charges are kept in the `file`, if there is one; `load` takes in those of before."""
        self.budget = budget
        self._now_ns = now_ns
        self._now_unix_s = now_unix_s
        self._file = file
        self._charges: defaultdict[str, deque[_Charge]] = defaultdict(deque)
        self._by_group: dict[str, Load] = {}
        self._by_probe: dict[ProbeKey, Load] = {}
        self._last: dict[ProbeKey, Load] = {}

    def load(self) -> None:
        """Takes in what the file has of the last hour. Raises OSError."""
        for kept in self._file.load() if self._file is not None else ():
            # The wall clock may have been set since: none is older than the hour, and none of the future.
            age_s = min(max(self._now_unix_s() - kept.ended_unix_s, 0.0), HOUR_NS / NS)
            load = Load(kept.requests, kept.duration_ns, kept.tokens)
            self._charge(kept.group, _Charge(self._now_ns() - round(age_s * NS), (kept.target, kept.probe), load))
        for group, charges in self._charges.items():
            self._charges[group] = deque(sorted(charges, key=lambda charge: charge.ended_ns))

    def allowed(self, probe: Probe) -> Load:
        """What a sweep of the probe that begins now may cause: what is left of its group's budget."""
        whole, used = self._whole(), self.used(probe.target.group)
        return _sum(whole, used, -1)

    def refusal(self, probe: Probe) -> SkipReason | None:
        """Whether the budget does not allow a sweep of the probe. One that takes more than a whole budget runs
        when all of it is there, and is cut short."""
        left, whole, last = self.allowed(probe), self._whole(), self._last.get(probe_key(probe), Load())
        requests = min(max(1, int(EXPECTED_RATIO * last.requests)), whole.requests)
        duration_ns = min(max(_least_ns(probe), int(EXPECTED_RATIO * last.duration_ns)), whole.duration_ns)
        tokens = min(max(probe.request_tokens, int(EXPECTED_RATIO * last.tokens)), whole.tokens)
        is_paid_for = not probe.target.takes_prompts or tokens <= left.tokens
        is_allowed = requests <= left.requests and duration_ns <= left.duration_ns and is_paid_for
        return None if is_allowed else SkipReason.BUDGET

    def used(self, group: str) -> Load:
        """What ended in the group in the last hour."""
        self._expire(group)
        return self._by_group.get(group, Load())

    def caused(self, probe: Probe) -> Load:
        """What sweeps of the probe that ended in the last hour caused."""
        self._expire(probe.target.group)
        return self._by_probe.get(probe_key(probe), Load())

    def used_ratios(self) -> Mapping[str, Mapping[str, float]]:
        """By group, and in it by kind of budget, the part that is used; groups without a sweep in the last hour are
        not there, nor are tokens where none were spent."""
        used = {group: self.used(group) for group in list(self._charges)}
        return {group: self._ratios(load) for group, load in used.items() if group in self._charges}

    def charge(self, result: SweepResult) -> tuple[ProbeKey, Load]:
        """Charges the probe and its group with a sweep that ended now. One on demand does not
        predict how much the next scheduled one will take."""
        key, group = probe_key(result.probe), result.probe.target.group
        load = Load(result.sent, result.duration_ns, result.tokens)
        self._charge(group, _Charge(self._now_ns(), key, load))
        if self._file is not None:
            now_unix_s = self._now_unix_s()
            kept = KeptCharge(result.id, group, *key, load.requests, load.duration_ns, now_unix_s, load.tokens)
            self._file.append(kept)
        return key, load

    # --- what happens ------------------------------------------------------------------------------------------------

    def sweep_started(self, probe: Probe, started_unix_s: float) -> None:
        pass

    def window_ended(self, probe: Probe, counts: WindowCounts) -> None:
        pass

    def sweep_ended(self, result: SweepResult) -> None:
        key, load = self.charge(result)
        self._last.pop(key, None)
        self._last[key] = load
        while len(self._last) > _KNOWN_PROBES:
            del self._last[next(iter(self._last))]

    def sweep_skipped(self, probe: Probe, reason: SkipReason) -> None:
        pass

    # --- inside ------------------------------------------------------------------------------------------------------

    def _ratios(self, used: Load) -> Mapping[str, float]:
        whole = self._whole()
        ratios = {"requests": used.requests / whole.requests, "duty": used.duration_ns / whole.duration_ns}
        return ratios | ({"tokens": used.tokens / whole.tokens} if used.tokens else {})

    def _charge(self, group: str, charge: _Charge) -> None:
        self._charges[group].append(charge)
        _add(self._by_group, group, charge.load, 1)
        _add(self._by_probe, charge.key, charge.load, 1)

    def _whole(self) -> Load:
        requests = self.budget.requests_per_hour or sys.maxsize
        tokens = self.budget.tokens_per_hour or sys.maxsize
        return Load(requests, int(self.budget.duty_ratio * HOUR_NS), tokens)

    def _expire(self, group: str) -> None:
        charges, now_ns = self._charges.get(group), self._now_ns()
        while charges and charges[0].ended_ns <= now_ns - HOUR_NS:
            charge = charges.popleft()
            _add(self._by_group, group, charge.load, -1)
            _add(self._by_probe, charge.key, charge.load, -1)
        if charges is not None and not charges:
            del self._charges[group]


def _add(totals: dict[_K, Load], key: _K, load: Load, sign: int) -> None:
    total = _sum(totals.get(key, Load()), load, sign)
    if total == Load():
        totals.pop(key, None)
    else:
        totals[key] = total


def _sum(have: Load, load: Load, sign: int) -> Load:
    return Load(
        have.requests + sign * load.requests,
        have.duration_ns + sign * load.duration_ns,
        have.tokens + sign * load.tokens,
    )


def _least_ns(probe: Probe) -> int:
    """The shortest that a sweep can be of which a level is measured."""
    return probe.measurement.stability_windows * probe.measurement.window_ns
