"""One line an event, whatever it holds."""

import json
import logging
import sys

import pytest

from exporter.logs import JsonFormatter, LogfmtFormatter, fields


def record(message: str, *args: object, **values: object) -> logging.LogRecord:
    logger = logging.getLogger("exporter.sweeps")
    made = logger.makeRecord("exporter.sweeps", logging.INFO, "f", 1, message, args, None, extra=fields(**values))
    made.created = 1_700_000_000.25
    return made


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("asr", "asr"),
        ("", '""'),
        ("two words", '"two words"'),
        ('a "quote"', '"a \\"quote\\""'),
        ("line\nbreak", '"line\\nbreak"'),
        ("a=b", '"a=b"'),
        (0.1234567, "0.123457"),
        (12, "12"),
        ("grpc://h:1/x", "grpc://h:1/x"),
    ],
)
def test_logfmt(value: object, text: str) -> None:
    line = LogfmtFormatter().format(record("sweep ended", probe=value))
    assert line == f'time=2023-11-14T22:13:20.250Z level=info logger=sweeps msg="sweep ended" probe={text}'


def test_json() -> None:
    line = JsonFormatter().format(record("sweep %s", "ended", probe="a\nb", n=1))
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "info",
        "logger": "sweeps",
        "msg": "sweep ended",
        "probe": "a\nb",
        "n": 1,
    }


def test_an_exception_stays_on_its_line() -> None:
    made = record("failed")
    try:
        raise ValueError("no")
    except ValueError:
        made.exc_info = sys.exc_info()
    line = LogfmtFormatter().format(made)
    assert "\n" not in line
    assert "ValueError: no" in line
