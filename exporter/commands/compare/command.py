"""The command `compare`: from what a user selects to two or more sides, and the text about them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from exporter.commands.compare.comparison import MIN_SWEEPS, LevelSample, Side, compare
from exporter.commands.compare.report import notes, table, verdict_line
from exporter.commands.compare.stored_levels import StoredLevel, read_source
from exporter.core.errors import ConfigError

Select = Callable[[StoredLevel], bool]


@dataclass(frozen=True, slots=True)
class CompareOptions:
    """What to compare. `before` and `after` are each a time range "FROM..TO", where either end may be left out, or the
    beginning of a hash of the model's or the probe's configuration. `percentiles` None are all that both sides have.
    `tolerance` is a ratio. With fewer than `min_sweeps` sweeps on a side nothing is better or worse."""

    paths: tuple[Path, ...]
    probes: tuple[str, ...] = ()
    target: str = ""
    before: str = ""
    after: str = ""
    levels: tuple[str, ...] = ()
    percentiles: tuple[float, ...] | None = None
    tolerance: float = 0.05
    min_sweeps: int = MIN_SWEEPS


@dataclass(frozen=True, slots=True)
class ComparisonReport:
    """The second side and each further one compared with the first: a verdict per side, one table, and notes.
    `nothing`: no figure is on both sides of any."""

    verdicts: tuple[str, ...]
    table: tuple[str, ...]
    notes: tuple[str, ...]
    worse: bool
    nothing: bool

    @property
    def as_text(self) -> str:
        """All of it for a terminal."""
        parts = (self.verdicts, self.table, self.notes)
        return "\n\n".join("\n".join(part) for part in parts if part)

    @property
    def as_markdown(self) -> str:
        """All of it for a pull request; verdicts and notes as lists, since Markdown would join their lines."""
        parts = ([f"- {line}" for line in self.verdicts], self.table, [f"- {line}" for line in self.notes])
        return "\n\n".join("\n".join(part) for part in parts if part)


def run_compare(request: CompareOptions) -> ComparisonReport:
    """Reads, compares and words it. Raises ConfigError for what can't be read or selects nothing."""
    first, *others = _sides(request)
    comparisons = [compare(first, other, request.percentiles, request.min_sweeps) for other in others]
    nothing = not any(comparison.verdicts(request.tolerance) for comparison in comparisons)
    return ComparisonReport(
        verdicts=tuple(verdict_line(each, request.tolerance) for each in comparisons),
        table=tuple(table(comparisons, request.tolerance)),
        notes=tuple(dict.fromkeys(note for each in comparisons for note in notes(each))),
        worse=any(each.is_worse(request.tolerance) for each in comparisons),
        nothing=nothing,
    )


# --- sides ------------------------------------------------------------------------------------------------------------


def _sides(request: CompareOptions) -> list[Side]:
    stored = [read_source(path) for path in request.paths]
    sources = [[level for level in levels if _is_wanted(level, request)] for levels in stored]
    # By time: sweeps that follow each other are alike.
    everything = sorted((level for levels in sources for level in levels), key=lambda level: level.started_unix_s)
    if request.before or request.after:
        named = _before_and_after(request, everything)
    elif len(request.probes) > 1:
        named = [(probe, [level for level in everything if level.probe == probe]) for probe in request.probes]
    elif len(sources) > 1:
        named = list(zip(_names(request.paths), sources, strict=True))
    else:
        raise ConfigError([f"one source gives only one side: {_how_to_choose(stored[0])}"])
    empty = [f"{name}: no measured level is selected" for name, levels in named if not levels]
    if empty:
        raise ConfigError([*empty, f"there are: {_inventory([level for levels in stored for level in levels])}"])
    return _as_sides(named)


def _is_wanted(level: StoredLevel, request: CompareOptions) -> bool:
    return (
        (not request.probes or level.probe in request.probes)
        and (not request.target or level.target == request.target)
        and (not request.levels or level.sample.label in request.levels)
    )


def _before_and_after(request: CompareOptions, levels: Sequence[StoredLevel]) -> list[tuple[str, list[StoredLevel]]]:
    if not request.before or not request.after:
        raise ConfigError(["--before and --after belong together"])
    parts = (("before", request.before), ("after", request.after))
    return [(name, [level for level in levels if _selector(name, text)(level)]) for name, text in parts]


def _selector(name: str, text: str) -> Select:
    if ".." not in text:
        return lambda level: level.model_config_hash.startswith(text) or level.probe_config_hash.startswith(text)
    begin_text, end_text = text.split("..", 1)
    try:
        begin = _moment(begin_text, ends=False) if begin_text else float("-inf")
        end = _moment(end_text, ends=True) if end_text else float("inf")
    except ValueError as error:
        raise ConfigError(
            [f"--{name} {text}: {error}; give FROM..TO, each as 2025-11-21 or 2025-11-21T14:30 (UTC), or a hash"]
        ) from error
    return lambda level: begin <= level.started_unix_s < end


def _moment(text: str, *, ends: bool) -> float:
    """Unix seconds; a day that ends a range belongs to it."""
    moment = datetime.fromisoformat(text)
    if ends and len(text) == len("2025-11-21"):
        moment += timedelta(days=1)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _as_sides(named: Iterable[tuple[str, Sequence[StoredLevel]]]) -> list[Side]:
    """What is measured is shown separately by target and probe only where a side has more than one of them."""
    named = list(named)

    def distinct(key: Callable[[StoredLevel], str]) -> bool:
        return any(len({key(level) for level in levels}) > 1 for _, levels in named)

    by_target, by_probe = distinct(lambda level: level.target), distinct(lambda level: level.probe)

    def sample(level: StoredLevel) -> LevelSample:
        parts = [level.target] * by_target + [level.probe] * by_probe
        return replace(level.sample, subject="/".join(parts))

    return [Side(name, tuple(sample(level) for level in levels)) for name, levels in named]


def _names(paths: Sequence[Path]) -> list[str]:
    """File names without their endings, or whole paths where these are not distinct."""
    short = [path.name.split(".")[0] or str(path) for path in paths]
    return short if len(set(short)) == len(short) else [str(path) for path in paths]


def _how_to_choose(levels: Sequence[StoredLevel]) -> str:
    return (
        "give a second one, two --probe, or --before and --after (time ranges FROM..TO, or configuration hashes); "
        f"it holds {_inventory(levels)}"
    )


def _inventory(levels: Sequence[StoredLevel]) -> str:
    """What could be selected, shortly."""
    if not levels:
        return "no measured levels"
    times = [level.started_unix_s for level in levels]
    parts = [
        f"{name} {', '.join(sorted(values))}"
        for name, values in (
            ("probes", {level.probe for level in levels}),
            ("model configurations", {level.model_config_hash or "unknown" for level in levels}),
            ("probe configurations", {level.probe_config_hash or "unknown" for level in levels}),
        )
    ]
    span = " to ".join(datetime.fromtimestamp(t, UTC).strftime("%Y-%m-%dT%H:%M") for t in (min(times), max(times)))
    return f"{'; '.join(parts)}; {span}"
