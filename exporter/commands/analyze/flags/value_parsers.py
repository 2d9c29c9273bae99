"""Reads the values of flags: text in, a value of the configuration out. Pure; ValueError has what is allowed."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from exporter.config.quantities import Quantity, checked_percentile
from exporter.config.text import as_number, shown
from exporter.core.datatypes import DATATYPES
from exporter.core.kinds import IN_PROCESS, KINDS
from exporter.core.units import MS

_OUR_NAMES = {"triton_c_api": IN_PROCESS}
"""Kinds by perf_analyzer's names."""
_OUT_OF_SCOPE = {
    "dynamic_grpc": "gRPC services of other kinds are out of scope; ghz measures those",
}
_WHOLE = re.compile(r"[-+]?\d{1,18}", re.ASCII)
_WHOLE_FRACTION = re.compile(r"(?<=[0-9])\.0+\Z")


def present(given: str) -> bool:
    """A flag without a value: it is there."""
    del given
    return True


def filled(given: str) -> str:
    """Text that is not empty."""
    if not given:
        raise ValueError("must not be empty")
    return given


def whole(low: int, high: int | None = None) -> Callable[[str], int]:
    """A whole number from `low` on, up to `high`."""

    def read(given: str) -> int:
        value = int(given) if _WHOLE.fullmatch(given) else None
        if value is None or value < low or (high is not None and value > high):
            bounds = f"of {low} or more" if high is None else f"from {low} to {high}"
            raise ValueError(f"found {shown(given)}: must be a whole number {bounds}")
        return value

    return read


def whole_numbers(low: int) -> Callable[[str], list[int]]:
    """One whole number from `low` on, or several joined by commas."""
    one = whole(low)

    def read(given: str) -> list[int]:
        values = [one(part) for part in given.split(",")]
        if len(set(values)) < len(values):
            raise ValueError(f"found {shown(given)}: a number is there twice")
        return values

    return read


def number(given: str) -> float:
    """A finite decimal number."""
    try:
        value = float(given)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or "_" in given:
        raise ValueError(f"found {shown(given)}: must be a number")
    return value


def milliseconds(limits: Quantity) -> Callable[[str], str]:
    """A duration in milliseconds, as the configuration writes it, within the limits that its key has there. 1000.0 is
    1000: Model Analyzer writes it so."""
    low, high = math.ceil(limits.low / MS), math.floor(limits.high / MS)

    def read(given: str) -> str:
        try:
            return f"{whole(low, high)(_WHOLE_FRACTION.sub('', given))}ms"
        except ValueError as error:
            raise ValueError(f"{error} (milliseconds)") from None

    return read


def percentage(given: str) -> str:
    """A percentage of 0 or more, as the configuration writes it."""
    value = number(given.removesuffix("%"))
    if value < 0:
        raise ValueError(f"found {shown(given)}: must be a percentage of 0 or more, as 10")
    return f"{as_number(value)}%"


def percentile(given: str) -> float | None:
    """A percentile between 0 and 100; -1 is none: the mean."""
    value = number(given)
    if value == -1:
        return None
    if not 0 < value < 100:
        raise ValueError(f"found {shown(given)}: must be between 0 and 100, as 95 or 99.9, or -1 for the mean")
    try:
        return checked_percentile(value)
    except ValueError as error:
        raise ValueError(f"found {shown(given)}: {error}") from None


def one_of(**choices: object) -> Callable[[str], object]:
    """One of these words, each with the value that it stands for."""

    def read(given: str) -> object:
        if given not in choices:
            raise ValueError(f"found {shown(given)}: must be {' or '.join(choices)}")
        return choices[given]

    return read


def protocol(given: str) -> str:
    """http or grpc, in upper or lower case."""
    if given.lower() not in ("http", "grpc"):
        raise ValueError(f"found {shown(given)}: must be http or grpc")
    return given.lower()


def shape(given: str) -> tuple[str, list[int]]:
    """An input's name and its full shape: `name:1,320000`. A name may itself hold colons."""
    name, colon, dimensions = given.rpartition(":")
    if not colon or not name:
        raise ValueError(f"found {shown(given)}: must be an input's name and its dimensions, as input:1,320000")
    try:
        return name, [whole(1)(dimension) for dimension in dimensions.split(",")]
    except ValueError:
        raise ValueError(f"found {shown(given)}: each dimension must be a whole number of 1 or more") from None


def datatype(given: str) -> tuple[str, str]:
    """An input's name and its datatype: `x:FP32`. A name may itself hold colons."""
    name, _, found = given.rpartition(":")
    if not name or found not in DATATYPES:
        raise ValueError(f"found {shown(given)}: must be an input's name and its datatype, as x:FP32 or words:BYTES")
    return name, found


@dataclass(frozen=True, slots=True)
class Range:
    """`start:end:step`. `end` is None where only a start was given: one level; 0 is open."""

    start: float
    end: float | None
    step: float

    @property
    def is_open(self) -> bool:
        """Whether it continues until a threshold is passed."""
        return self.end == 0

    @property
    def text(self) -> str:
        """The range as the configuration writes it."""
        parts = (self.start,) if self.end is None else (self.start, self.end, self.step)
        return ":".join(map(as_number, parts))

    @property
    def value(self) -> str | int | float:
        """A range, or its only level as a number."""
        if self.end is not None:
            return self.text
        return int(self.start) if self.start == int(self.start) else self.start


def levels(read: Callable[[str], float]) -> Callable[[str], Range]:
    """A start, or `start:end[:step]`; an end of 0 is open. The step is 1 where none is given."""

    def parse(given: str) -> Range:
        parts = given.split(":")
        try:
            numbers = [read(part) for part in parts]
        except ValueError:
            numbers = []
        if not 1 <= len(numbers) <= 3:
            raise ValueError(f"found {shown(given)}: must be start:end:step, start:end, or one number")
        start, step = numbers[0], numbers[2] if len(numbers) == 3 else 1
        end = numbers[1] if len(numbers) > 1 else None
        if start <= 0 or step <= 0 or (end is not None and end < 0):
            raise ValueError(f"found {shown(given)}: start and step must be above 0, and the end not below")
        if end and end < start:
            raise ValueError(f"found {shown(given)}: the end must not be below the start")
        return Range(start, end, step)

    return parse


def id_range(given: str) -> tuple[int, int | None]:
    """`start` or `start:end`: the first sequence id and how many there are; None: no bound. The end is not one of
    them, as in perf_analyzer."""
    first, colon, end = given.partition(":")
    try:
        start, stop = whole(0)(first), whole(0)(end) if colon else None
    except ValueError:
        raise ValueError(f"found {shown(given)}: must be start or start:end, both whole numbers") from None
    if stop is not None and stop <= start:
        raise ValueError(f"found {shown(given)}: the end must be above the start")
    return start, None if stop is None else stop - start


def parameter(given: str) -> tuple[str, object]:
    """A request parameter: `name:value:type`, type int, bool or string."""
    parts = given.split(":")
    if len(parts) < 3 or not parts[0]:
        raise ValueError(f"found {shown(given)}: must be name:value:type, as max_tokens:256:int")
    name, value, kind = parts[0], ":".join(parts[1:-1]), parts[-1].lower()
    if kind == "string":
        return name, value
    if kind == "int" and _WHOLE.fullmatch(value):
        return name, int(value)
    if kind == "bool" and value.lower() in ("true", "false"):
        return name, value.lower() == "true"
    raise ValueError(f"found {shown(given)}: the type must be int, bool (true or false) or string, and fit the value")


def header(given: str) -> tuple[str, str]:
    """`name: value`."""
    name, colon, value = given.partition(":")
    if not colon or not name.strip():
        raise ValueError("must be a header's name and value, as 'X-Team: asr'")  # the value may be a secret
    return name.strip(), value.strip()


def model_list(given: str) -> list[str]:
    """Models, each with its version behind a colon if it matters, joined by commas."""
    names = ["".join(name.split()) for name in given.split(",")]
    if not all(name and not name.startswith(":") for name in names):
        raise ValueError(f"found {shown(given)}: must be models joined by commas, as modelA:3,modelB")
    return names


def unit(given: str) -> dict[str, object]:
    """What one inference is worth: `seconds_of_audio:0.3`."""
    name, colon, worth = given.rpartition(":")
    try:
        value = number(worth)
    except ValueError:
        value = 0
    if not colon or not name or value <= 0:
        raise ValueError(
            f"found {shown(given)}: must be a unit and how much of it one inference is, as audio_seconds:0.3"
        )
    return {"name": name, "per_inference": value}


def threshold(limits: Quantity) -> Callable[[str], str | None]:
    """A latency threshold in milliseconds; 0 is none."""
    in_milliseconds = milliseconds(limits)

    def read(given: str) -> str | None:
        value = in_milliseconds(given)
        return None if value == "0ms" else value

    return read


def service_kind(given: str) -> str:
    """What serves the model, by perf_analyzer's name of it or by ours."""
    given = _OUR_NAMES.get(given, given)
    if given in _OUT_OF_SCOPE:
        raise ValueError(f"found {shown(given)}: {_OUT_OF_SCOPE[given]}")
    if given not in KINDS:
        theirs = {ours: name for name, ours in _OUR_NAMES.items()}
        known = (theirs.get(kind, kind) for kind in KINDS)
        raise ValueError(f"found {shown(given)}: must be {' or '.join(known)}")
    return given


def pem(command: str) -> Callable[[str], str]:
    """The form of certificates and keys: PEM is the only one read; `command` converts the other."""

    def read(given: str) -> str:
        if given == "DER":
            raise ValueError(f"DER is not read; convert the file, '{command}', and give that")
        if given != "PEM":
            raise ValueError(f"found {shown(given)}: must be PEM")
        return given

    return read
