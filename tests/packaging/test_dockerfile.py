"""The Dockerfile, as far as can be reported without building it; tests/e2e/test_image.py builds it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from exporter import cli
from exporter.config.environment import read_environment
from exporter.config.settings import Settings

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """Each instruction with its arguments, its lines joined."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    pairs = (line.partition(" ")[::2] for line in text.splitlines() if line.strip())
    return [(name, " ".join(rest.split())) for name, rest in pairs]


def last_stage() -> dict[str, list[str]]:
    given = instructions()
    begin = max(index for index, (name, _) in enumerate(given) if name == "FROM")
    found: dict[str, list[str]] = {}
    for name, rest in given[begin:]:
        found.setdefault(name, []).append(rest)
    return found


def test_hadolint_finds_nothing() -> None:
    program = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([program, "--failure-threshold", "style", DOCKERFILE], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_last_stage_runs_nothing_and_is_unprivileged() -> None:
    given = last_stage()
    assert "RUN" not in given
    assert given["USER"] == ["10001:10001"]
    assert given["VOLUME"] == [Settings.model_fields["data_directory"].default]
    assert given["FROM"] == ["${BASE}${BASE_DIGEST:+@${BASE_DIGEST}}"]


def test_what_it_calls_is_there() -> None:
    given = last_stage()
    (entry,), (command,) = json.loads(given["ENTRYPOINT"][0]), given["CMD"]
    assert entry == "triton-canary"
    parser = cli.make_parser()
    assert parser.parse_args(json.loads(command)).config == Path("/etc/triton-canary/canary.yaml")
    (health,) = re.findall(r"CMD (\[.+\])", given["HEALTHCHECK"][0])
    assert parser.parse_args(json.loads(health)[1:]).url == "http://127.0.0.1:9787"


def test_it_listens_on_its_documented_port() -> None:
    given = last_stage()
    variables = dict(pair.split("=", 1) for pair in given["ENV"][0].split())
    overlay = read_environment(variables, {"web"}, [])
    assert overlay.values == {"web": {"listen": ":9787"}}
    assert given["EXPOSE"] == ["9787"]


def test_the_build_sees_what_it_copies_and_nothing_else() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    allowed = {line.removeprefix("!") for line in lines if line.startswith("!")}
    copied = {
        path for name, rest in instructions() if name == "COPY" and "--from=" not in rest for path in rest.split()[:-1]
    }
    assert copied == allowed
    assert all((ROOT / path).exists() for path in copied)
