"""What a source can contain: addresses with labels, or an error. Prometheus's lists of targets are read here. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from exporter.config.text import MAX_LABEL_LENGTH, label_value, parse_address, shown
from exporter.core.bounds import LIST_ADDRESSES
from exporter.core.errors import TritonCanaryError

SHOWN_PROBLEMS = 5


class DiscoveryError(TritonCanaryError):
    """A source can't be read, or contains what can't be used: its last good list stays."""


@dataclass(frozen=True, slots=True, order=True)
class Found:
    """One address. Port 0 is the configured one. `address` is numeric, where `host` is the name that led to it."""

    host: str
    port: int = 0
    address: str = ""
    labels: tuple[tuple[str, str], ...] = ()


def parse_groups(content: object, labels: Collection[str]) -> tuple[Found, ...]:
    """The addresses of a list of target groups, as `file_sd_configs` and `http_sd_configs` of Prometheus have them:
    `[{"targets": ["host:port"], "labels": {"name": "value"}}]`. Sorted, each once.

    Of the labels those named are taken; others, and all that begin with `__`, are ignored. Raises DiscoveryError with
    the first errors: a list that is wrong in one place may be wrong in others, and is not taken in part."""
    problems: list[str] = []
    found: dict[tuple[str, int], Found] = {}
    if not isinstance(content, list):
        raise DiscoveryError("must be a list of target groups")
    for index, group in enumerate(content):
        for each in _group(f"[{index}]", group, labels, problems):
            found.setdefault((each.host, each.port), each)
        if len(found) > LIST_ADDRESSES or len(problems) > LIST_ADDRESSES:
            raise DiscoveryError(f"has more than {LIST_ADDRESSES} addresses")
    if problems:
        more = f"; and {len(problems) - SHOWN_PROBLEMS} more" if len(problems) > SHOWN_PROBLEMS else ""
        raise DiscoveryError("; ".join(problems[:SHOWN_PROBLEMS]) + more)
    return tuple(sorted(found.values()))


def _group(place: str, group: object, labels: Collection[str], problems: list[str]) -> Iterator[Found]:
    if not isinstance(group, Mapping) or not isinstance(group.get("targets"), list):
        problems.append(f"{place}: must be a mapping with a list of targets")
        return
    taken = tuple(sorted(_labels(f"{place}.labels", group.get("labels"), labels, problems)))
    for index, given in enumerate(group["targets"]):
        try:
            host, port = parse_address(given)
        except ValueError as error:
            problems.append(f"{place}.targets[{index}]: found {shown(given)}: {error}")
        else:
            yield Found(host, port, labels=taken)


def _labels(place: str, given: object, labels: Collection[str], problems: list[str]) -> Iterator[tuple[str, str]]:
    if given is None:
        return
    if not isinstance(given, Mapping):
        problems.append(f"{place}: must be a mapping")
        return
    for name, value in given.items():
        if name not in labels or str(name).startswith("__"):
            continue
        try:
            if not isinstance(value, str):
                raise ValueError(f"must be text of at most {MAX_LABEL_LENGTH} characters")
            yield str(name), label_value(value)
        except ValueError as error:
            problems.append(f"{place}.{name}: found {shown(value)}: {error}")
