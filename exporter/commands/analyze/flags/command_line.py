"""From words to what is measured and how it is reported. Raises ConfigError with all that is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from exporter.commands.analyze.flags.assembly import assemble
from exporter.commands.analyze.flags.draft import Draft, RunOptions
from exporter.commands.analyze.flags.flag import Key, NoEffect, Part, Refused, Setting
from exporter.commands.analyze.flags.table import FLAGS, OWN_NAMES
from exporter.commands.analyze.flags.tokenize import Given, split
from exporter.config.loading import load_overlay
from exporter.config.probes import build_probes
from exporter.core.errors import ConfigError
from exporter.core.probe import Probe


@dataclass(frozen=True, slots=True)
class CommandLine:
    """A command line without errors. `document` is what the daemon would take, `probe` what it builds from it, None
    where only help or the version is asked for; `environment` holds the secrets of headers, by the variables that the
    document names; `notices` are to be reported once."""

    options: RunOptions
    document: Mapping[str, Any]
    probe: Probe | None
    environment: Mapping[str, str]
    notices: tuple[str, ...]
    assumed: frozenset[str] = frozenset()


def parse(words: Sequence[str]) -> CommandLine:
    """Reads the words after `analyze`."""
    draft, options = read(words)
    if options.help or options.version:
        return CommandLine(options, {}, None, {}, ())
    try:
        probes = build_probes(load_overlay(draft.overlay))
    except ConfigError as error:
        raise ConfigError([*draft.problems, *error.problems]) from None
    if draft.problems:
        raise ConfigError(draft.problems)
    return CommandLine(options, draft.document, probes[0], draft.environment, tuple(draft.notices), draft.assumed)


def read(words: Sequence[str]) -> tuple[Draft, RunOptions]:
    """The values of the words, before the configuration's own checks."""
    given, problems = split(words, FLAGS, OWN_NAMES)
    draft = Draft()
    draft.problems += problems
    settings: dict[str, Any] = {}
    for one in given:
        _take(draft, settings, one)
    options = RunOptions(**settings)
    assemble(draft, options)
    return draft, options


def _take(draft: Draft, settings: dict[str, Any], given: Given) -> None:
    """Sends a flag's value where it belongs."""
    flag, effect = given.flag, given.flag.effect
    if flag.use_instead:
        draft.notices.append(f"{given.name}: is deprecated; write {flag.use_instead}")
    if isinstance(effect, Refused):
        draft.problem(given.name, effect.reason)
        return
    try:
        value = effect.read(given.text)
    except ValueError as error:
        draft.problem(given.name, str(error))
        return
    if isinstance(effect, Key):
        draft.put(given.name, effect.key, value)
    elif isinstance(effect, Part):
        draft.parts[flag.name] = (*draft.parts.get(flag.name, ()), value) if effect.repeats else value
    elif isinstance(effect, Setting):
        settings[effect.field] = (*settings.get(effect.field, ()), value) if effect.repeats else value
    elif isinstance(effect, NoEffect) and effect.reason:
        draft.notices.append(f"{given.name}: has no effect here: {effect.reason}")
