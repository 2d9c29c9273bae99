"""The OpenAPI document of `/api/v1`, made from the types of its bodies, so that it can't differ from them. Pure."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from exporter.web.report import ErrorReport, HistoryReport, OverviewReport, ProbeDetail
from exporter.web.selection import MARKS, SORTS, STATES

_BODIES = (OverviewReport, ProbeDetail, HistoryReport, ErrorReport)
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
            "meaning; new ones may come. Actions are at /api/probes and /api/baseline, with a token.",
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
                    "responses": {"200": _response("The probes selected.", "OverviewReport")},
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
        },
        "components": {"schemas": dict(sorted(schemas.items()))},
    }


def _query(name: str, description: str, values: list[str] | None = None) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"} | ({"enum": values} if values else {})
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


def _response(description: str, body: str) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{body}"}
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _of_one(description: str, body: str) -> dict[str, Any]:
    return {"200": _response(description, body), "404": _response("There is no such probe.", "ErrorReport")}
