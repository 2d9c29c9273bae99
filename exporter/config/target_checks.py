"""What must hold between the keys of a target. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from exporter.config import text
from exporter.config.environment import Path
from exporter.config.fields import exactly_one
from exporter.config.kind_checks import endpoint_problems, place_problems
from exporter.config.target_settings import HeaderSettings, TargetSettings

Found = Iterator[tuple[Path, str]]
"""Problems: the path of a value, and what is wrong with it."""


def _headers(target: TargetSettings) -> Found:
    yield from _header_problems("headers", target.headers)
    yield from _header_problems("management_headers", target.management_headers)


def _header_problems(key: str, headers: Mapping[str, HeaderSettings]) -> Found:
    seen: dict[str, str] = {}
    for name, header in headers.items():
        path = (key, name)
        try:
            text.header_name(name)
        except ValueError as error:
            yield path, str(error)
        if name.lower() in seen:
            yield path, f"the same header as '{seen[name.lower()]}'"
        seen[name.lower()] = name
        if header.plain and (text.SECRET_HEADER.search(name) or text.SECRET_VALUE.match(header.plain)):
            yield path, "a secret must not be written here; write {env: VARIABLE} or {file: PATH}"


def _tls(target: TargetSettings) -> Found:
    tls = target.tls
    if tls.model_fields_set and target.scheme in ("http", "grpc"):
        yield ("tls",), f"the url's scheme is {target.scheme}; TLS needs {target.scheme}s"
    if bool(tls.cert_file) != bool(tls.key_file):
        given, lacking = ("cert_file", "key_file") if tls.cert_file else ("key_file", "cert_file")
        yield ("tls", given), f"needs {lacking} beside it"


def _discover(target: TargetSettings) -> Found:
    if target.discover is None:
        return
    discover = target.discover
    choices = {"dns": discover.dns or None, "file_sd": discover.file_sd or None, "http_sd": discover.http_sd}
    try:
        exactly_one(choices)
    except ValueError as error:
        yield ("discover",), str(error)
    for index, name in enumerate(discover.labels):
        if discover.dns:
            yield ("discover", "labels", index), "has no meaning with dns: a name brings no labels"
            continue
        try:
            text.label_name(name)
        except ValueError as error:
            yield ("discover", "labels", index), f"found {text.shown(name)}: {error}"
    if discover.http_sd is not None:
        for inner, problem in _header_problems("headers", discover.http_sd.headers):
            yield ("discover", "http_sd", *inner), problem


def _streams(target: TargetSettings) -> Found:
    if "streams_per_connection" in target.model_fields_set and target.scheme in ("http", "https"):
        yield (
            ("streams_per_connection",),
            f"the url's scheme is {target.scheme}: each request has its own connection",
        )


TARGET_CHECKS: dict[Callable[[Any], Found], set[str]] = {
    _headers: {"headers", "management_headers"},
    place_problems: {"kind", "url", "server_directory", "model_repository"},
    endpoint_problems: {"kind", "url", "management_url", "management_headers"},
    _tls: {"tls", "url"},
    _streams: {"streams_per_connection", "url"},
    _discover: {"discover"},
}
"""The checks, each with the keys that must be valid for it to make sense."""
