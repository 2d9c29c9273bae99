"""`/api/v1`: figures, and that the OpenAPI document is one and describes the real responses."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import jsonschema
import pytest
from openapi_spec_validator import validate

from exporter.core.outcome import SweepStatus
from exporter.metrics.page import MetricsPage
from exporter.web.app import WebSources
from tests.builders import make_facts, make_probe
from tests.metrics.results import make_exporter_facts, make_result
from tests.metrics.scenario import make_scenario
from tests.web.fleet import NAMES, NOW, Fleet
from tests.web.test_pages import Reader, Site, site_of

GATE_PATHS = ("/api/v1/gates", "/api/v1/gates/{gate}")
"""Their responses are compared with the document in test_gate_routes.py."""
PATHS = {
    "/api/v1/probes": ["", "?q=asr&state=regressed&sort=p99", "?q=nothing"],
    "/api/v1/probes/{probe}": [""],
    "/api/v1/probes/{probe}/history": [""],
}


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    return Fleet(12)


@pytest.fixture(scope="module")
def site(fleet: Fleet) -> Site:
    return Site(fleet.sources())


def scenario() -> Site:
    """All that a level can have, and names that try to be more than one."""
    board, facts = make_scenario(), make_exporter_facts()
    page = MetricsPage(board, facts, max_series=100_000)
    return Site(WebSources(board, page, facts, healthy=lambda: True, ready=lambda: True, now=lambda: NOW))


async def body(site: Site, path: str) -> Any:
    response = await site.get(path)
    assert response.status_code == 200
    return response.json()


def strict(schema: Any) -> Any:
    """The schema, in which a key that it does not name is an error."""
    if isinstance(schema, dict):
        made = {key: strict(value) for key, value in schema.items()}
        return made | ({"additionalProperties": False} if "properties" in made else {})
    return [strict(each) for each in schema] if isinstance(schema, list) else schema


async def test_the_document_is_openapi_and_describes_every_response(site: Site) -> None:
    document = await body(site, "/api/v1/openapi.json")
    validate(document)
    assert set(document["paths"]) == set(PATHS) | set(GATE_PATHS)
    components = strict(document["components"])
    checked = 0
    for each in (site, scenario(), site_of()):
        names = [probe["name"] for probe in (await body(each, "/api/v1/probes"))["probes"]]
        names = [name for name in names if name.isprintable()]  # no configuration has others
        for path, queries in PATHS.items():
            (code, reported), *_ = document["paths"][path]["get"]["responses"].items()
            assert code == "200"
            schema = {**reported["content"]["application/json"]["schema"], "components": components}
            validator = jsonschema.Draft202012Validator(schema)
            for name in names if "{probe}" in path else [""]:
                for query in queries:
                    url = path.replace("{probe}", quote(name, safe="")) + query
                    validator.validate(await body(each, url))
                    checked += 1
    assert checked > 30


async def test_every_key_is_described_by_its_type(site: Site) -> None:
    schemas = (await body(site, "/api/v1/openapi.json"))["components"]["schemas"]
    assert [name for name, schema in schemas.items() if not schema.get("description")] == []


async def test_the_overview_has_the_figures_of_the_page(site: Site) -> None:
    reported = await body(site, "/api/v1/probes?q=asr-streaming&sort=name")
    assert reported["counts"]["regressed"] >= 1
    assert sum(reported["counts"][state] for state in ("failing", "regressed", "objective_missed", "unstable")) < 12
    probe = next(probe for probe in reported["probes"] if probe["name"] == "asr-streaming")
    assert (probe["state"], probe["main_level"], len(probe["levels"])) == ("regressed", "concurrency 1", 3)
    p50 = next(verdict for verdict in probe["levels"][0]["verdicts"] if verdict["signal"] == "latency_p50")
    assert p50["baseline"] == pytest.approx(0.004)
    assert p50["ratio"] == pytest.approx(probe["levels"][0]["percentiles"]["50"] / p50["baseline"])
    assert p50["tiers"]["page"] == {"holds": True, "limit_ratio": 1.25, "bad": 16, "of": 18, "needed": 14}
    assert probe["links"]["page"] == "probes/asr-streaming"
    ranker = next(probe for probe in (await body(site, "/api/v1/probes"))["probes"] if probe["name"] == "ranker")
    assert ranker["slo"]["met"] is False
    assert ranker["slo"]["burn_rate_1h"] == pytest.approx(90 / 4000 / 0.01)
    assert ranker["slo"]["burn_rate_24h"] < ranker["slo"]["burn_rate_1h"]


async def test_the_order_is_that_of_the_page(site: Site) -> None:
    for query in ("", "?sort=p99", "?sort=change&state=ok", "?q=b"):
        html = (await site.get(f"/{query}")).text
        names = re.findall(r'<th scope="row"><a href="[^"]*">([^<]*)</a>', html)
        assert names == [probe["name"] for probe in (await body(site, f"/api/v1/probes{query}"))["probes"]]
        assert names


async def test_a_day_of_a_probe(site: Site) -> None:
    reported = await body(site, "/api/v1/probes/bert-qa/history")
    assert set(reported["levels"]) == {"concurrency 1", "concurrency 4", "concurrency 16"}
    lengths = {len(values) for level in reported["levels"].values() for values in level.values()}
    assert lengths == {len(reported["started_unix_s"])} == {len(reported["state"])} == {288}
    (aborted,) = [at for at, state in enumerate(reported["state"]) if state == "aborted"]
    assert reported["levels"]["concurrency 4"]["p99"][aborted] is None
    assert reported["started_unix_s"] == sorted(reported["started_unix_s"])


async def test_a_probe_with_its_sweeps_and_configuration(site: Site) -> None:
    reported = await body(site, "/api/v1/probes/tts-german")
    assert reported["recent_sweeps"][0]["reason"] == "unreachable"
    assert len(reported["recent_sweeps"]) == 20
    assert reported["configuration"]["schedule"] == {"interval": "5m", "timezone": "UTC", "jitter": "0s"}
    assert reported["configuration"]["levels"] == ["concurrency 1", "concurrency 4", "concurrency 16"]
    assert reported["probe"]["reason_text"].startswith("http://triton-c")


@pytest.mark.parametrize("path", ["/api/v1/probes/nothing", "/api/v1/probes/nothing/history"])
async def test_an_unknown_probe(path: str, site: Site) -> None:
    response = await site.get(path)
    assert (response.status_code, response.json()) == (404, {"error": "there is no such probe"})


@pytest.mark.parametrize(
    ("query", "error"),
    [
        (
            "state=nosuch",
            "state: found 'nosuch': must be one of "
            "failing, regressed, objective_missed, unstable, no_result, ok, running, paused",
        ),
        ("state=ok&sort=p42", "sort: found 'p42': must be one of severity, name, p99, change, errors, last_run"),
        ("state=OK%20", "state: found 'OK ': must be one of "),
    ],
)
async def test_an_unknown_state_or_order_is_refused_and_the_page_leaves_it_out(
    query: str, error: str, site: Site
) -> None:
    response = await site.get(f"/api/v1/probes?{query}")
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/json"
    assert list(response.json()) == ["error"]
    assert response.json()["error"].startswith(error)
    described = (await body(site, "/api/v1/openapi.json"))["paths"]["/api/v1/probes"]["get"]["responses"]["400"]
    assert described["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/ErrorReport"}
    assert (await site.get(f"/?{query}")).status_code == 200


async def test_an_empty_state_and_order_select_all(site: Site) -> None:
    assert len((await body(site, "/api/v1/probes?state=&sort="))["probes"]) == 12


async def test_a_text_that_is_no_unicode_costs_a_character() -> None:
    probe = make_probe()
    result = make_result(probe, SweepStatus.FAILED, facts=make_facts(version="\ud800"))
    for path in ("/api/v1/probes", "/api/v1/probes/addsub"):
        assert (await site_of((probe, result)).get(path)).status_code == 200
    assert Reader((await site_of((probe, result)).get("/probes/addsub")).text)


async def test_all_probes_are_there(site: Site) -> None:
    names = [probe["name"] for probe in (await body(site, "/api/v1/probes"))["probes"]]
    assert len(names) == len(set(names)) == 12
    assert set(NAMES) <= set(names)


@pytest.mark.parametrize("path", ["/api/v1/probes", "/api/v1/probes/asr-streaming/history"])
async def test_bodies_are_packed_for_who_takes_it(path: str, site: Site) -> None:
    plain, packed = await site.get(path), await site.get(path, **{"Accept-Encoding": "gzip"})
    assert (packed.headers["content-encoding"], packed.headers["vary"]) == ("gzip", "Accept-Encoding")
    assert "content-encoding" not in plain.headers
    assert packed.json() == plain.json()
    assert int(packed.headers["content-length"]) < len(plain.content) / 2
