"""One level's load dealt out to the workers that share it, and their ends as one. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from exporter.core.outcome import Reason
from exporter.core.probe import Mode, SequenceOptions
from exporter.core.window import LevelEnd
from exporter.engine.guard import Stop
from exporter.engine.plan import LevelPlan

SPARE_WINDOWS = 2
"""Windows beyond those wanted that each of several workers may cut, so that all wanted ones can be merged."""


def share_plan(plan: LevelPlan, workers: int) -> list[LevelPlan]:
    """The parts of a level for up to so many workers; for fewer if there is less to share.

    Calls in flight, requests allowed and those to warm up are dealt out so that they add up to the whole. Of an open
    loop each takes its turn (pacing.every_nth), and so it is with streams. The error rules are the level's
    (`level_guard`).
    """
    stop, level = plan.probe.stop, plan.level
    if level.mode in (Mode.PERIODIC, Mode.SESSIONS):  # what is sent next depends on the responses to all before
        return [plan]
    members = min(workers, stop.max_in_flight, plan.max_requests)
    if level.mode.has_places or level.mode is Mode.SCHEDULE:
        members = min(members, int(level.value))
    if plan.probe.sequences is not None and not level.mode.has_places:
        members = min(members, plan.probe.sequences.count)
    if members <= 1:
        return [plan]
    parts = []
    for member in range(members):
        rules = replace(stop, max_in_flight=_share(stop.max_in_flight, member, members))
        warm_up = _share(plan.probe.measurement.warm_up_requests, member, members)
        measurement = replace(plan.probe.measurement, warm_up_requests=warm_up)
        calls = float(_share(int(level.value), member, members))
        parts.append(
            replace(
                plan,
                probe=replace(
                    plan.probe,
                    stop=rules,
                    measurement=measurement,
                    sequences=_share_sequences(plan.probe.sequences, member, members),
                ),
                level=replace(level, value=calls) if level.mode is Mode.CONCURRENCY else level,
                max_requests=_share(plan.max_requests, member, members),
                max_tokens=_share(plan.max_tokens, member, members),
                # Their windows end on one grid, and one that is late leaves an edge out.
                abandoned_until_ns=plan.abandoned_until_ns[member::members],
                max_windows=plan.max_windows + SPARE_WINDOWS if plan.max_windows else 0,
                member=member,
                members=members,
            )
        )
    return parts


def _share_sequences(whole: SequenceOptions | None, member: int, members: int) -> SequenceOptions | None:
    """A part of the sequences, with a part of the ids that is its own: what is left over of both goes to the same
    members, so that each has at least as many ids as sequences if the whole has."""
    if whole is None:
        return None
    ids_before = sum(_share(whole.id_range, other, members) for other in range(member))
    return replace(
        whole,
        count=_share(whole.count, member, members),
        start_id=whole.start_id + ids_before,
        id_range=_share(whole.id_range, member, members),
    )


def join_ends(ends: Sequence[LevelEnd], members: int, by_level: Stop | None = None) -> LevelEnd:
    """The ends of the members, in the order in which they came: the first that has a reason gives it, unless a rule of
    the level ended all."""
    why = next((end for end in ends if end.reason is not Reason.NONE), ends[0])
    reason, text = why.reason, f"one of {members} workers: {why.text}" if why.text else ""
    if by_level is not None:
        reason, text = by_level.reason, by_level.text
    until_ns = tuple(sorted(moment for end in ends for moment in end.abandoned_until_ns))
    return LevelEnd(
        reason,
        text,
        sum(end.sent for end in ends),
        sum(end.abandoned for end in ends),
        until_ns,
        max(end.spared_until_ns for end in ends),
    )


def _share(total: int, member: int, members: int) -> int:
    return total // members + (member < total % members)
