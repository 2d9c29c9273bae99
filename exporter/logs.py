"""Structured logs on stderr, one line an event: logfmt for people and grep, json for collectors.

An event is a short constant message and fields: `log.info("sweep ended", extra=fields(probe="asr", reason=""))`.
"""

from __future__ import annotations

import json
import logging
import math
import sys
import time
from collections.abc import Callable, Hashable, Mapping
from datetime import UTC, datetime
from typing import Any

from exporter.core.redaction import redacted

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:/@+%[]{},<>")

_KINDS = 1000

COMMAND_FORMAT = "command"
"""The log format of a command that a person runs."""


def fields(**values: object) -> dict[str, Mapping[str, object]]:
    """The `extra` of a log call."""
    return {"fields": values}


class Throttle:
    """Lets an event of a kind be logged once in a while: what comes and goes with each write would else fill the log.
    `now_s` gives seconds that only grow."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic, seconds: float = 600.0) -> None:
        self._now_s = now_s
        self._seconds = seconds
        self._logged_s: dict[Hashable, float] = {}

    def passes(self, kind: Hashable) -> bool:
        """Whether it is to be logged now."""
        now_s = self._now_s()
        if now_s - self._logged_s.get(kind, -math.inf) < self._seconds:
            return False
        if len(self._logged_s) >= _KINDS:
            self._logged_s.clear()
        self._logged_s[kind] = now_s
        return True


def configure(level: str, log_format: str) -> None:
    """Sends everything of this process to stderr. `log_format` is logfmt, json, or COMMAND_FORMAT."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_FORMATTERS.get(log_format, LogfmtFormatter)())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Libraries report each of their own steps; what matters of them comes as an event of ours.
    for chatty in ("apscheduler", "asyncio", "httpcore2", "httpx2", "urllib3", "uvicorn"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLogger().level))


def _event(record: logging.LogRecord, formatter: logging.Formatter) -> dict[str, Any]:
    event: dict[str, Any] = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "logger": record.name.removeprefix("exporter."),
        "msg": record.getMessage(),
    }
    event.update(getattr(record, "fields", {}))
    if record.exc_info:
        event["exception"] = formatter.formatException(record.exc_info)
    # Before anything is escaped: a secret with a quote or a backslash in it would not be found after that.
    return {key: _redacted(value) for key, value in event.items()}


def _redacted(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): _redacted(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(inner) for inner in value]
    return redacted(str(value))


def _json(value: object) -> str:
    """As JSON, in which whatever no terminal should see is escaped, and what is no UTF-8."""
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(value)


class LogfmtFormatter(logging.Formatter):
    """key=value pairs; a value is quoted, with JSON's escapes, where it needs to be."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever is in the record."""
        return " ".join(f"{key}={self._value(value)}" for key, value in _event(record, self).items())

    @staticmethod
    def _value(value: object) -> str:
        text = f"{value:.6g}" if isinstance(value, float) else str(value)
        return text if text and _PLAIN.issuperset(text) else _json(text)


class CommandFormatter(logging.Formatter):
    """What a command prints beside its output, for the person who waits for it: no time, and the fields in brackets."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, but for the trace of an exception."""
        event = _event(record, self)
        exception = event.pop("exception", "")
        message = " ".join(str(event.pop("msg")).split())
        event = {key: value for key, value in event.items() if key not in ("time", "level", "logger")}
        values = ", ".join(f"{key} {LogfmtFormatter._value(value)}" for key, value in event.items())
        line = f"triton-canary: {record.levelname.lower()}: {message}{f' ({values})' if values else ''}"
        line = "".join(character if character.isprintable() else "?" for character in line)
        return f"{line}\n{exception}" if exception else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever is in the record."""
        return _json(_event(record, self))


_FORMATTERS: Mapping[str, Callable[[], logging.Formatter]] = {"json": JsonFormatter, COMMAND_FORMAT: CommandFormatter}
