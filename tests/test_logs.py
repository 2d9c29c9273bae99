"""One line an event, whatever it holds."""

import json
import logging
import sys

import pytest

from exporter.core.redaction import HIDDEN, remember_secret
from exporter.logs import CommandFormatter, JsonFormatter, LogfmtFormatter, fields


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


@pytest.mark.parametrize("secret", ['pass"word-1', "back\\slash-2", "umläut-34567"])
@pytest.mark.parametrize("formatter", [LogfmtFormatter(), JsonFormatter()], ids=["logfmt", "json"])
def test_secrets_are_hidden_before_anything_is_escaped(secret: str, formatter: logging.Formatter) -> None:
    remember_secret(secret)
    line = formatter.format(record("reported %s", secret, error=f"no {secret}!", all=[{"deep": secret}]))
    for part in (secret, json.dumps(secret)[1:-1], secret[:8]):
        assert part not in line
    assert line.count(HIDDEN) == 3


@pytest.mark.parametrize("formatter", [LogfmtFormatter(), JsonFormatter()], ids=["logfmt", "json"])
@pytest.mark.parametrize("harmful", ["\x1b[2J", "\x9b2J", "\u202e", "\u2028", "\ud800"], ids=ascii)
def test_no_terminal_sees_what_moves_it(harmful: str, formatter: logging.Formatter) -> None:
    line = formatter.format(record("shown", error=f"a{harmful}b"))
    assert line.isprintable()
    line.encode()


def test_what_a_command_prints_beside_its_output_is_a_sentence() -> None:
    made = record("no GPU figures:\nnone", url="http://h:1", text="two words\x1b[1m")
    assert (
        CommandFormatter().format(made)
        == 'triton-canary: info: no GPU figures: none (url http://h:1, text "two words\\u001b[1m")'
    )
    assert CommandFormatter().format(record("plain")) == "triton-canary: info: plain"
