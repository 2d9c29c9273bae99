"""A request for a gate as JSON: the daemon's own form, and that of Flagger's webhooks. Pure.

Raises ConfigError with all that is wrong. Values may be text, since Flagger's metadata are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from exporter.config.quantities import format_duration, parse_duration
from exporter.core.errors import ConfigError
from exporter.core.rollout import DEFAULT_MARGINS, GateOptions, Margin, parse_ratio

MAX_TEXT = 200
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,199}")


@dataclass(frozen=True, slots=True)
class GateRequest:
    """What to decide. `stable` and `candidate` are PROBE or TARGET/PROBE of the configuration. Two requests of one id
    must be equal."""

    id: str
    stable: str
    candidate: str
    level: str
    options: GateOptions

    def to_json(self) -> dict[str, Any]:
        """The document that `read_request` reads as this request."""
        options = self.options
        document = {
            "id": self.id,
            "stable": self.stable,
            "candidate": self.candidate,
            "level": self.level,
            "margins": [str(margin) for margin in options.margins],
            "max_error_ratio": options.max_error_ratio,
            "min_pairs": options.min_pairs,
            "max_pairs": options.max_pairs,
            "max_duration": format_duration(options.max_duration_ns),
            "window": format_duration(options.window_ns),
            "output_tolerance": options.output_tolerance,
        }
        return {key: value for key, value in document.items() if value is not None}


def read_request(document: Any, *, check: bool = True) -> GateRequest:
    """Of the daemon's own form. Without the check of the options, those of a stored gate may be refused today."""
    if not isinstance(document, Mapping):
        raise ConfigError(['the body must be a JSON object, as {"id": …, "stable": …, "candidate": …}'])
    problems = [f"{str(key)[:40]}: unknown key" for key in document if key not in (*_TEXTS, "margins", *_OPTIONS)]
    texts = {}
    for key in _TEXTS:
        value = document.get(key, "")
        if not isinstance(value, str) or len(value) > MAX_TEXT or not value.isprintable():
            problems.append(f"{key}: must be text of at most {MAX_TEXT} printable characters")
            value = "?"
        elif key != "level" and not value:
            problems.append(f"{key}: is missing")
        texts[key] = value
    if texts["id"] and not _ID.fullmatch(texts["id"]):
        problems.append("id: must be letters, digits and any of . _ : / -, and begin with a letter or digit")
    options, found = read_options(document, check=check)
    problems += found
    if problems:
        raise ConfigError(problems)
    return GateRequest(texts["id"], texts["stable"], texts["candidate"], texts["level"], options)


def read_options(document: Mapping[str, Any], *, check: bool = True) -> tuple[GateOptions, list[str]]:
    """The options among these keys, and all that is wrong with them, each with its key. What cannot be read is
    reported once: what was put in its place is not."""
    values: dict[str, Any] = {}
    problems: list[str] = []
    unread: set[str] = set()
    if "margins" in document:
        values["margins"], problems = _read_margins(document["margins"])
    for key, (field, read) in _OPTIONS.items():
        if key in document:
            try:
                values[field] = read(document[key])
            except (ValueError, TypeError, OverflowError) as error:
                problems.append(f"{key}: {error}")
                unread |= _PAIRS if key in _PAIRS else {key}
    options = GateOptions(**values)
    if check:
        problems += [problem for problem in options.problems() if problem.partition(":")[0] not in unread]
    return options, problems


def read_flagger(document: Any) -> GateRequest:
    """Of the body of one of Flagger's webhooks, whose metadata have the keys of `read_request`. One gate per checksum
    of the canary; a Flagger that sends none needs an id in the metadata, since the result of the release before must
    not decide this one."""
    metadata = document.get("metadata") if isinstance(document, Mapping) else None
    if not isinstance(document, Mapping) or not isinstance(metadata, Mapping):
        raise ConfigError(["metadata: must hold stable and candidate, as the webhook's metadata"])
    values = {key: value for key, value in metadata.items() if key != _TOKEN}
    if "id" not in values:
        names = [str(document.get(key) or "") for key in ("namespace", "name", "checksum")]
        if not all(names):
            raise ConfigError(["metadata.id: is needed where the request has no checksum: one per release"])
        values["id"] = "/".join(names)
    return read_request(values)


def flagger_token(document: Any) -> str:
    """The token in the metadata of Flagger's body, "" where there is none: it sends no headers that a user chooses."""
    metadata = document.get("metadata") if isinstance(document, Mapping) else None
    token = metadata.get(_TOKEN, "") if isinstance(metadata, Mapping) else ""
    return token if isinstance(token, str) else ""


def _read_margins(value: Any) -> tuple[tuple[Margin, ...], list[str]]:
    """The margins and what is wrong with them. One that cannot be read still counts as a figure."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        problem = 'margins: must be a list, as ["p99=10%", "throughput=5%"], or text with commas'
        return DEFAULT_MARGINS, [problem]
    margins, problems = [], []
    for part in parts:
        try:
            margins.append(Margin.parse(part))
        except ValueError as error:
            problems.append(f"margins: {error}")
            margins.append(Margin(part.partition("=")[0].strip()[:20], 0.5))
    return tuple(margins), problems


def _ratio(value: Any) -> float:
    return parse_ratio(value if isinstance(value, str) else str(float(value)))


def _whole(value: Any) -> int:
    try:
        number = int(value)
    except (ValueError, TypeError, OverflowError):
        number = None
    if number is None or isinstance(value, bool) or str(value) != str(number):
        raise ValueError("must be a whole number")
    return number


def _number(value: Any) -> float:
    """Not a number where there is none: the check of the options reports that."""
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (ValueError, TypeError):
        return math.nan


_TOKEN = "token"  # noqa: S105
_TEXTS = ("id", "stable", "candidate", "level")
_OPTIONS: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "max_error_ratio": ("max_error_ratio", _ratio),
    "min_pairs": ("min_pairs", _whole),
    "max_pairs": ("max_pairs", _whole),
    "max_duration": ("max_duration_ns", parse_duration),
    "window": ("window_ns", parse_duration),
    "output_tolerance": ("output_tolerance", _number),
}
_PAIRS = {"min_pairs", "max_pairs"}
"""One is only valid with the other."""
