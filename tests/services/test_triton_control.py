"""Preflight against servers that are not fit to be measured: each states why, and none makes it hang."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from asyncio import StreamReader as Reader
from asyncio import StreamWriter as Writer
from typing import Any

import pytest

from exporter.core.errors import PreflightError
from exporter.core.outcome import Reason
from exporter.core.probe import InputOptions
from exporter.core.target import Header, TlsOptions
from exporter.core.units import NS
from exporter.services.triton.control import TritonControl
from exporter.services.triton.shared_memory import check as check_shared_memory
from tests.builders import make_facts, make_probe, make_target
from tests.transport.certificates import Certificates, make_certificates
from tests.transport.scripted import Script, serving
from tests.waiting import patient

TIMEOUT_NS = NS // 2


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def pages(responses: dict[str, tuple[int, str]], seen: list[bytes] | None = None) -> Script:
    """An HTTP server with these pages; all others are 404."""

    async def script(reader: Reader, writer: Writer) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if seen is not None:
                seen.append(head)
            status, body = responses.get(head.decode("latin-1").partition(" ")[2].partition(" ")[0], (404, ""))
            writer.write(f"HTTP/1.1 {status} x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())

    return script


async def garbage(reader: Reader, writer: Writer) -> None:
    writer.write(b"220 mail.test ESMTP\r\n")
    await reader.read()


async def silence(reader: Reader, writer: Writer) -> None:
    await reader.read()


async def close_at_once(reader: Reader, writer: Writer) -> None:
    await reader.read(1)


async def refused(target: Any) -> tuple[Reason, str]:
    control = TritonControl(target, TIMEOUT_NS)
    with pytest.raises(PreflightError) as caught:
        await control.preflight("m", "")
    await control.close()
    return caught.value.reason, str(caught.value)


LIVE = {"/v2/health/live": (200, ""), "/v2/health/ready": (200, "")}
META = {"/v2": (200, '{"name":"triton","version":"1","extensions":["statistics"]}')}
ERRORS: dict[str, tuple[Script, Reason, str]] = {
    "garbage": (garbage, Reason.PROTOCOL, "not an HTTP response"),
    "silence": (silence, Reason.PREFLIGHT_TIMEOUT, r"accepts connections and sent no response within 0\.5 s"),
    "closes": (close_at_once, Reason.PROTOCOL, "connection lost"),
    "another server": (pages({}), Reason.PROTOCOL, "reported HTTP 404"),
    "401": (pages({"/v2/health/live": (401, ""), "/v2": (401, "")}), Reason.AUTH, "reported HTTP 401"),
    "403": (pages({"/v2/health/live": (403, ""), "/v2": (403, "")}), Reason.AUTH, "reported HTTP 403"),
    "not live": (pages({"/v2/health/live": (400, ""), **META}), Reason.SERVER_NOT_LIVE, "reports that it is not live"),
    "not ready": (
        pages({**LIVE, **META, "/v2/health/ready": (400, "")}),
        Reason.SERVER_NOT_READY,
        "reports that it is not ready",
    ),
    "a broken model": (
        pages(
            {
                **LIVE,
                **META,
                "/v2/health/ready": (400, ""),
                "/v2/repository/index": (
                    200,
                    '[{"name":"a","version":"1","state":"READY"},'
                    '{"name":"b","version":"1","state":"UNAVAILABLE","reason":"no file\\nat line 3"}]',
                ),
            }
        ),
        Reason.SERVER_NOT_READY,
        r"not ready; of its models: b version 1 unavailable \(no file\)$",
    ),
    "no JSON": (pages({**LIVE, "/v2": (200, "<html>")}), Reason.PROTOCOL, "sent a response that is not JSON"),
    "other JSON": (pages({**LIVE, "/v2": (200, '{"name":{}}')}), Reason.PROTOCOL, "JSON that is not Triton's"),
    "no index": (pages({**LIVE, **META}), Reason.MODEL_NOT_READY, "repository index cannot be read"),
    "unknown": (
        pages({**LIVE, **META, "/v2/repository/index": (200, '[{"name":"a","version":"1","state":"READY"}]')}),
        Reason.MODEL_UNKNOWN,
        r"model 'm' is not known to http://127\.0\.0\.1:\d+; it knows: a$",
    ),
    "unloaded": (
        pages(
            {
                **LIVE,
                **META,
                "/v2/repository/index": (
                    200,
                    '[{"name":"m","version":"1","state":"UNAVAILABLE","reason":"unloaded"}]',
                ),
            }
        ),
        Reason.MODEL_NOT_READY,
        r"but not ready: m version 1 unavailable \(unloaded\)$",
    ),
}


@pytest.mark.parametrize(
    ("model", "state", "text"),
    [
        ("my model", "READY", r"is ready at http://\S+, but cannot be asked .* does not decode that: use grpc://"),
        ("modèle", "READY", r"is ready at http://\S+, but cannot be asked .* does not decode that: use grpc://"),
        ("my model", "LOADING", r"but not ready: my model version 1 loading$"),
        ("m%41", "READY", r"but not ready: m%41 version 1 ready$"),
    ],
)
async def test_a_name_that_needs_escaping(model: str, state: str, text: str) -> None:
    """Triton 2.51 looks for a model `my%20model`."""
    index = json.dumps([{"name": model, "version": "1", "state": state}])
    async with serving(pages({**LIVE, **META, "/v2/repository/index": (200, index)})) as port:
        control = TritonControl(make_target(port=port), TIMEOUT_NS)
        with pytest.raises(PreflightError, match=text) as caught:
            await control.preflight(model, "")
        await control.close()
    assert caught.value.reason is Reason.MODEL_NOT_READY


@pytest.mark.parametrize(("script", "reason", "text"), ERRORS.values(), ids=ERRORS)
async def test_http_errors(script: Script, reason: Reason, text: str) -> None:
    async with serving(script) as port:
        found, found_text = await refused(make_target(port=port))
    assert found is reason, found_text
    assert re.search(text, found_text), found_text


@pytest.mark.parametrize(
    ("script", "reason"),
    [(silence, Reason.PREFLIGHT_TIMEOUT), (garbage, Reason.PROTOCOL), (pages({}), Reason.PROTOCOL)],
    ids=["silence", "garbage", "http/1.1"],
)
async def test_grpc_errors(script: Script, reason: Reason) -> None:
    async with serving(script) as port:
        found, text = await refused(make_target(port=port, scheme="grpc"))
    assert found is reason, text


@pytest.mark.parametrize("scheme", ["http", "https", "grpc", "grpcs"])
async def test_unreachable(scheme: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        assert await refused(make_target(port=port, scheme=scheme)) == (
            Reason.UNREACHABLE,
            f"{scheme}://127.0.0.1:{port}: cannot connect to 127.0.0.1:{port}: connection refused",
        )


@pytest.mark.parametrize("scheme", ["https", "grpcs"])
async def test_untrusted(scheme: str, certificates: Certificates) -> None:
    async with serving(silence, certificates.server_context(alpn="h2" if scheme == "grpcs" else "http/1.1")) as port:
        reason, text = await refused(make_target(port=port, scheme=scheme))
    assert reason is Reason.TLS
    assert text.endswith("failed: unable to get local issuer certificate")


@pytest.mark.parametrize(
    "tls",
    [{"ca_file": "CA"}, {"verify": False}, {"ca_file": "CA", "server_name": "canary.test"}],
    ids=["verified", "unverified", "by another name"],
)
async def test_https_and_headers_reach_the_control_plane(tls: dict[str, Any], certificates: Certificates) -> None:
    seen: list[bytes] = []
    if "ca_file" in tls:
        tls = tls | {"ca_file": str(certificates.ca)}
    script = pages({"/p/v2/health/live": (200, ""), "/p/v2": (403, "")}, seen)
    async with serving(script, certificates.server_context()) as port:
        target = make_target(
            port=port, scheme="https", path="/p", tls=TlsOptions(**tls), headers=(Header("X-Token", value="abc"),)
        )
        reason, text = await refused(target)
    assert reason is Reason.AUTH, text
    assert [b"x-token: abc" in head.lower() for head in seen] == [True, True]


async def test_token_that_cannot_be_read() -> None:
    async with serving(silence) as port:
        target = make_target(port=port, headers=(Header("X-Token", env="NO_SUCH_TOKEN"),))
        assert await refused(target) == (
            Reason.AUTH,
            "header 'X-Token': the environment variable NO_SUCH_TOKEN is not set",
        )


async def test_models_beyond_those_that_are_followed_are_named(caplog: pytest.LogCaptureFixture) -> None:
    steps = [{"model_name": f"part{number}", "model_version": -1} for number in range(19)]
    script = pages(
        {
            **LIVE,
            **META,
            "/v2/models/m/ready": (200, ""),
            "/v2/models/m": (200, '{"name":"m","versions":["1"],"platform":"ensemble","inputs":[],"outputs":[]}'),
            "/v2/models/m/config": (200, json.dumps({"name": "m", "ensemble_scheduling": {"step": steps}})),
            **{f"/v2/models/part{number}/config": (200, "{}") for number in range(19)},
        }
    )
    async with serving(script) as port:
        control = TritonControl(make_target(port=port), 5 * NS)
        facts = await control.preflight("m", "")
        await control.close()
    assert [key.name for key in facts.composing] == [f"part{number}" for number in range(16)]
    (record,) = caplog.records
    assert record.getMessage() == (
        "the model calls more models than are followed, and the figures of the others are missing"
    )
    assert record.__dict__["fields"] == {"model": "m", "followed": 16, "left_out": "part16, part17, part18"}


def ensemble(steps: dict[str, dict[str, Any]]) -> Script:
    """A server whose model m is an ensemble of `a`; the configurations by model."""
    model = '{"name":"m","versions":["1"],"platform":"ensemble","inputs":[],"outputs":[]}'
    configs = {"m": _step("a"), **steps}
    return pages(
        {**LIVE, **META, "/v2/models/m/ready": (200, ""), "/v2/models/m": (200, model)}
        | {f"/v2/models/{name}/config": (200, json.dumps({"name": name, **config})) for name, config in configs.items()}
    )


def _step(model: str) -> dict[str, Any]:
    return {"ensemble_scheduling": {"step": [{"model_name": model, "model_version": -1}]}}


def _sequence(datatype: str) -> dict[str, Any]:
    control = {"name": "CORRID", "control": [{"kind": "CONTROL_SEQUENCE_CORRID", "data_type": datatype}]}
    return {"sequence_batching": {"control_input": [control]}}


@pytest.mark.parametrize(
    ("steps", "takes_sequences"),
    [
        ({"a": {}}, False),
        ({"a": _sequence("TYPE_UINT64")}, True),
        ({"a": _step("b"), "b": _sequence("TYPE_INT32")}, True),
        ({"a": _step("b"), "b": _step("a")}, False),
        ({"a": _step("a")}, False),
    ],
    ids=["plain", "a step", "a step's step", "a circle", "itself"],
)
async def test_an_ensemble_takes_sequences_if_a_step_does(
    steps: dict[str, dict[str, Any]], takes_sequences: bool
) -> None:
    async with serving(ensemble(steps)) as port:
        control = TritonControl(make_target(port=port), 5 * NS)
        facts = await control.preflight("m", "")
        await control.close()
    assert facts.sequence is takes_sequences
    assert {key.name for key in facts.composing} == set(steps)


async def test_a_called_sequence_model_does_not_make_its_caller_one() -> None:
    async with serving(ensemble({"a": {}, "b": _sequence("TYPE_STRING")})) as port:
        control = TritonControl(make_target(port=port), 5 * NS)
        facts = await control.preflight("m", "", ["b"])
        await control.close()
    assert not facts.sequence
    assert [key.name for key in facts.composing] == ["a", "b"]


async def test_ids_as_text_are_refused_with_the_name_of_the_control() -> None:
    async with serving(ensemble({"a": _step("b"), "b": _sequence("TYPE_STRING")})) as port:
        assert await refused(make_target(port=port)) == (
            Reason.UNSUPPORTED,
            "model 'b', which model 'm' calls, takes the ids of sequences as text (its control 'CORRID' is a "
            "CONTROL_SEQUENCE_CORRID of TYPE_STRING): use numbers",
        )


@pytest.mark.parametrize("status", [400, 503])
@pytest.mark.parametrize(
    "text",
    [
        "client shared memory is disabled, start the server with --allow-client-shm=true",
        "registration of system shared memory is not allowed",
    ],
)
async def test_shared_memory_that_is_switched_off_names_the_flag(status: int, text: str) -> None:
    """As Triton does from release 26.04 on."""
    refusal = (status, json.dumps({"error": text}))

    async def script(reader: Reader, writer: Writer) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(refusal[1])))
            writer.write(refusal[1].encode())

    async with serving(script) as port:
        probe = make_probe(target=make_target(port=port), input=InputOptions(shared_memory="system"))
        with pytest.raises(PreflightError) as caught:
            await check_shared_memory(probe)
    assert caught.value.reason is Reason.UNSUPPORTED
    assert "start it with --allow-client-shm=true (" in str(caught.value)
    assert text in str(caught.value)


@pytest.mark.parametrize("script", [silence, garbage, close_at_once, pages({})])
async def test_no_snapshot_is_none(script: Script) -> None:
    async with serving(script) as port:
        control = TritonControl(make_target(port=port), NS // 20)
        assert await control.snapshot(make_facts()) is None
        await control.close()


async def test_model_without_statistics_is_not_asked() -> None:
    control = TritonControl(make_target(port=1), NS)
    async with asyncio.timeout(patient(0.5)):
        assert await control.snapshot(make_facts(has_statistics=False)) is None
    await control.close()
