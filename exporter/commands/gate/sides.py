"""From what a user names, stable and candidate, to two probes. Raises ConfigError with all that is wrong."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporter.config.document import parse_value
from exporter.config.environment import Overlay
from exporter.config.environment import Path as Keys
from exporter.config.loading import load, load_overlay
from exporter.config.probes import build_probes
from exporter.core.errors import ConfigError
from exporter.core.probe import Probe

SIDES = ("stable", "candidate")
_URL = re.compile(r"(?P<url>(?:https?|grpcs?)://[^/]+(?:/.*)?)/(?P<model>[^/:]+)(?::(?P<version>[^/:]+))?")
_TARGET = "target."
_FORM = "URL/MODEL[:VERSION], as grpc://host:8001/resnet:2"


@dataclass(frozen=True, slots=True)
class SideOptions:
    """What was given. `load` and `settings` (KEY=VALUE of a probe, or of its target after `target.`) are of sides that
    are URLs: a configured probe has its own."""

    stable: str
    candidate: str
    config: Path | None = None
    concurrency: str = ""
    request_rate: str = ""
    batch_size: str = ""
    settings: Sequence[str] = ()
    environ: Mapping[str, str] | None = None

    @property
    def flags(self) -> dict[str, str]:
        """The keys that flags set, with their values."""
        flags = {
            "--concurrency": ("load.concurrency", self.concurrency),
            "--request-rate": ("load.request_rate", self.request_rate),
            "--batch-size": ("input.batch_size", self.batch_size),
        }
        return {flag: f"{key}={value}" for flag, (key, value) in flags.items() if value}


def read_sides(options: SideOptions) -> tuple[Probe, Probe]:
    """The two probes."""
    given = dict(zip(SIDES, (options.stable, options.candidate), strict=True))
    urls = {side: found for side, text in given.items() if (found := _URL.fullmatch(text))}
    problems = []
    for side, text in given.items():
        if side not in urls and "://" in text:
            problems.append(f"--{side}: {text!r} is not {_FORM}")
        elif side not in urls and options.config is None:
            problems.append(f"--{side}: {text!r} is not {_FORM}; the name of a probe needs --config")
    if "stable" not in urls and (options.flags or options.settings):
        which = next(iter(options.flags), "--set")
        problems.append(f"{which}: the load is that of the configured probe {options.stable!r}; change it there")
    if options.config is not None and len(urls) == len(SIDES):
        problems.append("--config: has no effect, since both sides are URLs")
    if problems:
        raise ConfigError(problems)
    sides = _from_urls(urls, options) if urls else {}
    if options.config is not None:
        environ = os.environ if options.environ is None else options.environ
        probes = build_probes(load(options.config, environ))
        sides |= _configured(probes, {side: text for side, text in given.items() if side not in urls})
    return sides["stable"], sides["candidate"]


def _configured(probes: Sequence[Probe], named: Mapping[str, str]) -> dict[str, Probe]:
    found, problems = {}, []
    for side, name in named.items():
        fitting = [probe for probe in probes if name in (probe.name, f"{probe.target.name}/{probe.name}")]
        if len(fitting) == 1:
            found[side] = fitting[0]
        elif fitting:
            choices = ", ".join(f"{probe.target.name}/{probe.name}" for probe in fitting)
            problems.append(f"--{side}: several probes are named {name!r}: choose one of {choices}")
        else:
            problems.append(f"--{side}: no probe is named {name!r} in the configuration")
    if problems:
        raise ConfigError(problems)
    return found


def _from_urls(urls: Mapping[str, re.Match[str]], options: SideOptions) -> dict[str, Probe]:
    """The configuration that the flags make, through the configuration's own checks."""
    targets: list[dict[str, Any]] = []
    probes: list[dict[str, Any]] = []
    flags: dict[Keys, str] = {}
    for number, (side, url) in enumerate(urls.items()):
        targets.append({"name": side, "kind": "triton", "url": url["url"]})
        probe: dict[str, Any] = {"name": side, "target": side, "model": url["model"], "schedule": {"every": "1h"}}
        if url["version"]:
            probe["version"] = url["version"]
        probes.append(probe)
        for path in (("targets", number, "url"), ("probes", number, "model"), ("probes", number, "version")):
            flags[path] = f"--{side}"
    problems = []
    given = [*options.flags.items(), *(("--set", setting) for setting in options.settings)]
    for flag, setting in given:
        key, equals, text = setting.partition("=")
        if not equals or not all(key.split(".")):
            problems.append(f"--set: {setting!r} is not KEY=VALUE, as input.batch_size=4")
            continue
        of_target = key.startswith(_TARGET)
        section, entries = ("targets", targets) if of_target else ("probes", probes)
        keys = key.removeprefix(_TARGET).split(".")
        for number, entry in enumerate(entries):
            if not _put(entry, keys, parse_value(text)):
                problems.append(f"--set: {key}: conflicts with another --set")
            flags[(section, number, *keys)] = flag
    for probe in probes:
        load_ = probe.setdefault("load", {})
        if isinstance(load_, dict) and not {"concurrency", "request_rate", "intervals", "schedule"} & load_.keys():
            load_["concurrency"] = 1
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    try:
        settings = load_overlay(Overlay({"targets": targets, "probes": probes}, flags))
    except ConfigError as error:
        raise ConfigError(list(dict.fromkeys(error.problems))) from None
    return dict(zip(urls, build_probes(settings), strict=True))


def _put(entry: dict[str, Any], keys: Sequence[str], value: Any) -> bool:
    inner: Any = entry
    for key in keys[:-1]:
        inner = inner.setdefault(key, {})
        if not isinstance(inner, dict):
            return False
    inner[keys[-1]] = value
    return True
