"""From a plan to its requests, their order, and their sender: everything built before a level begins."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from exporter.core.limits import TOKEN_LIMITS
from exporter.core.outcome import Reason
from exporter.core.probe import Mode, OverloadPolicy, Validation
from exporter.core.units import MS
from exporter.engine.abandoned import Abandoned
from exporter.engine.checker import Checker
from exporter.engine.guard import Guard, MemberGuard, Stop
from exporter.engine.in_flight import InFlight
from exporter.engine.level_pacing import has_pacer, make_pacer
from exporter.engine.paced_streams import PacedStreams
from exporter.engine.pacing import level_seed
from exporter.engine.plan import LevelPlan
from exporter.engine.recorder import DetailRecorder, TokenRecorder
from exporter.engine.senders import ClosedLoop, CountedLoop, OpenLoop, Periodic, Sender
from exporter.engine.sequence_in_flight import SequenceInFlight
from exporter.engine.sequences import Sequences
from exporter.engine.session_in_flight import SessionInFlight
from exporter.engine.session_sender import SessionLoop
from exporter.engine.sessions import Sessions
from exporter.engine.streams import starts_ns
from exporter.payload import Step
from exporter.payload.prompts import DELAY
from exporter.services.base import Service
from exporter.storage.account import Account
from exporter.transport.call import EncodedRequest


def places_in_flight(plan: LevelPlan) -> int:
    """How many calls the level has."""
    most = plan.probe.stop.max_in_flight
    if plan.level.mode is Mode.STREAMS:
        return len(range(plan.member, int(plan.level.value), plan.members))
    return most if has_pacer(plan.level) else min(max(int(plan.level.value), 1), most)


def make_in_flight(
    plan: LevelPlan,
    *,
    service: Service,
    by_place: Sequence[Sequence[EncodedRequest]],
    steps: Sequence[Step],
    streams: Sequence[Sequence[int]],
    abandoned: Abandoned,
    account: Account | None = None,
    on_alarm: Callable[[], None] = lambda: None,
) -> tuple[InFlight, Guard]:
    """The level's requests and the guard of its budgets; `on_alarm` is as in `MemberGuard`. Raises InputError if the
    requests cannot be sent."""
    probe = plan.probe
    sequences = _make_sequences(plan, streams)
    kept_back = sequences.closing_requests(plan.max_requests) if sequences else 0
    account = account or Account()
    make_guard = partial(MemberGuard, members=plan.members, on_alarm=on_alarm) if plan.members > 1 else Guard
    guard = make_guard(
        probe.stop, plan.max_requests - kept_back, plan.max_duration_ns, account=account, closing_requests=kept_back
    )
    arguments = abandoned, probe.stop.max_in_flight, probe.measurement.request_timeout_ns
    if sequences is not None:
        placers = [service.placer(probe.target, requests) for requests in by_place]
        in_flight: InFlight = SequenceInFlight(
            guard, *arguments, sequences=sequences, placers=placers, by_call=not has_pacer(plan.level)
        )
    elif plan.level.mode is Mode.SESSIONS:
        sessions = Sessions(streams, _delays_ns(steps), places_in_flight(plan))
        begin = service.dialogues(probe, [step.inputs for step in steps], plan.sweep_id)
        in_flight = SessionInFlight(guard, *arguments, sessions=sessions, begin=begin)
    else:
        in_flight = InFlight(guard, by_place, *arguments)
    in_flight.heeds_retry_after = probe.stop.on_overload is OverloadPolicy.BACK_OFF
    in_flight.spare_until(plan.spared_until_ns)
    if probe.target.takes_prompts:
        in_flight.recorder = TokenRecorder(
            in_flight.rows_full, plan.max_tokens, lambda: in_flight.stop(_out_of_tokens(plan)), account.tokens_cell
        )
    elif probe.streaming and sequences is None:
        in_flight.recorder = DetailRecorder(in_flight.rows_full)
    if any(step.expected for step in steps):
        in_flight.checker = Checker(
            steps,
            service=service,
            facts=plan.facts,
            rules=probe.validation or Validation(),
            on_checked=in_flight.checked,
        )
    return in_flight, guard


def _make_sequences(plan: LevelPlan, streams: Sequence[Sequence[int]]) -> Sequences | None:
    options = plan.probe.sequences
    if options is None:
        return None
    slots = options.count if has_pacer(plan.level) else places_in_flight(plan)
    return Sequences(options, streams, slots, level_seed(plan.probe.input.seed, f"{plan.level.label}:{plan.member}"))


def _out_of_tokens(plan: LevelPlan) -> Stop:
    return Stop(Reason.TOKEN_BUDGET, f"all {plan.max_tokens} tokens left to it are spent ({TOKEN_LIMITS})")


def _delays_ns(steps: Sequence[Step]) -> list[int]:
    """The pause after each step's request; 0 unless the data sets one."""
    return [int(step.inputs[DELAY].item()) * MS if DELAY in step.inputs else 0 for step in steps]


def make_sender(plan: LevelPlan, in_flight: InFlight, offsets_ns: Iterator[int]) -> Sender:
    """The sender of the level's load, warm-up included."""
    on_overload, level = plan.probe.stop.on_overload, plan.level
    if level.mode is Mode.PERIODIC:
        return Periodic(
            in_flight.calls,
            in_flight.offer,
            first=level.start,
            step=level.step,
            period=level.request_period,
            on_finished=finish(in_flight),
        )
    if level.mode is Mode.STREAMS:
        return _make_streams(plan, in_flight)
    if isinstance(in_flight, SessionInFlight):
        return SessionLoop(in_flight.calls, in_flight.offer, in_flight.sessions, finish(in_flight), on_overload)
    if not has_pacer(level):
        return ClosedLoop(in_flight.calls, in_flight.offer, in_flight.wake.set, on_overload, think_ns=level.think_ns)
    return OpenLoop(
        in_flight.calls,
        in_flight.offer,
        in_flight.wake.set,
        offsets_ns,
        on_finished=finish(in_flight),
        on_overload=on_overload,
        patience_ns=plan.probe.measurement.request_timeout_ns,
        is_spared=lambda: in_flight.is_paused,
    )


def _make_streams(plan: LevelPlan, in_flight: InFlight) -> Sender:
    """This worker has every `members`-th stream."""
    assert isinstance(in_flight, SequenceInFlight)
    level, seed = plan.level, level_seed(plan.seed, plan.level.label)
    starts = starts_ns(int(level.value), level.step_interval_ns, level.ramp_ns, seed)
    return PacedStreams(
        in_flight.calls,
        in_flight.offer,
        in_flight.wake.set,
        starts[plan.member :: plan.members],
        level.step_interval_ns,
        steps_left=in_flight.steps_left,
        on_overload=plan.probe.stop.on_overload,
    )


def make_counted(plan: LevelPlan, in_flight: InFlight, count: int, on_finished: Callable[[], None]) -> Sender:
    """A sender of `count` requests."""
    on_overload = plan.probe.stop.on_overload
    if not has_pacer(plan.level):
        think_ns = plan.level.think_ns
        return CountedLoop(in_flight.calls, in_flight.offer, count, on_finished, on_overload, think_ns=think_ns)
    offsets_ns = itertools.islice(make_pacer(plan), count)
    return OpenLoop(
        in_flight.calls,
        in_flight.offer,
        lambda: None,
        offsets_ns,
        on_finished=on_finished,
        on_overload=on_overload,
        patience_ns=plan.probe.measurement.request_timeout_ns,
        is_spared=lambda: in_flight.is_paused,
    )


def finish(in_flight: InFlight) -> Callable[[], None]:
    """A callback for when all requests were sent and have ended."""
    return lambda: in_flight.stop(Stop(finished=True))
