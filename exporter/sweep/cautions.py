"""Warnings about models whose figures are measurable but misleading."""

from __future__ import annotations

import logging

from exporter import logs
from exporter.core.facts import ModelFacts
from exporter.core.probe import Probe
from exporter.sweep.preflight import measures_the_cache, meets_in_batches

_log = logging.getLogger(__name__)

_batches_logged: set[str] = set()
"""The probes already warned about."""
_MOST_LOGGED = 10_000


def log_cautions(probe: Probe, facts: ModelFacts) -> None:
    """Warns of a response cache at each sweep, and of requests that meet in batches once per probe."""
    if measures_the_cache(probe, facts):
        _log.warning(
            "generated input repeats one request, and the model has a response cache: the figures describe the cache",
            extra=logs.fields(probe=probe.name, model=probe.model, source=probe.input.source),
        )
    if meets_in_batches(probe, facts) and probe.name not in _batches_logged:
        if len(_batches_logged) >= _MOST_LOGGED:  # discovered probes come and go
            _batches_logged.clear()
        _batches_logged.add(probe.name)
        _log.warning(
            "the model batches requests that meet, and in a closed loop they meet by chance: use request_rate or "
            "load.think_time for comparable figures",
            extra=logs.fields(probe=probe.name, model=probe.model),
        )
