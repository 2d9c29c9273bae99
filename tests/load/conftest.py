from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from exporter.load.worker_pool import WorkerPool


@pytest.fixture
async def pool() -> AsyncIterator[WorkerPool]:
    it = WorkerPool(1)
    yield it
    await it.close()
