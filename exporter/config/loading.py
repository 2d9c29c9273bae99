"""From a file and the environment to settings, or to every problem in them at once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from exporter.config.checks import Entry, cross_problems, maintenance_problems, salvage_probes, salvage_targets
from exporter.config.document import Block, Document, decoded_document, read_document
from exporter.config.environment import OTHER_VARIABLES, Overlay, read_environment
from exporter.config.fields import ONE_IS_REQUIRED
from exporter.config.inherit import merged, with_inherited
from exporter.config.probe_settings import DefaultsSettings
from exporter.config.problems import Places, Problem, fields_by_key, schema_problem, unknown_key, without_echoes
from exporter.config.settings import Settings
from exporter.core.errors import ConfigError

_LISTS = ("targets", "probes", "maintenance")


def load(path: Path, environ: Mapping[str, str] = os.environ, data: bytes | None = None) -> Settings:
    """The configuration in a YAML file, with the environment's TRITON_CANARY_… variables over it.

    `data` is what the file held, where the caller read it already. Raises ConfigError with every problem found, one
    line each, in the file's order."""
    return _checked(_places(path, environ, read_document(path) if data is None else decoded_document(data)))


def load_with_places(path: Path, environ: Mapping[str, str] = os.environ) -> tuple[Settings, Places]:
    """The same, with where each value came from: for problems that only later checks can find."""
    places = _places(path, environ, read_document(path))
    return _checked(places), places


def join(path: Path, data: bytes, environ: Mapping[str, str]) -> Mapping[str, Any]:
    """The file and the environment joined, unchecked. Raises ConfigError for what is not YAML."""
    return _places(path, environ, decoded_document(data)).values


def _places(path: Path, environ: Mapping[str, str], document: Document) -> Places:
    if document.problems:
        raise ConfigError([str(Problem(str(path), line, "", problem)) for line, problem in document.problems])
    overlay = read_environment(_without(environ, _named_by_headers(document.root)), fields_by_key(Settings), _LISTS)
    return Places(path, document.root, overlay, merged(document.root, overlay.values))


def load_overlay(overlay: Overlay) -> Settings:
    """The configuration that an overlay alone makes, by the same checks. Raises ConfigError with every problem."""
    return _checked(Places(Path("command line"), Block(0), overlay, overlay.values))


def _checked(places: Places) -> Settings:
    overlay, values, known = places.overlay, places.values, fields_by_key(Settings)
    effective = with_inherited(values)
    problems = [Problem(variable, 0, "", problem) for variable, problem in overlay.problems]
    problems += [places.problem((key,), unknown_key((key,))) for key in values if key not in known]
    problems += _defaults_problems(places, values.get("defaults"))
    settings: Settings | None = None
    try:
        settings = Settings(**{key: value for key, value in effective.items() if key in known})
    except ValidationError as error:
        problems += [schema_problem(places, details) for details in without_echoes(error.errors(include_url=False))]
    problems += _cross_problems(places, settings, effective)
    if problems or settings is None:
        problems.sort(key=lambda problem: (problem.line, problem.source))
        raise ConfigError(list(dict.fromkeys(map(str, problems))))
    return settings


def _defaults_problems(places: Places, defaults: object) -> Iterator[Problem]:
    """What is wrong in the defaults themselves. They may be partial: what they lack, each probe can give."""
    if defaults is None:
        return
    try:
        DefaultsSettings.model_validate(defaults)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            lacking = details["type"] == "missing" or ONE_IS_REQUIRED in details["msg"]
            if not lacking:
                details["loc"] = ("defaults", *details["loc"])
                yield schema_problem(places, details)


def _cross_problems(places: Places, settings: Settings | None, effective: Mapping[str, Any]) -> list[Problem]:
    if settings is None:
        targets, probes = salvage_targets(effective.get("targets", [])), salvage_probes(effective.get("probes", []))
    else:
        targets = [Entry(target, frozenset()) for target in settings.targets]
        probes = [Entry(probe, frozenset()) for probe in settings.probes]
    if settings is None or any(key not in fields_by_key(Settings) for key in effective):
        # Targets or probes may be under a misspelt key: what names one is no second mistake.
        targets = targets if "targets" in effective else [None]
        return [places.problem(path, problem) for path, problem in cross_problems(targets, probes)]
    found = [*cross_problems(targets, probes), *maintenance_problems(settings)]
    return [places.problem(path, problem) for path, problem in found]


def _named_by_headers(root: Mapping[str, Any]) -> set[str]:
    """Environment variables that hold a header's secret: no settings, however they are called."""
    names: set[str] = set()
    targets = root.get("targets")
    for target in targets if isinstance(targets, list) else ():
        for holder in (target, _inner(target, "discover", "http_sd")):
            headers = _inner(holder, "headers")
            for header in headers.values() if isinstance(headers, Mapping) else ():
                if isinstance(header, Mapping) and isinstance(header.get("env"), str):
                    names.add(header["env"])
    return names


def _inner(value: Any, *keys: str) -> Any:
    """The value below these keys; None where they don't lead on."""
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _without(environ: Mapping[str, str], names: set[str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name not in names | OTHER_VARIABLES}
