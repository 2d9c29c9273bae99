"""The chart's pool: who may reach whom, with which certificates, and whether Dask takes its commands."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from helm_python import HelmError

from exporter import __version__
from tests.helm.chart import Document, container, notes, one, render, values_of

FULLNAME = "rel-triton-canary"
ROLES = ("scheduler", "worker")


def deployments() -> dict[str, Document]:
    documents = render(values_of("pool"))
    return {each["metadata"]["name"]: each["spec"] for each in documents if each["kind"] == "Deployment"}


def pod(name: str) -> Document:
    found: Document = deployments()[f"{FULLNAME}-{name}"]["template"]
    return found


def argument(arguments: list[str], name: str) -> str:
    (found,) = [text.removeprefix(f"--{name}=") for text in arguments if text.startswith(f"--{name}=")]
    return found


def test_there_is_a_scheduler_and_workers_in_each_place() -> None:
    assert {name: spec["replicas"] for name, spec in deployments().items()} == {
        f"{FULLNAME}-pool": 1,
        f"{FULLNAME}-worker-zone-a": 2,
        f"{FULLNAME}-worker-zone-b": 2,
    }
    zone_a = pod("worker-zone-a")["spec"]
    assert zone_a["nodeSelector"] == {"topology.kubernetes.io/zone": "a"}
    assert argument(zone_a["containers"][0]["args"], "resources") == "zone-a=1"
    without = [each for each in render(plain()) if each["kind"] == "Deployment"]
    assert [(each["metadata"]["name"], each["spec"]["replicas"]) for each in without] == [
        (f"{FULLNAME}-pool", 1),
        (f"{FULLNAME}-worker", 3),
    ]
    assert not any("--resources" in text for text in without[1]["spec"]["template"]["spec"]["containers"][0]["args"])


def plain() -> Document:
    return {"pool": {"enabled": True, "tls": {"existingSecret": "s"}}}


def test_no_pod_is_selected_by_what_is_not_its_own() -> None:
    """Neither the daemon's Service, nor its NetworkPolicy, nor another Deployment takes it."""
    documents = render(values_of("pool"))
    selectors = {name: spec["selector"]["matchLabels"] for name, spec in deployments().items()}
    selectors[FULLNAME] = one(documents, "StatefulSet")["spec"]["selector"]["matchLabels"]
    labels = {name: spec["template"]["metadata"]["labels"] for name, spec in deployments().items()}
    labels[FULLNAME] = one(documents, "StatefulSet")["spec"]["template"]["metadata"]["labels"]
    for selecting, selector in selectors.items():
        assert [name for name, own in labels.items() if selector.items() <= own.items()] == [selecting]
    service = next(each for each in documents if each["kind"] == "Service" and each["metadata"]["name"] != FULLNAME)
    assert service["metadata"]["name"] == f"{FULLNAME}-pool"
    assert service["spec"]["selector"] == selectors[f"{FULLNAME}-pool"]


@pytest.mark.parametrize("name", ["pool", "worker-zone-a"])
def test_its_pods_may_no_more_than_the_daemon(name: str) -> None:
    documents = render(values_of("pool"))
    ours, theirs = pod(name)["spec"], one(documents, "StatefulSet")["spec"]["template"]["spec"]
    assert ours["automountServiceAccountToken"] is False
    assert "serviceAccountName" not in ours
    assert ours["securityContext"] == theirs["securityContext"]
    assert ours["containers"][0]["securityContext"] == theirs["containers"][0]["securityContext"]
    assert ours["containers"][0]["image"] == theirs["containers"][0]["image"], "one version on both sides"
    assert ours["containers"][0]["resources"]["limits"]["memory"]
    volumes = sorted(volume["name"] for volume in ours["volumes"])
    assert volumes == sorted(mount["name"] for mount in ours["containers"][0]["volumeMounts"])
    # Headers are read from files where the requests are made.
    assert ("secret-asr" in volumes) is name.startswith("worker")


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ({}, f"triton-canary:{__version__}-dask"),
        ({"tag": "ours"}, "triton-canary:ours"),
        ({"digest": f"sha256:{'0' * 64}"}, f"triton-canary@sha256:{'0' * 64}"),
    ],
)
def test_the_image_has_dask_on_all_sides(image: dict[str, str], expected: str) -> None:
    documents = render(plain() | {"image": image})
    pods = [each["spec"]["template"]["spec"] for each in documents if each["kind"] in ("Deployment", "StatefulSet")]
    assert [spec["containers"][0]["image"] for spec in pods] == [expected] * 3


def test_all_sides_have_certificates_and_speak_nothing_plain() -> None:
    daemon = container(render(values_of("pool")))
    for ours in (daemon, pod("pool")["spec"]["containers"][0], pod("worker-zone-a")["spec"]["containers"][0]):
        variables = {entry["name"]: entry.get("value") for entry in ours["env"]}
        assert variables["DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION"] == "True"
        assert {"mountPath": "/etc/triton-canary/pool", "name": "pool", "readOnly": True} in ours["volumeMounts"]
    with pytest.raises(HelmError, match=r"pool\.enabled needs pool\.tls\.existingSecret"):
        render({"pool": {"enabled": True}})
    plain_daemon = container(render({}))
    assert not any(entry["name"].startswith("DASK") for entry in plain_daemon["env"])


def test_dask_reads_the_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = pod("worker-zone-a")["spec"]["containers"][0]
    environment = {entry["name"]: entry["value"] for entry in ours["env"] if "value" in entry}
    program = (
        "import distributed, dask.config; from distributed.security import Security; s = Security();"
        "print(s.require_encryption, s.tls_ca_file, s.tls_worker_cert, s.tls_scheduler_key, s.tls_client_cert,"
        "dask.config.get('distributed.worker.http.routes'))"
    )
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    folder = "/etc/triton-canary/pool"
    assert done.stdout.split() == [
        *("True", f"{folder}/ca.crt", f"{folder}/tls.crt", f"{folder}/tls.key", f"{folder}/tls.crt"),
        "['distributed.http.health']",
    ]


@pytest.mark.parametrize("name", ["pool", "worker-zone-a"])
def test_dask_knows_each_option(name: str) -> None:
    from distributed.cli import dask_scheduler, dask_worker

    ours = pod(name)["spec"]["containers"][0]
    command = {"scheduler": dask_scheduler, "worker": dask_worker}[ours["command"][1]].main
    given = [text for text in ours["args"] if text.startswith("--")]
    parsed = command.make_parser(command.make_context("dask", [], resilient_parsing=True)).parse_args(list(given))
    assert {"protocol": "tls", "host": "$(POD_IP)", "dashboard": False}.items() <= parsed[0].items()
    assert parsed[1] == []
    ports = {port["name"]: port["containerPort"] for port in ours["ports"]}
    assert ports["health"] == int(argument(ours["args"], "dashboard-address").removeprefix(":"))
    own = "port" if name == "pool" else "worker-port"
    assert ports[ours["command"][1]] == int(argument(ours["args"], own))


def policies() -> dict[str, Document]:
    documents = render(values_of("pool"))
    return {each["metadata"]["name"]: each["spec"] for each in documents if each["kind"] == "NetworkPolicy"}


def may_reach(rule: Document, labels: Document, port: int) -> bool:
    """Whether a rule of an egress, or of an ingress, covers a pod of the release with these labels."""
    ports = [each["port"] for each in rule.get("ports", [])]
    peers: list[Any] = rule.get("to") or rule.get("from") or []
    selected = [peer["podSelector"].get("matchLabels", {}) for peer in peers if "podSelector" in peer]
    return (not ports or port in ports) and any(each.items() <= labels.items() for each in selected)


def test_the_policies_let_through_what_is_needed_and_nothing_else() -> None:
    found = policies()
    documents = render(values_of("pool"))
    labels = {
        "daemon": one(documents, "StatefulSet")["spec"]["template"]["metadata"]["labels"],
        "scheduler": pod("pool")["metadata"]["labels"],
        "worker": pod("worker-zone-b")["metadata"]["labels"],
        "test": one(documents, "Pod")["metadata"]["labels"],
    }
    policy = {
        "daemon": found[FULLNAME],
        "scheduler": found[f"{FULLNAME}-pool"],
        "worker": found[f"{FULLNAME}-worker"],
    }
    for role, spec in policy.items():
        own = spec["podSelector"]["matchLabels"]
        assert [name for name, each in labels.items() if own.items() <= each.items()] == [role]
        assert sorted(spec["policyTypes"]) == ["Egress", "Ingress"]
    ports = {"scheduler": 8786, "worker": 8788}
    ways = {
        (near, far)
        for far, port in ports.items()
        for near in policy
        if any(may_reach(rule, labels[far], port) for rule in policy[near]["egress"])
        and any(may_reach(rule, labels[near], port) for rule in policy[far]["ingress"])
    }
    assert ways == {("daemon", "scheduler"), ("daemon", "worker"), ("scheduler", "worker"), ("worker", "scheduler")}
    inference = {"kubernetes.io/metadata.name": "inference"}
    to_targets = [{"namespaceSelector": {"matchLabels": inference}}]
    loading = [role for role in policy if any(rule.get("to") == to_targets for rule in policy[role]["egress"])]
    assert loading == ["daemon", "worker"]
    assert not any(rule == {} for spec in policy.values() for rule in spec["egress"])


def test_the_address_is_shown() -> None:
    assert f"tls://{FULLNAME}-pool:8786" in notes(values_of("pool"))
    assert "tls://" not in notes(values_of("default"))
