"""No text leaves a worker with a secret in it, and no figure is changed."""

from __future__ import annotations

from dataclasses import replace

from exporter.core.outcome import Reason
from exporter.core.redaction import remember_secret
from exporter.core.window import Checked, LevelEnd
from exporter.engine.plan import LevelTally, LevelWaiting
from exporter.engine.tally import Tally
from exporter.worker.ipc import Failure, without_secrets
from tests.builders import make_facts, make_window

SECRET = "border-0123456789"


def test_texts_and_nothing_else() -> None:
    remember_secret(SECRET)
    reported, shown = f"HTTP 500: {SECRET}", "HTTP 500: <secret>"
    failure = Failure(True, Reason.AUTH, reported)
    end = LevelEnd(Reason.ERROR_RATIO, reported, 7, 1)
    window = make_window(latencies_ms=(1.0, 2.0), error_text=reported, checked=Checked(3, 1, difference=reported))
    assert without_secrets(failure) == replace(failure, text=shown)
    faulty = replace(failure, problems=("one", reported))
    assert without_secrets(faulty) == replace(failure, text=shown, problems=("one", shown))
    assert without_secrets(end) == replace(end, text=shown)
    cleaned = without_secrets(window)
    assert cleaned == replace(window, error_text=shown, checked=Checked(3, 1, difference=shown))
    tally = LevelTally(Tally(3, last=reported), alarm=True)
    assert without_secrets(tally) == replace(tally, tally=Tally(3, last=shown))
    for same in (make_facts(), LevelWaiting(), None):
        assert without_secrets(same) is same
