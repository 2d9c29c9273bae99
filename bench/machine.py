"""The machine itself, before and between the measurements: how late it wakes a sleeper, and how busy others keep it.

A figure from a machine that does other work is not worth much. So the machine is looked at while nothing of ours runs,
first before all, then before each measurement, and a round in which it was late is marked.
"""

from __future__ import annotations

from bench.sleeper import Slept, sleep_beside

FIRST_SECONDS, SECONDS = 2.0, 0.3
RATE = 1000.0
LATE_FACTOR = 3.0
LATE_US = 500.0
"""Late is a p99 above this, and above so many times what it was at first."""
BUSY_CORES = 0.3
"""Nothing of ours runs meanwhile but the sleeper and servers that have nothing to do."""


def is_late(now: Slept, first: Slept) -> bool:
    """Whether the machine had something else to do: it is busy, or much later than at first."""
    return now.p99_us > max(LATE_US, LATE_FACTOR * first.p99_us) or now.busy_cores > BUSY_CORES


def shown(slept: Slept) -> str:
    """For a page."""
    late = f"sleeper late by {slept.p50_us:.0f} us (p50), {slept.p99_us:.0f} us (p99)"
    return f"{late}; {slept.busy_cores:.2f} cores busy"


class Watch:
    """Looks before each measurement once it has begun, and keeps what is to be marked."""

    def __init__(self) -> None:
        self.first: Slept | None = None
        self._late: list[str] = []
        self._looks = 0

    async def begin(self) -> Slept:
        """The first look, with which all others are compared. Nothing of ours should run meanwhile. Raises
        BenchError."""
        self.first = await sleep_beside(RATE, FIRST_SECONDS)
        return self.first

    async def before(self, what: str) -> None:
        """`what` is to be measured next. Raises BenchError."""
        if self.first is not None:
            self.note(what, await sleep_beside(RATE, SECONDS))

    def note(self, what: str, now: Slept) -> None:
        """The machine was found so before `what`."""
        assert self.first is not None
        self._looks += 1
        if is_late(now, self.first):
            self._late.append(f"{what}: {shown(now)}")

    def take(self) -> str:
        """A paragraph about all since the last time; "" if there was nothing."""
        late, self._late = self._late, []
        looks, self._looks = self._looks, 0
        if not looks:
            return ""
        if not late:
            return f"The machine itself was late or busy before none of {looks} measurements."
        marked = "\n".join(f"- {each}" for each in late)
        return f"**The machine itself was late or busy before {len(late)} of {looks} measurements:**\n\n{marked}"


WATCH = Watch()
"""Of this run."""
