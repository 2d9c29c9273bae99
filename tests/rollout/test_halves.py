"""Which load both sides get, and what may not be compared."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exporter.core.errors import ConfigError
from exporter.core.outcome import Outcome
from exporter.core.probe import InputOptions, LoadLevel, Mode, Search, SearchKind, Validation
from exporter.core.rollout import GateOptions, Margin
from exporter.rollout.halves import half_probe, read_half, same_load
from tests.builders import concurrency, make_probe, make_target
from tests.rollout.scripted import CANDIDATE, STABLE, result_of


def test_the_candidate_gets_the_load_of_the_stable_side() -> None:
    stable = replace(
        STABLE,
        levels=(concurrency(2), concurrency(8)),
        input=InputOptions(batch_size=4),
        search=Search(SearchKind.BINARY, Mode.CONCURRENCY, 1, 8, 1),
    )
    first, other = same_load(stable, replace(CANDIDATE, version="3"))
    assert (first.levels, other.levels) == ((concurrency(2),), (concurrency(2),))
    assert (other.model, other.version, other.target.port) == ("new", "3", 8001)
    assert (other.input.batch_size, other.search) == (4, None)
    assert same_load(stable, CANDIDATE, level="8")[1].levels == (concurrency(8),)


@pytest.mark.parametrize(
    ("stable", "candidate", "level", "problem"),
    [
        (STABLE, CANDIDATE, "9", "level: old has no level '9'; it has 1"),
        (STABLE, STABLE, "", "candidate: is the same model at the same server as stable: old"),
        (
            replace(STABLE, levels=(LoadLevel(Mode.SCHEDULE, 10, "file"),)),
            CANDIDATE,
            "",
            "load: old runs a schedule, which is not a steady load: use concurrency or request_rate",
        ),
    ],
)
def test_refused(stable: object, candidate: object, level: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        same_load(stable, candidate, level=level)  # type: ignore[arg-type]
    assert caught.value.problems == [problem]


def test_outputs_are_compared_where_one_server_has_both() -> None:
    beside = replace(CANDIDATE, target=STABLE.target)
    assert same_load(STABLE, beside)[1].validation == Validation("old", "")
    assert same_load(STABLE, beside, output_tolerance=0.1)[1].validation == Validation("old", "", 0.1, 0.1)
    two_versions = replace(STABLE, name="v2", version="2")
    assert same_load(replace(STABLE, version="1"), two_versions)[1].validation == Validation("old", "1")
    own = Validation("another", "", 0.5, 0.5)
    assert same_load(STABLE, replace(CANDIDATE, validation=own))[1].validation == own
    assert same_load(STABLE, CANDIDATE)[1].validation is None
    assert same_load(replace(STABLE, streaming=True), beside)[1].validation is None
    with pytest.raises(ConfigError, match="output_tolerance: compares outputs of two models"):
        same_load(STABLE, CANDIDATE, output_tolerance=0.1)


def test_a_load_of_less_than_one_request_per_worker_has_one_worker() -> None:
    half = half_probe(replace(STABLE, workers=2, levels=(concurrency(1),)), GateOptions(), 1)
    assert half.workers == 1


def test_figures_and_errors_of_a_half() -> None:
    options = GateOptions((Margin("p50", 0.1), Margin("throughput", 0.1), Margin("ttft", 0.1)))
    probe = half_probe(make_probe(target=make_target()), options, 1)
    half = read_half(result_of(probe, 20.0, outcomes={Outcome.OK: 90, Outcome.TIMEOUT: 10}), options)
    assert half.figures == {"p50": 0.02, "throughput": 50.0}
    assert half.few == {"ttft": "ttft needs a stream (streaming: true)"}
    assert (half.errors, half.requests) == (10, 100)
