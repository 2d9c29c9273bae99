"""One result for all who ask at the same time: thirty readers of a page cost two renderings, not thirty.

It must not know what is made.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from functools import partial
from typing import Generic, TypeVar

_T = TypeVar("_T")
_K = TypeVar("_K", bound=Hashable)

_KEYS = 64


class Shared(Generic[_T]):
    """Calls `make` for who asks, once at a time. Who comes while it runs gets the next one, with all others who came
    meanwhile: no reader gets what was made from the state before the request. For one loop."""

    def __init__(self, make: Callable[[], Awaitable[_T]]) -> None:
        self._make = make
        self._running: asyncio.Task[_T] | None = None
        self._next: asyncio.Task[_T] | None = None

    async def get(self) -> _T:
        """The result. Raises what `make` raises."""
        loop = asyncio.get_running_loop()
        if self._next is not None:
            task = self._next
        elif self._running is None or self._running.done():
            task = self._running = loop.create_task(self._run())
        else:
            task = self._next = loop.create_task(self._run_after(self._running))
        return await asyncio.shield(task)

    async def _run(self) -> _T:
        return await self._make()

    async def _run_after(self, before: asyncio.Task[_T]) -> _T:
        await asyncio.wait({before})
        self._running, self._next = self._next, None
        return await self._make()


class SharedBy(Generic[_K, _T]):
    """The same for each of several questions: `make` is called with what is asked. Of 64 questions the ones not asked
    for longest are forgotten, which costs no more than that they are not shared."""

    def __init__(self, make: Callable[[_K], Awaitable[_T]]) -> None:
        self._make = make
        self._shared: OrderedDict[_K, Shared[_T]] = OrderedDict()

    async def get(self, key: _K) -> _T:
        """The result for this question. Raises what `make` raises."""
        shared = self._shared.get(key)
        if shared is None:
            shared = self._shared[key] = Shared(partial(self._make, key))
        self._shared.move_to_end(key)
        if len(self._shared) > _KEYS:
            self._shared.popitem(last=False)
        return await shared.get()
