"""When a gate ends, and as what, by a script of what both sides show."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from exporter.core.outcome import Outcome, Reason
from exporter.core.probe import Distribution, LoadLevel, Mode, Probe, Validation
from exporter.core.result import SweepResult
from exporter.core.rollout import GateOptions, GateResult, GateVerdict, Margin
from exporter.core.units import NS
from exporter.core.window import ClientHealth, OutputError
from exporter.rollout.gate import MOST_FAILURES, RolloutGate
from exporter.rollout.halves import same_load
from tests.rollout.scripted import CANDIDATE, STABLE, Script, coins, result_of, times

BETTER, EQUIVALENT, WORSE, UNDECIDED = GateVerdict
MARGINS = (Margin("p99", 0.1), Margin("throughput", 0.05))


async def gate(script: Script, sides: tuple[Probe, Probe] = (STABLE, CANDIDATE), **options: Any) -> GateResult:
    coin = coins(options.pop("falls", (0, 1, 1, 0)))
    looked: list[GateResult] = []
    found = await RolloutGate(
        "g", sides, GateOptions(**options), script, on_look=looked.append, coin=coin, failure_pause_s=0.0
    ).run()
    assert all(result.verdict is UNDECIDED for result in looked[:-1])
    return found


@pytest.mark.parametrize(
    ("factor", "verdict", "p99", "throughput"),
    [
        (1.0, EQUIVALENT, EQUIVALENT, EQUIVALENT),
        (1.3, WORSE, WORSE, WORSE),
        (0.7, BETTER, BETTER, BETTER),
        (1.07, WORSE, EQUIVALENT, WORSE),
    ],
)
async def test_what_is_plain_is_decided_at_the_first_look(
    factor: float, verdict: GateVerdict, p99: GateVerdict, throughput: GateVerdict
) -> None:
    script = Script(times(factor, 0.003))
    found = await gate(script, margins=MARGINS)
    assert (found.verdict, found.passed) == (verdict, verdict in (BETTER, EQUIVALENT))
    assert [figure.verdict for figure in found.figures] == [p99, throughput]
    assert (found.pairs, len(script.asked)) == (10, 20)
    assert found.text == ""
    ratio = found.figures[0]
    assert ratio.ratio == pytest.approx(factor, rel=0.02)
    assert ratio.low is not None
    assert ratio.high is not None
    assert ratio.low < factor < ratio.high
    assert ratio.stable == pytest.approx(0.010, rel=0.02)
    assert ratio.candidate == pytest.approx(0.010 * factor, rel=0.02)


async def test_the_coin_decides_the_order_and_both_halves_get_one_seed_and_the_stable_load() -> None:
    level = LoadLevel(Mode.REQUEST_RATE, 50.0, "50", Distribution.POISSON)
    script = Script(times(1.0))
    sides = same_load(replace(STABLE, levels=(level,)), replace(CANDIDATE, levels=(replace(level, value=7.0),)))
    await gate(script, sides, falls=(0, 1, 1))
    assert [probe.name for probe in script.asked[:8]] == ["old", "new", "new", "old", "new", "old", "old", "new"]
    seeds = [probe.levels[0].seed for probe in script.asked]
    assert seeds[::2] == seeds[1::2] == list(range(1, 11))
    assert {probe.levels[0].value for probe in script.asked} == {50.0}
    assert {(probe.name, probe.target.name, probe.model) for probe in script.asked} == {
        ("old", "server", "old"),
        ("new", "other", "new"),
    }
    for probe in script.asked:
        options = probe.measurement
        assert (options.window_ns, options.max_windows, options.stability_windows) == (2 * NS, 1, 1)
        assert options.percentiles == (50.0, 99.0)


async def test_it_continues_until_the_most_pairs_and_what_is_not_worse_passes() -> None:
    """Sixty pairs at exactly 10 % less, with noise: better by more than a tenth, or not, is never known."""
    script = Script(times(1 / 1.1, 0.03))
    found = await gate(script, margins=(Margin("p99", 0.1),), max_pairs=25)
    assert (found.verdict, found.pairs) == (EQUIVALENT, 25)
    assert found.figures[0].text == "not worse by more than 10 %; whether it is better is not known"
    assert found.text == "ended after 25 pairs"


async def test_at_the_margin_it_stays_undecided() -> None:
    found = await gate(Script(times(1.1, 0.03)), margins=(Margin("p99", 0.1),), max_pairs=25)
    assert (found.verdict, found.passed, found.pairs) == (UNDECIDED, False, 25)
    assert found.figures[0].text == "after 25 pairs both more and less than 10 % are possible"


async def test_too_few_pairs_for_an_interval_are_reported_as_such() -> None:
    """Each second window has enough requests for p99: four of nine pairs have it, and all have the median."""

    def shows(probe: Probe, before: int) -> SweepResult:
        factor = 10.0 if probe.name == "new" else 1.0
        return result_of(probe, 10.0 * factor, count=400 if before % 2 else 40)

    margins = (Margin("p50", 0.1), Margin("p99", 0.1))
    found = await gate(Script(shows), margins=margins, min_pairs=5, max_pairs=9)
    assert [figure.verdict for figure in found.figures] == [WORSE, UNDECIDED]
    assert found.figures[1].text == "4 pairs are too few for an interval; it takes 9"


async def test_ten_times_slower_is_worse_after_the_fewest_pairs_that_are_accepted() -> None:
    options = GateOptions((Margin("p50", 0.1),), min_pairs=5, max_pairs=8)
    assert options.problems() == []
    found = await gate(Script(times(10.0)), margins=options.margins, min_pairs=5, max_pairs=8)
    assert (found.verdict, found.pairs) == (WORSE, 8)


async def test_the_time_is_up() -> None:
    async def slow(probe: Probe) -> SweepResult:
        await asyncio.sleep(0.3)
        return result_of(probe)

    found = await RolloutGate("g", (STABLE, CANDIDATE), GateOptions(max_duration_ns=NS), slow).run()
    assert (found.verdict, found.text) == (UNDECIDED, "ended after 1 s")
    assert 0 < found.pairs < 10


async def test_the_part_of_the_latency_that_grew_most_is_named() -> None:
    found = await gate(Script(times(1.5)))
    assert found.component == "compute_infer"
    assert found.components_ns["compute_infer"] == pytest.approx(5e6, rel=0.01)
    assert found.components_ns["queue"] == 0.0
    assert (await gate(Script(times(0.6)))).component == ""


# --- errors ---------------------------------------------------------------------------------------------------------


def failing(errors: int, *, on: str = "new") -> Script:
    def shows(probe: Probe, _: int) -> SweepResult:
        bad = errors if probe.name == on else 0
        return result_of(probe, outcomes={Outcome.OK: 400 - bad, Outcome.SERVER_ERROR: bad, Outcome.CANCELLED: 9})

    return Script(shows)


async def test_more_errors_than_chance_allows_are_worse() -> None:
    found = await gate(failing(4))
    assert (found.verdict, found.errors.verdict) == (WORSE, WORSE)
    assert found.errors.text == "40 of 4000 requests failed: above 0.1 % beyond chance"
    assert (found.errors.candidate_ratio, found.errors.stable_ratio) == (0.01, 0.0)
    assert 0.001 < found.errors.low < 0.01


async def test_errors_of_the_stable_side_are_shown_and_not_the_candidates() -> None:
    found = await gate(failing(4, on="old"))
    assert (found.verdict, found.errors.stable_errors, found.errors.candidate_errors) == (EQUIVALENT, 40, 0)


async def test_a_few_errors_too_many_are_no_pass_and_no_proof() -> None:
    def shows(probe: Probe, before: int) -> SweepResult:
        bad = int(probe.name == "new" and before % 4 == 0)  # 1 in 1600
        return result_of(probe, outcomes={Outcome.OK: 400 - bad, Outcome.SERVER_ERROR: bad})

    found = await gate(Script(shows), max_error_ratio=0.0005, max_pairs=20)
    assert (found.verdict, found.pairs, found.text) == (UNDECIDED, 20, "ended after 20 pairs")
    assert found.errors.text == "5 of 8000 requests failed: above 0.05 %, which may be chance"


async def test_an_aborted_half_counts_its_errors() -> None:
    def shows(probe: Probe, _: int) -> SweepResult:
        if probe.name == "old":
            return result_of(probe)
        return result_of(probe, outcomes={Outcome.SERVER_ERROR: 20}, reason=Reason.ERROR_RATIO)

    found = await gate(Script(shows))
    assert (found.verdict, found.pairs) == (WORSE, 0)
    assert found.errors.candidate_errors == 20 * MOST_FAILURES


# --- no result is never a pass --------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["old", "new"])
@pytest.mark.parametrize("reason", [Reason.UNREACHABLE, Reason.MODEL_UNKNOWN, Reason.MODEL_NOT_READY, Reason.LATENCY])
async def test_a_side_that_cannot_be_measured_is_left_alone(side: str, reason: Reason) -> None:
    script = Script(lambda probe, _: result_of(probe, reason=reason if probe.name == side else Reason.NONE))
    found = await gate(script)
    assert (found.verdict, found.passed, found.pairs) == (UNDECIDED, False, 0)
    name = "stable" if side == "old" else "candidate"
    assert found.text == f"ended early: the {name} side cannot be measured: {reason}: as the script states"
    assert sum(probe.name == side for probe in script.asked) == MOST_FAILURES


async def test_a_failure_now_and_then_costs_its_pair() -> None:
    def shows(probe: Probe, before: int) -> SweepResult:
        return result_of(probe, reason=Reason.UNREACHABLE if before % 5 == 3 else Reason.NONE)

    script = Script(shows)
    found = await gate(script)
    assert (found.verdict, found.pairs) == (EQUIVALENT, 10)
    assert len(script.asked) > 20


async def test_too_few_requests_end_it_early_with_what_helps() -> None:
    script = Script(lambda probe, _: result_of(probe, count=40))
    found = await gate(script)
    assert (found.verdict, found.pairs) == (UNDECIDED, 3)
    text = "too few requests: p99 needs 100 per window, and one had 40: use a window of 8s or more load"
    assert found.text == f"ended early: {text}"
    assert found.figures[0].text == text
    assert (await gate(Script(lambda probe, _: result_of(probe, count=100)))).verdict is EQUIVALENT


async def test_a_client_without_time_left_measures_nothing() -> None:
    busy = ClientHealth(cpu_ratio=0.99)
    found = await gate(Script(lambda probe, _: result_of(probe, health=busy)))
    assert (found.verdict, found.pairs) == (UNDECIDED, 0)
    assert "client_limited" in found.text


async def test_a_late_wake_up_is_noise() -> None:
    late = ClientHealth(loop_lag_ns=80_000_000)
    assert (await gate(Script(lambda probe, _: result_of(probe, health=late)))).verdict is EQUIVALENT


async def test_what_may_not_be_measured_ends_it() -> None:
    found = await gate(Script(lambda probe, before: result_of(probe) if before < 4 else "the group's budget is used"))
    assert found.verdict is UNDECIDED
    assert "may not be measured: the group's budget is used" in found.text
    assert found.pairs == 4


async def test_a_version_that_changes_ends_it() -> None:
    def shows(probe: Probe, before: int) -> SweepResult:
        return result_of(probe, version="2" if probe.name == "new" and before == 5 else "1")

    found = await gate(Script(shows))
    assert (found.verdict, found.pairs) == (UNDECIDED, 5)
    assert found.text == "ended early: the candidate side changed from version 1 to 2"


async def test_it_can_be_stopped_between_halves() -> None:
    def shows(probe: Probe, before: int) -> SweepResult:
        if before == 6:
            running.stop("by hand")
        return result_of(probe)

    script = Script(shows)
    running = RolloutGate("g", (STABLE, CANDIDATE), GateOptions(), script)
    found = await running.run()
    assert (found.verdict, found.text) == (UNDECIDED, "ended by hand")
    assert len(script.asked) == 13


# --- outputs --------------------------------------------------------------------------------------------------------


def checked(script_outcomes: dict[Outcome, int], **changes: Any) -> Script:
    def shows(probe: Probe, _: int) -> SweepResult:
        if probe.validation is None:
            return result_of(probe)
        return result_of(probe, outcomes=script_outcomes, validated=20, **changes)

    return Script(shows)


SIDES = (STABLE, replace(CANDIDATE, validation=Validation("old", "", 0.1, 0.1)))


async def test_equal_outputs_are_compared_once_before_the_pairs() -> None:
    script = checked({Outcome.OK: 20}, output_error=OutputError())
    found = await gate(script, SIDES)
    assert (found.verdict, found.outputs) == (EQUIVALENT, "equal in 20 requests")
    first, *halves = script.asked
    assert (first.name, first.measurement.request_count) == ("new", 20)
    assert len(halves) == 20
    assert not any(half.validation for half in halves)


async def test_outputs_that_differ_within_what_is_allowed_are_reported() -> None:
    found = await gate(checked({Outcome.OK: 20}, output_error=OutputError(0.05, 0.002)), SIDES)
    assert (found.verdict, found.outputs) == (EQUIVALENT, "differ by at most 0.05 (relative 0.002)")


async def test_wrong_outputs_end_it_as_worse() -> None:
    script = checked({Outcome.OK: 0, Outcome.WRONG_OUTPUT: 20}, output_difference="OUTPUT0[3]: 4, not 5")
    found = await gate(script, SIDES)
    assert (found.verdict, found.pairs, len(script.asked)) == (WORSE, 0, 1)
    assert found.outputs == "20 of 20 outputs are wrong: OUTPUT0[3]: 4, not 5"
