"""By a bound's name, what exceeds it: a function that raises nothing where the bound holds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

Exceed = Callable[[], None] | Callable[[], Awaitable[None]]
EACH: dict[str, Exceed] = {}


def exceeds(name: str) -> Callable[[Exceed], Exceed]:
    """Registers the function for this bound."""

    def register(exceed: Exceed) -> Exceed:
        assert name not in EACH
        EACH[name] = exceed
        return exceed

    return register
