"""Running a level in this process, without a worker's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from exporter.core.units import NS
from exporter.core.window import Window
from exporter.engine.abandoned import Abandoned
from exporter.engine.level import Level
from exporter.engine.plan import LevelPlan, MemberEvent
from exporter.services.base import Control, Service
from exporter.transport.call import EncodedRequest
from tests.waiting import PATIENCE_SECONDS

OnEvent = Callable[[Level, MemberEvent], Awaitable[None] | None]


async def events_of(
    plan: LevelPlan,
    service: Service,
    requests: Sequence[EncodedRequest],
    *,
    stop_at: int | None = None,
    on_event: OnEvent | None = None,
    on_level: Callable[[Level], None] = lambda _: None,
    control: Control | None = None,
    abandoned: Abandoned | None = None,
    **more: Any,
) -> list[MemberEvent]:
    """Runs the level until it ends, or is stopped once the window of the index `stop_at` has come: what it reported."""
    events: list[MemberEvent] = []

    async def publish(event: MemberEvent) -> None:
        events.append(event)
        if on_event is not None and (waiting := on_event(level, event)) is not None:
            await waiting
        if stop_at is not None and isinstance(event, Window) and event.index >= stop_at:
            level.stop()

    level = Level(
        plan,
        service=service,
        control=control or service.control(plan.probe.target, NS),
        by_place=[requests],
        abandoned=abandoned if abandoned is not None else Abandoned(),
        publish=publish,
        **more,
    )
    on_level(level)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await level.run()
    return events
