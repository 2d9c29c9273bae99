"""Splits a command line into flags and their values, as getopt_long does, with all errors at once. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from exporter.commands.analyze.flags.flag import Flag
from exporter.config.text import shown

_SUGGESTION_CUTOFF = 0.6


@dataclass(frozen=True, slots=True)
class Given:
    """A flag as it was given: by which of its names, and with what value ("" where it takes none)."""

    flag: Flag
    name: str
    text: str = ""


def split(words: Sequence[str], flags: Mapping[str, Flag], own: Collection[str] = ()) -> tuple[list[Given], list[str]]:
    """The flags in their order, and what is wrong. As in getopt_long: `--flag=value` and `--flag value`, `-p5000` and
    `-p 5000`, `-av` for `-a -v`, and a long flag may be cut short as long as it stays unique: among perf_analyzer's, or
    else among our `own`, so that no flag of ours makes one of theirs ambiguous."""
    splitter = _Splitter(words, flags, own)
    splitter.run()
    return splitter.given, splitter.problems


class _Splitter:
    def __init__(self, words: Sequence[str], flags: Mapping[str, Flag], own: Collection[str]) -> None:
        self.given: list[Given] = []
        self.problems: list[str] = []
        self._words: Iterator[str] = iter(words)
        self._flags = flags
        self._own = own
        self._may_be_value = False

    def run(self) -> None:
        for word in self._words:
            may_be_value, self._may_be_value = self._may_be_value, False
            if word.startswith("--") and word != "--":
                self._long(word)
            elif word.startswith("-") and word not in ("-", "--"):
                self._short(word[1:])
            elif word != "--" and not may_be_value:
                self._stray(word)

    def _long(self, word: str) -> None:
        name, equals, value = word.partition("=")
        flag = self._find(name)
        if flag is None:
            self._may_be_value = not equals
            return
        if flag.metavar:
            self._take(flag, flag.name if flag.name.startswith("--") else name, value if equals else None)
        elif equals:
            self.problems.append(f"{name}: takes no value; found {shown(value)}")
        else:
            self.given.append(Given(flag, name))

    def _find(self, name: str) -> Flag | None:
        if name in self._flags:
            return self._flags[name]
        fitting = sorted(known for known in self._flags if known.startswith(name))
        long = [known for known in fitting if known not in self._own] or fitting
        if len(long) == 1:
            return self._flags[long[0]]
        if long:
            self.problems.append(f"{name}: could be {' or '.join(long)}")
            return None
        near = difflib.get_close_matches(name, self._flags, n=1, cutoff=_SUGGESTION_CUTOFF)
        hint = f"did you mean {near[0]}?" if near else "--help lists all flags"
        self.problems.append(f"{name}: unknown flag; {hint}")
        return None

    def _short(self, letters: str) -> None:
        """A bundle of flags of one letter; the first that takes a value takes the rest."""
        for position, letter in enumerate(letters):
            flag = self._flags.get(f"-{letter}")
            if flag is None:
                long = f"--{letters}"
                hint = f"; did you mean {long}?" if position == 0 and long.partition("=")[0] in self._flags else ""
                self.problems.append(f"-{letter}: unknown flag{hint or '; --help lists all flags'}")
                self._may_be_value = True
                return
            if flag.metavar:
                self._take(flag, f"-{letter}", letters[position + 1 :] or None)
                return
            self.given.append(Given(flag, f"-{letter}"))

    def _take(self, flag: Flag, name: str, value: str | None) -> None:
        if value is None:
            value = next(self._words, None)
        if value is None:
            self.problems.append(f"{name}: needs a value, {flag.metavar}")
        else:
            self.given.append(Given(flag, name, value))

    def _stray(self, word: str) -> None:
        last = self.given[-1] if self.given else None
        hint = f": {last.name} takes no value" if last and not last.flag.metavar else ""
        self.problems.append(f"{shown(word)}: is neither a flag nor the value of one{hint}")
