"""What a flag is: its names, its help, and what becomes of it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Reader = Callable[[str], object]
"""Turns a flag's text into a value. Raises ValueError with what is allowed."""


@dataclass(frozen=True, slots=True)
class Key:
    """Sets one key of the configuration: of the probe, or of its target if it begins with `target.`."""

    key: str
    read: Reader


@dataclass(frozen=True, slots=True)
class Part:
    """Together with other flags it makes what `becomes` names; see `assembly`. One that repeats keeps all values."""

    becomes: str
    read: Reader
    repeats: bool = False


@dataclass(frozen=True, slots=True)
class Setting:
    """Is for this run alone, not for what is measured: a field of `RunOptions`."""

    field: str
    read: Reader
    repeats: bool = False


@dataclass(frozen=True, slots=True)
class NoEffect:
    """Is accepted, and changes nothing here; `reason` is printed to the user, "" for nothing."""

    reason: str
    read: Reader = str


@dataclass(frozen=True, slots=True)
class Refused:
    """Is known and does not work; `reason` has the cause, and what to do instead."""

    reason: str


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag. `names` has the one to show first; `metavar` is "" where it takes no value; `use_instead` is set for
    deprecated ones."""

    names: tuple[str, ...]
    metavar: str
    help: str
    effect: Key | Part | Setting | NoEffect | Refused
    use_instead: str = ""

    @property
    def name(self) -> str:
        """The name under which it is spoken of."""
        return self.names[0]
