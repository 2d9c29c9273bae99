"""The table of the service kinds, from which configuration, `analyze` and the services learn of them."""

from __future__ import annotations

import pytest

from exporter import services
from exporter.config.kind_checks import ASKED, MANAGEMENT_ASKED, TARGET_ASKED
from exporter.config.text import parse_endpoint
from exporter.core.errors import PreflightError
from exporter.core.kinds import IN_PROCESS, KINDS, refusal
from exporter.core.outcome import Reason
from exporter.core.probe import InputOptions
from exporter.core.units import NS
from exporter.services.base import Service
from tests.builders import make_probe, make_target


def test_each_kind_has_a_service_and_each_service_is_a_kind() -> None:
    assert list(services.SERVICES) == list(KINDS)
    for make in services.SERVICES.values():
        service: Service = make()
        assert callable(service.encode)


@pytest.mark.parametrize("name", KINDS)
def test_what_a_kind_lacks_can_be_asked_for(name: str) -> None:
    """A key that the checks do not know would be refused by no one."""
    kind = KINDS[name]
    keys = ASKED.keys() | TARGET_ASKED.keys() | MANAGEMENT_ASKED.keys()
    assert kind.lacks.keys() | kind.own | kind.requires.keys() <= keys
    assert not (kind.own | kind.requires.keys()) & kind.lacks.keys()
    for problem in kind.lacks.values():
        assert "{" not in problem.format(kind=name, given="1")


@pytest.mark.parametrize("name", ["oip", "tfserving", "torchserve", IN_PROCESS])
async def test_services_refuse_in_the_words_of_the_table(name: str) -> None:
    """Programs that do without a configuration are reported the same."""
    target = make_target(name="t", kind=name, scheme="http")
    service = services.SERVICES[name]()
    shared = make_probe(target=target, input=InputOptions(shared_memory="system"))
    with pytest.raises(PreflightError) as caught:
        await service.check_shared_memory(shared)
    assert str(caught.value) == f"target t: input.shared_memory: {refusal(name, 'input.shared_memory', 'system')}"
    with pytest.raises(PreflightError) as caught:
        await service.control(target, NS).set_trace("m", {})
    assert caught.value.reason is Reason.UNSUPPORTED
    assert str(caught.value) == f"target t: server_settings: {refusal(name, 'server_settings')}"


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_has_endpoints_where_a_url_can_lead_and_a_page_behind_them(name: str) -> None:
    kind = KINDS[name]
    assert [parse_endpoint(f"{scheme}://host").scheme for scheme in kind.ports] == list(kind.ports)
    assert (not kind.ports) == (name == IN_PROCESS)
    assert bool(kind.metrics_page) == bool(kind.ports)


def test_no_family_of_a_page_is_counted_for_two_kinds() -> None:
    names = [family for kind in KINDS.values() for family in kind.families]
    assert len(names) == len(set(names)) == 23
