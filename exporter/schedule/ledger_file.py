"""The ledger on the disk: what sweeps caused, so that a budget holds over restarts and crashes.

Each charge is a line that is appended. What a sweep had sent that no line has, since the daemon was killed in it,
is in the accounts that its workers left behind (`storage.account`). It must not know what a budget is.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from exporter.core.probe import Probe
from exporter.core.units import NS
from exporter.logs import fields
from exporter.storage.account import ACCOUNT_SUFFIX, PAGE_BYTES, Account
from exporter.storage.atomic_file import replace_file

_log = logging.getLogger(__name__)

HOUR_SECONDS = 3600.0

CLOSE_LIMIT_SECONDS = 2.0
"""How long the lines that are not written yet are waited for at the end."""

MAX_BYTES = 64 << 20
"""A larger file is not read: an hour has far fewer sweeps."""


@dataclass(frozen=True, slots=True)
class KeptCharge:
    """What one sweep caused."""

    sweep: str
    group: str
    target: str
    probe: str
    requests: int
    duration_ns: int
    ended_unix_s: float
    tokens: int = 0


def sweep_note(sweep_id: str, probe: Probe, started_unix_s: float) -> str:
    """For whom an account's requests are."""
    return json.dumps([sweep_id, probe.target.group, probe.target.name, probe.name, started_unix_s])


class LedgerFile:
    """Appends charges in a thread of its own, and reads them once at the start. No write blocks or fails its caller:
    what cannot be written is logged. `claim` is asked before each write, and raises OSError while the file is another
    daemon's."""

    def __init__(
        self,
        path: Path,
        accounts: Path,
        claim: Callable[[], object] = lambda: None,
        now_unix_s: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._accounts = accounts
        self._claim = claim
        self._now_unix_s = now_unix_s
        self._thread = ThreadPoolExecutor(1, "ledger")
        self._failing = False

    def load(self) -> list[KeptCharge]:
        """The charges of the last hour, those of sweeps that a crash ended included, which then are on the disk like
        the others. Damaged lines are left out: a crash can cut off the last one. Raises OSError."""
        self._claim()
        now_unix_s = self._now_unix_s()
        kept = [charge for charge in self._read() if charge.ended_unix_s > now_unix_s - HOUR_SECONDS]
        left = self._take_accounts({charge.sweep for charge in kept}, now_unix_s)
        found = [*kept, *left]
        replace_file(self._path, "".join(_line(charge) for charge in found))
        for path in self._account_files():
            path.unlink(missing_ok=True)
        if left:
            requests, tokens = sum(charge.requests for charge in left), sum(charge.tokens for charge in left)
            lost = fields(sweeps=len(left), requests=requests, tokens=tokens)
            _log.warning("sweeps were cut off by a crash", extra=lost)
        return found

    def append(self, charge: KeptCharge) -> None:
        """Keeps the charge."""
        self._thread.submit(self._append, _line(charge))

    def close(self) -> None:
        """Ends the thread once all is written, or it takes too long."""
        done = self._thread.submit(lambda: None)
        self._thread.shutdown(wait=False)
        try:
            done.result(CLOSE_LIMIT_SECONDS)
        except TimeoutError:
            _log.error("the ledger was not written", extra=fields(path=self._path))

    def _append(self, line: str) -> None:
        try:
            self._claim()
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            if not self._failing:
                _log.warning("the ledger cannot be written", extra=fields(path=self._path, error=error))
            self._failing = True
        else:
            self._failing = False

    def _read(self) -> list[KeptCharge]:
        try:
            if self._path.stat().st_size > MAX_BYTES:
                _log.error("the ledger is too large and is not read", extra=fields(path=self._path))
                return []
            text = self._path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return []
        return [charge for line in text.splitlines() if (charge := _charge(line)) is not None]

    def _account_files(self) -> list[Path]:
        return sorted(self._accounts.glob(f"*{ACCOUNT_SUFFIX}")) if self._accounts.is_dir() else []

    def _take_accounts(self, known: set[str], now_unix_s: float) -> list[KeptCharge]:
        """One charge per sweep that the ledger does not know, over the accounts of all its workers."""
        found: dict[str, KeptCharge] = {}
        for path in self._account_files():
            charge = _left_in(path, now_unix_s)
            if charge is not None and charge.sweep not in known:
                before = found.get(charge.sweep)
                requests = charge.requests + (before.requests if before else 0)
                tokens = charge.tokens + (before.tokens if before else 0)
                found[charge.sweep] = replace(charge, requests=requests, tokens=tokens)
        return list(found.values())


def _left_in(path: Path, now_unix_s: float) -> KeptCharge | None:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    if os.fstat(descriptor).st_size < PAGE_BYTES:
        os.close(descriptor)
        return None
    account = Account(descriptor)
    try:
        sweep, group, target, probe, started_unix_s = json.loads(account.text)
        seconds = min(max(now_unix_s - float(started_unix_s), 0.0), HOUR_SECONDS)
        requests, tokens = max(account.sent_since_note, 0), max(account.tokens_since_note, 0)
        names = str(sweep), str(group), str(target), str(probe)
        # When it ended is not known: the budget is the safer the later that is.
        return KeptCharge(*names, requests, round(seconds * NS), now_unix_s, tokens)
    except (ValueError, TypeError):
        return None
    finally:
        account.close()


def _line(charge: KeptCharge) -> str:
    return json.dumps(asdict(charge), separators=(",", ":")) + "\n"


def _charge(line: str) -> KeptCharge | None:
    try:
        found: dict[str, Any] = json.loads(line)
        sweep, group, target, probe = (str(found[name]) for name in ("sweep", "group", "target", "probe"))
        numbers = int(found["requests"]), int(found["duration_ns"]), float(found["ended_unix_s"])
        tokens = int(found.get("tokens", 0))  # version 0.2 wrote none
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None
    return KeptCharge(sweep, group, target, probe, *numbers, tokens) if min(*numbers, tokens) >= 0 else None
