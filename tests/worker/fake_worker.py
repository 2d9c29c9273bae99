"""A worker process whose service kinds are fakes; each kind is one way in which a sweep can go."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from exporter.core.errors import InputError, PreflightError
from exporter.core.facts import ModelFacts
from exporter.core.outcome import Outcome, Reason
from exporter.core.probe import Probe
from exporter.services.base import Tensors
from exporter.transport.call import EncodedRequest
from exporter.worker.main import main
from tests.engine.fakes import FakeService, Reply, always


class NoFit(FakeService):
    def encode(self, probe: Probe, facts: ModelFacts, steps: Sequence[Tensors], sweep_id: str) -> list[EncodedRequest]:
        raise InputError("INPUT0: expected 16 elements, found 4")


class Broken(FakeService):
    def encode(self, probe: Probe, facts: ModelFacts, steps: Sequence[Tensors], sweep_id: str) -> list[EncodedRequest]:
        raise KeyError("boom")


def exit_at_ten(number: int) -> Reply:
    if number == 10:
        os._exit(7)
    return Reply()


def fail_at_ten(number: int) -> Reply:
    if number == 10:
        raise ZeroDivisionError("in a callback")
    return Reply()


def hang_at_ten(number: int) -> Reply:
    while number == 10:
        pass
    return Reply()


def breaks(then: Reply) -> FakeService:
    """All is well until there is the file that TRITON_FAKE_BREAKS names: one moment for all workers."""
    broken = Path(os.environ.get("TRITON_FAKE_BREAKS", "/nowhere"))
    return FakeService(lambda _: then if broken.exists() else Reply(delay_ms=0.2))


def fail_each_fifth(number: int) -> Reply:
    fails = number % 5 == 4 and "TRITON_FAKE_FIFTH" in os.environ
    return Reply(Outcome.SERVER_ERROR, 1, "500 boom") if fails else Reply(delay_ms=1)


KINDS = {
    "fifth": FakeService(fail_each_fifth),
    "fake": FakeService(always(delay_ms=1)),
    "fast": FakeService(),
    "error": FakeService(always(Outcome.SERVER_ERROR, text="500 boom")),
    "not_ready": FakeService(preflight_error=PreflightError(Reason.MODEL_NOT_READY, "model addsub is not ready")),
    "no_fit": NoFit(),
    "broken": Broken(),
    "exits": FakeService(exit_at_ten),
    "fails": FakeService(fail_at_ten),
    "hangs": FakeService(hang_at_ten),
    "begins_to_fail": breaks(Reply(Outcome.SERVER_ERROR, 0.2, "500 boom")),
    "gets_slow": breaks(Reply(delay_ms=60)),
}

if __name__ == "__main__":
    main(KINDS)
