"""The application over a board with something of everything."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from starlette.applications import Starlette

from exporter.metrics.page import MetricsPage
from exporter.web.app import WebSources, create_app
from exporter.web.http_server import WebServer
from tests.metrics.results import make_exporter_facts
from tests.metrics.scenario import make_scenario


class Signs:
    """What health and readiness state in a test."""

    healthy = True
    ready = True


@pytest.fixture
def signs() -> Signs:
    return Signs()


@pytest.fixture
def app(signs: Signs) -> Iterator[Starlette]:
    board, facts = make_scenario(), make_exporter_facts()
    page = MetricsPage(board, facts, max_series=100_000)
    yield create_app(
        WebSources(
            board=board,
            metrics=page,
            facts=facts,
            healthy=lambda: signs.healthy,
            ready=lambda: signs.ready,
            now=lambda: 1_700_000_100.0,
        )
    )
    page.close()


@pytest.fixture
async def address(app: Starlette) -> AsyncIterator[str]:
    """Where the application is served, as host:port."""
    server = WebServer(app, "127.0.0.1", 0)
    yield await server.start()
    await server.stop()
