"""The metrics page of servers that report their statistics on it alone, read at the windows' edges."""

from __future__ import annotations

import asyncio

from exporter.core.facts import ModelFacts, ServerSnapshot
from exporter.core.target import Target
from exporter.server.metrics import PageError, PageReader
from exporter.server.page_statistics import parse_statistics


class PageSnapshots:
    """The metrics page of a target, asked for a model's statistics at the windows' edges."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._page: PageReader | None = None

    @property
    def there(self) -> bool:
        """Whether the target names such a page. Its content is only known once the model was asked something."""
        return bool(self._target.metrics_url)

    async def snapshot(self, facts: ModelFacts) -> ServerSnapshot | None:
        """What the page reports now; None where it cannot be read, or there is none."""
        if not self.there:
            return None
        return await asyncio.to_thread(self._read, facts)

    def close(self) -> None:
        """Closes its connection."""
        if self._page is not None:
            self._page.stop()
            self._page.close()

    def _read(self, facts: ModelFacts) -> ServerSnapshot | None:
        if self._page is None:
            self._page = PageReader(self._target, facts.name, facts.asked_version)
        try:
            text, asked_ns, received_ns = self._page.fetch()
            models = parse_statistics(text, facts.name, facts.asked_version, self._page.stopped)
        except PageError:
            return None
        return ServerSnapshot(asked_ns, received_ns, models)
