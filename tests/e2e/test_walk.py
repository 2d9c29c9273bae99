"""A walk through README.md, docs/get-started.md and docs/install.md, as a new user takes it: from a fresh clone to an
alert received.

The commands and the files are those of the pages, word for word but for addresses and folders of this machine, so the
pages and what works can't part.
"""

from __future__ import annotations

import http.server
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.config import load
from exporter.demo.triton import free_ports
from tests.e2e.prometheus import Prometheus
from tests.programs import need

ROOT = Path(__file__).parents[2]
NEEDED = ("git", "make", "curl", "prometheus", "promtool", "amtool", "prometheus-alertmanager")
RULES = "triton-canary.rules.yaml"


def blocks(page: str, heading: str) -> list[str]:
    """What is in the fences below a heading of a page, up to the next one."""
    found: list[list[str]] = []
    here = fenced = False
    for line in (ROOT / page).read_text().splitlines():
        if line.startswith("```"):
            fenced = not fenced
            if fenced and here:
                found.append([])
        elif fenced and here:
            found[-1].append(line)
        elif not fenced and line.startswith("#"):
            here = line.lstrip("# ") == heading
    return ["\n".join(lines) for lines in found]


def replaced(text: str, others: Mapping[str, str]) -> str:
    """The text with each of these, all of which are in it, in the place of the page's."""
    for before, after in others.items():
        assert before in text, (before, text)
        text = text.replace(before, after)
    return text


class Walker:
    """A shell in the clone, as a user's who has nothing of this checkout."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.clone = folder / "triton-canary"
        self._folder = folder
        kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
        self._environment = kept | environment

    def run(self, command: str, folder: Path | None = None) -> str:
        """Its standard output; it must succeed."""
        ended = subprocess.run(
            ["bash", "-o", "pipefail", "-ec", command],
            cwd=folder or self.clone,
            env=self._environment,
            capture_output=True,
            text=True,
        )
        assert ended.returncode == 0, (command, ended.stdout[-2000:], ended.stderr[-4000:])
        return ended.stdout

    @contextmanager
    def running(self, command: str, *, stop: signal.Signals = signal.SIGTERM) -> Iterator[Running]:
        """The command, with all that it starts, until the end of the context."""
        log = self._folder / f"{re.sub(r'[^a-z]+', '-', command.rpartition('/')[2])[:30]}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                ["bash", "-ec", f"exec {command}"],
                cwd=self.clone,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        running = Running(process, log)
        try:
            yield running
        finally:
            running.stop(stop)


class Running:
    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_for(self, condition: Callable[[], Any], seconds: float) -> Any:
        """What the condition gives once that is true."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                if found := condition():
                    return found
            except OSError:  # it does not listen yet
                pass
            time.sleep(0.5)
        raise AssertionError(f"waited in vain; the log ends with:\n{self.output[-4000:]}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, number)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            raise


@contextmanager
def receiver() -> Iterator[tuple[str, set[str]]]:
    """The address of a webhook, and the names of the alerts that it has received."""
    received: set[str] = set()

    class Webhook(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            received.update(alert["labels"]["alertname"] for alert in body["alerts"] if alert["status"] == "firing")
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base's name
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Webhook) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/", received
        finally:
            server.shutdown()
            thread.join()


def alertmanager_config(clone: Path, webhook: str) -> str:
    """The example with a receiver's address at each name."""
    config = yaml.safe_load((clone / "dashboards" / "rules" / "alertmanager.example.yaml").read_text())
    for each in config["receivers"]:
        each["webhook_configs"] = [{"url": webhook, "send_resolved": False}]
    return yaml.safe_dump(config)


def test_what_the_walk_reads_is_there(tmp_path: Path) -> None:
    """Quick, so that a page that was changed is noticed before the long test."""
    assert blocks("README.md", "Try it")[0] == "make demo"
    assert len(blocks("README.md", "Try it")) == 2
    (tmp_path / "canary.yaml").write_text(smallest())
    assert [probe.name for probe in load(tmp_path / "canary.yaml", {}).probes] == ["resnet50"]
    assert [line.split()[0] for line in steps()] == [
        "python3",
        "venv/bin/pip",
        *["venv/bin/triton-canary"] * 3,
        "curl",
    ]
    assert len(blocks("docs/install.md", "pip")[0].splitlines()) == 3
    prometheus, commands = blocks("docs/install.md", "Prometheus and alerts")
    assert prometheus.startswith("# prometheus.yml\n")
    assert [line.split()[0] for line in commands.splitlines()] == ["cp", "promtool"]


@pytest.mark.e2e
@pytest.mark.walk
@pytest.mark.timeout(1800)
def test_from_a_fresh_clone_to_an_alert(tmp_path: Path) -> None:
    need(*NEEDED)
    web, manager, server = free_ports(3)
    walker = Walker(
        tmp_path,
        TRITON_CANARY_DATA_DIRECTORY=str(tmp_path / "data"),
        TRITON_CANARY_WEB__LISTEN=f"127.0.0.1:{web}",
    )
    walker.run(f"git clone --quiet --no-hardlinks {ROOT} {walker.clone}", tmp_path)
    with ExitStack() as stack:
        triton = try_it(walker, stack)
        daemon = get_started(walker, stack, triton)
        alerts, received = stack.enter_context(receiver())
        prometheus = watch(walker, stack, tmp_path, webhook=alerts, ports=(web, manager, server))
        up = 'triton_canary_up{job="triton-canary",probe="addsub"}'
        daemon.wait_for(lambda: [sample["value"][1] for sample in prometheus.query(up)] == ["1"], 180)
        daemon.wait_for(lambda: "TritonCanaryWatchdog" in received, 150)
        # "To see that it arrives, stop the daemon": the page names the alert, and the time.
        page = (ROOT / "docs" / "install.md").read_text()
        assert "stop the daemon: after five minutes TritonCanaryExporterDown fires" in page
        assert "TritonCanaryExporterDown" not in received
        daemon.stop()
        wait_for_alert("TritonCanaryExporterDown", received, seconds=5 * 60 + 240)


def try_it(walker: Walker, stack: ExitStack) -> str:
    """`make demo`, and what to do in a second shell. Returns the url of its Triton."""
    demo, curl = blocks("README.md", "Try it")
    # Its own daemon takes the address that it would have without our environment: a free one, where that is taken.
    shell = Walker(walker.clone.parent)
    running = stack.enter_context(shell.running(demo, stop=signal.SIGINT))
    running.wait_for(lambda: "running until Ctrl-C" in running.output, 900)
    reported = re.search(r"^metrics +http://(\S+)/metrics$", running.output, re.MULTILINE)
    assert reported is not None, running.output
    assert "triton_canary_latency_seconds{" in shell.run(replaced(curl, {"127.0.0.1:9787": reported[1]}))
    endpoint = re.search(r"^Triton +(http://\S+)", running.output, re.MULTILINE)
    assert endpoint is not None, running.output
    return endpoint[1]


def steps() -> list[str]:
    """All commands of docs/get-started.md, in their order."""
    headings = ("1. Install", "2. Measure once", "3. Configure a probe", "4. Run the daemon")
    fences = [block for heading in headings for block in blocks("docs/get-started.md", heading)]
    return [line for block in fences if block != smallest() for line in block.splitlines()]


def smallest() -> str:
    """The configuration of docs/get-started.md."""
    return blocks("docs/get-started.md", "3. Configure a probe")[0]


def get_started(walker: Walker, stack: ExitStack, triton: str) -> Running:
    """Each command of docs/get-started.md: the package into an environment of its own, a measurement, the daemon."""
    own = {"triton.example:8000": triton.removeprefix("http://"), "resnet50": "addsub"}
    venv, pip, analyze, check, serve, curl = steps()
    walker.run(venv)
    walker.run(pip)
    assert "Inferences/Second vs. Client Average Batch Latency" in walker.run(f"{replaced(analyze, own)} -p 500 -s 100")
    (walker.clone / "canary.yaml").write_text(replaced(smallest(), own))
    assert "ok" in walker.run(check)
    daemon = stack.enter_context(walker.running(serve))
    listen = daemon.wait_for(lambda: re.search(r"msg=ready.* listen=(\S+)", daemon.output), 60)[1]
    daemon.wait_for(lambda: "triton_canary_up{" in walker.run(f"{replaced(curl, {'127.0.0.1:9787': listen})} || :"), 60)
    return daemon


def test_the_environment_of_install_md_is_that_of_the_unit() -> None:
    """The walk installs as Get started does; docs/install.md differs in the folder alone."""
    ours = [line.replace("venv venv", "venv VENV").replace("venv/bin", "VENV/bin") for line in steps()]
    theirs = [
        line.replace("/opt/triton-canary/bin", "VENV/bin").replace("/opt/triton-canary", "VENV")
        for line in blocks("docs/install.md", "pip")[0].splitlines()
    ]
    assert set(theirs) <= set(ours)


def watch(walker: Walker, stack: ExitStack, folder: Path, *, webhook: str, ports: Sequence[int]) -> Prometheus:
    """Prometheus with the page's configuration and the rules, and an Alertmanager with the example's routes."""
    web, manager, server = ports
    etc = folder / "etc"
    etc.mkdir()
    config, commands = blocks("docs/install.md", "Prometheus and alerts")
    folders = {"/etc/prometheus": str(etc)}
    addresses = {"localhost:9787": f"localhost:{web}", "localhost:9093": f"localhost:{manager}"}
    (etc / "prometheus.yml").write_text(replaced(config, folders | addresses))
    walker.run(replaced(commands, folders))
    (etc / "alertmanager.yml").write_text(alertmanager_config(walker.clone, webhook))
    walker.run(f"amtool check-config {etc}/alertmanager.yml")
    stack.enter_context(
        walker.running(
            f"prometheus-alertmanager --config.file={etc}/alertmanager.yml --storage.path={folder}/alertmanager "
            f"--web.listen-address=127.0.0.1:{manager} --cluster.listen-address="
        )
    )
    running = stack.enter_context(
        walker.running(
            f"prometheus --config.file={etc}/prometheus.yml --storage.tsdb.path={folder}/tsdb "
            f"--web.listen-address=127.0.0.1:{server}"
        )
    )
    prometheus = Prometheus(server)
    running.wait_for(lambda: prometheus.get("/-/ready")[0] == 200, 60)
    loaded = json.loads(prometheus.get("/api/v1/rules")[1])["data"]["groups"]
    written = yaml.safe_load((ROOT / "dashboards" / "rules" / RULES).read_text())["groups"]
    assert {group["name"]: len(group["rules"]) for group in loaded} == {g["name"]: len(g["rules"]) for g in written}
    return prometheus


def wait_for_alert(name: str, received: set[str], *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while name not in received:
        assert time.monotonic() < deadline, received
        time.sleep(0.5)
