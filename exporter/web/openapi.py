"""The OpenAPI document of `/api/v1`, made from the types of its bodies, so that it can't differ from them. Pure."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from exporter.web.gate_report import GateErrorReport, GateListReport, GateReport, GateRequestBody
from exporter.web.report import ErrorReport, HistoryReport, OverviewReport, ProbeDetail
from exporter.web.selection import MARKS, SORTS, STATES

_BODIES = (
    *(OverviewReport, ProbeDetail, HistoryReport, ErrorReport),
    *(GateReport, GateListReport, GateRequestBody, GateErrorReport),
)
_PROBE = {
    "name": "probe",
    "in": "path",
    "required": True,
    "description": "The probe's name; a slash in it as %2F or as it is.",
    "schema": {"type": "string"},
}


def document(version: str) -> dict[str, Any]:
    """OpenAPI 3.1."""
    schemas: dict[str, Any] = {}
    for body in _BODIES:
        schema = TypeAdapter(body).json_schema(mode="serialization", ref_template="#/components/schemas/{model}")
        schemas |= schema.pop("$defs", {})
        schemas[body.__name__] = schema
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Triton Canary",
            "version": version,
            "description": "Every figure of the status page. Paths and keys under /api/v1 do not go or change their "
            "meaning; new ones may come. Rollout gates are started here, with a token; other actions are at "
            "/api/probes and /api/baseline.",
        },
        "paths": {
            "/api/v1/probes": {
                "get": {
                    "summary": "All probes now",
                    "operationId": "listProbes",
                    "parameters": [
                        _query("q", "Words found in name, target or model."),
                        _query("state", "Only these.", [*STATES, *MARKS]),
                        _query("target", "Only probes of this target."),
                        _query("sort", "The order.", list(SORTS)),
                    ],
                    "responses": {
                        "200": _response("The probes selected.", "OverviewReport"),
                        "400": _response("The state or the order is not known: those allowed.", "ErrorReport"),
                    },
                }
            },
            "/api/v1/probes/{probe}": {
                "get": {
                    "summary": "One probe, its recent sweeps and its configuration",
                    "operationId": "getProbe",
                    "parameters": [_PROBE],
                    "responses": _of_one("The probe.", "ProbeDetail"),
                }
            },
            "/api/v1/probes/{probe}/history": {
                "get": {
                    "summary": "The last 24 hours of a probe",
                    "operationId": "getHistory",
                    "parameters": [_PROBE],
                    "responses": _of_one("The history.", "HistoryReport"),
                }
            },
            **_gates(),
        },
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _gates() -> dict[str, Any]:
    wait = _query("wait", "Waits for the gate's end, at most so long: 20m; at most 1h, without a token 1m.")
    gate = {"name": "gate", "in": "path", "required": True, "description": "Its id.", "schema": {"type": "string"}}
    refused = {
        status: _response(text, "GateErrorReport")
        for status, text in (
            ("400", "The request is wrong: every problem."),
            ("404", "There is no such probe."),
            ("409", "The id was used for another request."),
            ("429", "Too many gates run."),
        )
    }
    return {
        "/api/v1/gates": {
            "get": {
                "summary": "The last rollout gates",
                "operationId": "listGates",
                "responses": {"200": _response("The gates.", "GateListReport")},
            },
            "post": {
                "summary": "Starts a rollout gate; the same id is the same gate",
                "operationId": "startGate",
                "security": [{"token": []}],
                "parameters": [wait],
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/GateRequestBody"}}},
                },
                "responses": {
                    "200": _response("It ended.", "GateReport"),
                    "202": _response("It runs.", "GateReport"),
                    **refused,
                },
            },
        },
        "/api/v1/gates/{gate}": {
            "get": {
                "summary": "One rollout gate",
                "operationId": "getGate",
                "parameters": [gate, wait],
                "responses": {
                    "200": _response("The gate.", "GateReport"),
                    "404": _response("There is no such gate.", "GateErrorReport"),
                },
            }
        },
    }


def _query(name: str, description: str, values: list[str] | None = None) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"} | ({"enum": values} if values else {})
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


def _response(description: str, body: str) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{body}"}
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _of_one(description: str, body: str) -> dict[str, Any]:
    return {"200": _response(description, body), "404": _response("There is no such probe.", "ErrorReport")}
