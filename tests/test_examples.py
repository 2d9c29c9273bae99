"""The files in examples/ and the recipes in docs/how-to: each configuration measures the real Triton, commands run, and
metrics that are named exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml

from exporter import cli
from exporter.commands.analyze.flags import command_line
from exporter.config import load
from exporter.config.web_file import load_web_file
from exporter.core.outcome import SweepStatus
from exporter.core.probe import Probe
from exporter.core.units import MS, NS
from exporter.demo.triton import EmbeddedTriton, free_ports
from exporter.discovery.expand import expand
from exporter.discovery.found import parse_groups
from exporter.metrics.exporter_families import EXPORTER_ORDER
from exporter.metrics.families import PAGE_ORDER
from exporter.sweep.conductor import Sweep
from exporter.worker.local import LocalWorker
from tests.helm.chart import render, values_of
from tests.rules.test_rules import tool
from tests.transport.certificates import Certificates
from tests.transport.nginx import nginx_serving

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
RECIPES = sorted(path for path in (ROOT / "docs" / "how-to").glob("*.md") if path.name != "index.md")
TOKEN = "a-token-of-the-tests"
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(path: Path, language: str) -> list[str]:
    return [text for found, text in _FENCE.findall(path.read_text()) if found == language]


def configurations() -> list[tuple[str, str]]:
    """All complete configurations, by their path."""
    found = [(f"examples/{path.name}", path.read_text()) for path in EXAMPLES]
    for path in RECIPES:
        found += [(f"how-to/{path.name}", text) for text in blocks(path, "yaml") if text.startswith("targets:")]
    return found


def commands() -> list[tuple[str, list[str]]]:
    """All commands of ours in the recipes, as words, by the recipe."""
    return [
        (path.stem, shlex.split(line, comments=True)[1:])
        for path in RECIPES
        for text in blocks(path, "")
        for line in text.splitlines()
        if line.startswith("triton-canary ")
    ]


def test_there_are_enough() -> None:
    assert len(EXAMPLES) >= 10
    assert len(RECIPES) >= 20
    assert len(configurations()) >= 25
    listed = (ROOT / "examples" / "README.md").read_text()
    assert [path.name for path in EXAMPLES if f"]({path.name})" not in listed] == []
    index = (ROOT / "docs" / "how-to" / "index.md").read_text().split()
    assert [path.stem for path in RECIPES if path.stem not in index] == []


# --- configurations, at a real server --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Surroundings:
    """The servers and files that the configurations name, here."""

    triton: EmbeddedTriton
    plain: int
    guarded: int
    tls: int
    folder: Path
    certificates: Certificates

    def here(self, text: str) -> str:
        """The text with this machine's addresses and paths in the place of its own."""
        if "host_header" in text or ":8000/models" in text:
            text = text.replace("triton.example:8000", f"127.0.0.1:{self.plain}")
        if "Authorization" in text:
            text = text.replace("triton.example:8000", f"127.0.0.1:{self.guarded}")
        for before, after in {
            "https://triton.example": f"https://localhost:{self.tls}",
            "http://triton.example:8000": self.triton.http_url,
            "grpc://triton.example:8001": self.triton.grpc_url,
            "http://triton.example:8002/metrics": self.triton.metrics_url,
            "/run/secrets/": f"{self.folder}/",
            "/etc/triton-canary/servers": str(self.folder),
            "/etc/triton-canary/ca.pem": str(self.certificates.ca),
            "/etc/triton-canary/client.pem": str(self.certificates.client),
            "/etc/triton-canary/client.key": str(self.certificates.client_key),
            "examples/addsub.json": str(ROOT / "examples" / "addsub.json"),
        }.items():
            text = text.replace(before, after)
        return text


@pytest.fixture(scope="module")
def surroundings(
    triton: EmbeddedTriton, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Surroundings]:
    """Triton, and nginx before it: below a path, by a name, with a token, and with TLS and client certificates."""
    folder = tmp_path_factory.mktemp("surroundings")
    (folder / "asr-token").write_text(f"{TOKEN}\n")
    plain, guarded, tls = free_ports(3)
    to_triton = f"proxy_pass {triton.http_url}/; proxy_http_version 1.1;"
    check = f'if ($http_authorization != "Bearer {TOKEN}") {{ return 401; }}'
    pem = f"ssl_certificate {certificates.server}; ssl_certificate_key {certificates.server_key};"
    client = f"ssl_client_certificate {certificates.ca}; ssl_verify_client on;"
    with nginx_serving(
        folder,
        plain,
        f"""
        server {{ listen 127.0.0.1:{plain} default_server; location /models/ {{ {to_triton} }} }}
        server {{ listen 127.0.0.1:{plain}; server_name asr.models.example.com; location / {{ {to_triton} }} }}
        server {{ listen 127.0.0.1:{guarded}; {check} location / {{ {to_triton} }} }}
        server {{ listen 127.0.0.1:{tls} ssl; {pem} {client}
                  location /models/ {{ {check} {to_triton} }} location / {{ {to_triton} }} }}
        """,
    ):
        yield Surroundings(triton, plain, guarded, tls, folder, certificates)


def probes_of(text: str, surroundings: Surroundings, path: Path) -> list[Probe]:
    """Its probes, on the servers that are here, with short windows."""
    path.write_text(surroundings.here(text))
    settings = load(path, {})
    port = surroundings.triton.grpc_url.rpartition(":")[2]
    listed = [{"targets": [f"127.0.0.1:{port}"], "labels": {"rack": "r1"}}]
    found = {target.name: parse_groups(listed, ("rack",)) for target in settings.targets if target.discover}
    return [
        replace(
            probe,
            measurement=replace(
                probe.measurement, window_ns=150 * MS, stability_ratio=10.0, max_windows=4, warm_up_ns=0
            ),
            stop=replace(probe.stop, max_duration_ns=60 * NS, max_latency_ns=0),
        )
        for probe in expand(settings, found, {}).probes
    ]


@pytest.mark.parametrize(("name", "text"), configurations(), ids=[name for name, _ in configurations()])
async def test_a_configuration_measures_the_real_triton(
    name: str, text: str, surroundings: Surroundings, worker: LocalWorker, tmp_path: Path
) -> None:
    probes = probes_of(text, surroundings, tmp_path / "canary.yaml")
    assert probes
    for probe in probes:
        result = await Sweep(probe, []).run(lambda: nullcontext(worker))
        assert result.status in (SweepStatus.OK, SweepStatus.UNSTABLE), (probe.name, result.reason, result.reason_text)
        measurement = result.measurements[0]
        assert measurement.latency is not None
        assert measurement.latency.count > 0
        if "stream" in name:
            assert measurement.first_response is not None
        if "sequences" in name:
            assert measurement.sequences
        if "own-data" in name:
            assert measurement.validated
        if "capacity" in name:
            assert result.best


async def test_the_surroundings_refuse_what_the_recipes_are_about(
    surroundings: Surroundings, worker: LocalWorker, tmp_path: Path
) -> None:
    """Else the recipes for token, path and name would pass with nothing of the kind configured."""
    for recipe, line in (
        ("bearer-token", r"    headers:\n.+\n"),
        ("path-prefix", "/models"),
        ("host-name", r", host_header: \S+(?=})"),
    ):
        (text,) = (text for name, text in configurations() if name == f"how-to/{recipe}.md")
        text = surroundings.here(text)
        without = re.sub(line, "", text, count=1)
        assert without != text
        (probe,) = probes_of(without, surroundings, tmp_path / "canary.yaml")
        result = await Sweep(probe, []).run(lambda: nullcontext(worker))
        assert result.status is SweepStatus.FAILED, recipe


# --- commands and other files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("recipe", "words"), commands(), ids=lambda value: "-".join(value)[:60])
def test_a_command_is_one(recipe: str, words: list[str]) -> None:
    words = words[: words.index(">")] if ">" in words else words
    if words[0] == "analyze":
        command_line.parse(words[1:])
    else:
        cli.make_parser().parse_args(words)


@pytest.mark.parametrize("recipe", ["ci-gate", "from-perf-analyzer", "capacity"])
def test_commands_that_measure_do_so(recipe: str, triton: EmbeddedTriton, tmp_path: Path) -> None:
    address = triton.http_url.removeprefix("http://")
    quick = ["-u", address, "-p", "150", "-s", "900", "-r", "3"]
    measured = [words for name, words in commands() if name == recipe and words[0] == "analyze"]
    assert measured
    for words in measured:
        words = words[: words.index(">")] if ">" in words else words
        shown = run(*words, *quick, folder=tmp_path)
        assert shown.returncode in (0, 5), (words, shown.stderr)
    if recipe == "ci-gate":
        (tmp_path / "after.json").rename(tmp_path / "before.json")
        (again,) = (words for words in measured if "--json" in words)
        run(*again, *quick, folder=tmp_path)
        (words,) = (words for name, words in commands() if name == recipe and words[0] == "compare")
        compared = run(*words, folder=tmp_path)
        assert compared.returncode in (0, 5), compared.stderr
        assert "p50" in compared.stdout


def run(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "exporter", *words], cwd=folder, capture_output=True, text=True)


def others(first_line: str) -> list[tuple[str, str]]:
    """YAML blocks of the recipes that begin with this line, by the recipe."""
    return [(path.stem, text) for path in RECIPES for text in blocks(path, "yaml") if text.startswith(first_line)]


def test_every_block_of_yaml_is_tested() -> None:
    heads = ("targets:", "# prometheus rules\n", "# web.yml\n", "# my-values.yaml\n")
    assert [(path.stem, text) for path in RECIPES for text in blocks(path, "yaml") if not text.startswith(heads)] == []


def test_rules_of_the_recipes_are_rules(tmp_path: Path) -> None:
    ((_, text),) = others("# prometheus rules\n")
    (tmp_path / "rules.yaml").write_text(text)
    tool("promtool", "check", "rules", str(tmp_path / "rules.yaml"))


def test_the_web_file_of_the_recipe_is_taken(tmp_path: Path, certificates: Certificates) -> None:
    ((_, text),) = others("# web.yml\n")
    (tmp_path / "tls.crt").write_bytes(certificates.server.read_bytes())
    (tmp_path / "tls.key").write_bytes(certificates.server_key.read_bytes())
    (tmp_path / "web.yml").write_text(text)
    assert load_web_file(tmp_path / "web.yml").basic_auth_users.keys() == {"prometheus"}


def test_the_values_of_the_recipe_render() -> None:
    ((_, text),) = others("# my-values.yaml\n")
    documents = render(values_of("default") | yaml.safe_load(text))
    assert any("addsub" in str(document) for document in documents if document["kind"] == "ConfigMap")
    kinds = {document["kind"] for document in documents}
    assert {"StatefulSet", "ServiceMonitor", "PrometheusRule"} <= kinds


def test_metrics_that_the_pages_name_exist() -> None:
    known = {name for family in (*PAGE_ORDER, *EXPORTER_ORDER) for name in (family.name, *family.sample_names)}
    missing = [
        (path.name, name)
        for path in RECIPES
        for name in re.findall(r"\btriton_canary_\w+[a-z]\b", path.read_text())
        if name not in known
    ]
    assert missing == []
