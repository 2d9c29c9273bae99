"""The pacer of an open-loop level: from its plan, and its file if any, to the intended send times."""

from __future__ import annotations

from collections.abc import Iterator

from exporter.core.errors import PreflightError
from exporter.core.outcome import Reason
from exporter.core.probe import Distribution, LoadLevel, Mode
from exporter.engine import pacing
from exporter.engine.plan import LevelPlan
from exporter.payload.timing_files import TimingFile, read_intervals, read_schedule


def has_pacer(level: LoadLevel) -> bool:
    """Whether a single clock decides when requests are sent. Streams have one clock each."""
    return level.mode.is_open_loop and level.mode is not Mode.STREAMS


def make_pacer(plan: LevelPlan) -> Iterator[int]:
    """When this worker's requests are meant to be sent, in nanoseconds after the start of the level's load.

    Raises PreflightError if the level's file is unusable, or has changed since it was checked.
    """
    offsets_ns = _offsets_ns(plan.level, plan.seed)
    return offsets_ns if plan.members == 1 else pacing.every_nth(offsets_ns, plan.member, plan.members)


def _offsets_ns(level: LoadLevel, seed: int) -> Iterator[int]:
    if level.mode is Mode.INTERVALS:
        return pacing.looped(_read(level).entries_ns)
    if level.mode is Mode.SCHEDULE:
        return pacing.scheduled(_read(level).entries_ns)
    if level.distribution is Distribution.POISSON:
        return pacing.poisson(level.value, pacing.level_seed(seed, level.label))
    return pacing.constant(level.value)


def _read(level: LoadLevel) -> TimingFile:
    read = read_intervals if level.mode is Mode.INTERVALS else read_schedule
    try:
        file = read(level.file)
    except ValueError as error:
        raise PreflightError(Reason.BAD_INPUT, str(error)) from error
    if file.digest != level.file_digest:
        text = f"{level.file} has changed since the configuration was read; read the configuration again"
        raise PreflightError(Reason.BAD_INPUT, text)
    return file
