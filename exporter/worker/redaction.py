"""What a worker tells leaves it here: free text in it may be a server's, which may have said our own secrets back.

The worker has read them, and hides them. Must not touch figures.
"""

from __future__ import annotations

from dataclasses import replace

from exporter.core.redaction import redacted
from exporter.core.window import LevelEnd, Window
from exporter.worker.ipc import Failure


def without_secrets(what: object) -> object:
    """The answer, with no secret in its texts."""
    if isinstance(what, Failure):
        return replace(what, text=redacted(what.text), faults=tuple(map(redacted, what.faults)))
    if isinstance(what, LevelEnd):
        return replace(what, text=redacted(what.text))
    if isinstance(what, Window):
        checked = what.checked
        if checked is not None and checked.difference:
            checked = replace(checked, difference=redacted(checked.difference))
        return replace(what, error_text=redacted(what.error_text), checked=checked)
    return what
