"""Gathers what is wrong in data, so that a user sees all of it at once; of a file that is wrong throughout, a part."""

from __future__ import annotations

from exporter.core.errors import InputError

NOT_SEEN = "has expected responses, which input.shared_memory keeps from being seen"

SHOWN_ERRORS = 20
"""Errors that are shown; the others are counted."""


class InputErrors:
    """A list of errors that does not grow without end."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, text: str) -> None:
        """One more."""
        self._count += 1
        if len(self._texts) < SHOWN_ERRORS:
            self._texts.append(text)

    def raise_if_any(self) -> None:
        """Raises InputError if there is an error."""
        if self._texts:
            raise InputError(*self._texts, more=self._count - len(self._texts))
