"""The chart with every values file of ci/: linted, rendered, compared with strict schemas, and against our own code."""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_python import HelmError, lint

from exporter import __version__, cli
from exporter.commands.baseline.command import BaselineCommand
from exporter.config import load
from exporter.config.quantities import parse_duration
from exporter.config.settings import Settings
from exporter.core.bounds import SERIES_BYTES
from exporter.core.kinds import KINDS
from exporter.core.units import NS
from exporter.schedule.sharding import Shard
from exporter.worker.pool import CLOSE_LIMIT_SECONDS
from tests.helm import values_table
from tests.helm.chart import CHART, NAMES, ROOT, Document, container, notes, one, render, values_of
from tests.helm.schemas import VERSIONS, check

ALWAYS = ["ConfigMap", "Pod", "Service", "ServiceAccount", "StatefulSet"]
MORE = {
    "configsecret": ["Ingress"],
    "default": [],
    "exposed": ["HTTPRoute", "Ingress"],
    "monitoring": [*["ConfigMap"] * 5, "PrometheusRule", "ServiceMonitor"],
    "networkpolicy": ["NetworkPolicy"],
    "ondemand": ["ServiceMonitor"],
    "persistence": [],
    "pool": ["Deployment", "Deployment", "Deployment", "NetworkPolicy", "NetworkPolicy", "NetworkPolicy", "Service"],
    "pod": ["ConfigMap", "ConfigMap"],
    "secrets": [],
    "shards": ["PodDisruptionBudget"],
    "standby": ["Lease", "Lease", "NetworkPolicy", "PodDisruptionBudget", "Role", "RoleBinding", "StatefulSet"],
    "tls": ["ServiceMonitor"],
}
OF_OTHERS = {"configsecret", "persistence"}
"""Here the configuration is other clients' object."""
FULLNAME = "rel-triton-canary"


# --- every values file -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", NAMES)
def test_helm_finds_nothing(name: str, version: str) -> None:
    report = lint(CHART, values_of(name), strict=True, kube_version=f"v{version}.0")
    assert report["errors"] == []
    # An icon is recommended, by its address; we have none to name.
    assert [message["error"] for message in report["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_rendered_is_all_of_it_and_valid(name: str) -> None:
    documents = render(values_of(name))
    expected = Counter(ALWAYS + MORE[name])
    if name in OF_OTHERS:
        expected -= Counter(["ConfigMap"])
    assert Counter(document["kind"] for document in documents) == expected
    for document in documents:
        check(document)


@pytest.mark.parametrize("name", NAMES)
def test_what_holds_for_all(name: str) -> None:
    documents = render(values_of(name))
    names = Counter((document["kind"], document["metadata"]["name"]) for document in documents)
    assert set(names.values()) == {1}
    for document in documents:
        if document["metadata"]["name"].endswith(("-inputs", "-text")):  # extraManifests are the user's
            continue
        assert document["metadata"]["namespace"] == {"pod": "canaries"}.get(name, "canary") or name == "monitoring"
        labels = document["metadata"]["labels"]
        assert labels["app.kubernetes.io/part-of"] == "triton-canary"
        assert labels["app.kubernetes.io/version"] == __version__
    workload = one(documents, "StatefulSet")["spec"]
    selector = workload["selector"]["matchLabels"]
    assert selector == {"app.kubernetes.io/name": "triton-canary", "app.kubernetes.io/instance": "rel"}
    assert selector.items() <= workload["template"]["metadata"]["labels"].items()
    assert one(documents, "Service")["spec"]["selector"] == selector
    # The test's pod must get no requests of the Service.
    assert not selector.items() <= one(documents, "Pod")["metadata"]["labels"].items()


@pytest.mark.parametrize("name", NAMES)
def test_the_pod_may_nothing_that_it_need_not(name: str) -> None:
    documents = render(values_of(name))
    for pod in (one(documents, "StatefulSet")["spec"]["template"]["spec"], one(documents, "Pod")["spec"]):
        is_daemon = pod["containers"][0]["name"] == "triton-canary"
        assert pod["automountServiceAccountToken"] is (is_daemon and name == "standby")
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == 10001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        (ours,) = [each for each in pod["containers"] if each["name"] in ("triton-canary", "health")]
        assert ours["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
    assert {"livenessProbe", "readinessProbe", "startupProbe"} <= container(documents).keys()


@pytest.mark.parametrize("name", sorted(set(NAMES) - OF_OTHERS))
def test_the_daemon_takes_its_configuration(name: str, tmp_path: Path) -> None:
    (text,) = [
        document["data"]["canary.yaml"]
        for document in render(values_of(name))
        if "canary.yaml" in document.get("data", {})
    ]
    path = tmp_path / "canary.yaml"
    path.write_text(text)
    environment = {entry["name"]: entry["value"] for entry in environment_of(name) if "value" in entry}
    settings = load(path, environment)
    assert settings.probes
    assert (settings.web.listen, settings.data_directory) == (":9787", "/var/lib/triton-canary")
    if name == "default":
        assert settings.probes[0].stop.max_requests == 1_000_000


def environment_of(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = container(render(values_of(name)))["env"]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_mount_has_its_volume(name: str) -> None:
    documents = render(values_of(name))
    workload = one(documents, "StatefulSet")["spec"]
    volumes = [volume["name"] for volume in workload["template"]["spec"]["volumes"]]
    volumes += [claim["metadata"]["name"] for claim in workload.get("volumeClaimTemplates", [])]
    mounts = container(documents)["volumeMounts"]
    assert sorted(volumes) == sorted(mount["name"] for mount in mounts)
    # By subPath a file would stay as it was when the object changes.
    assert not any("subPath" in mount for mount in mounts)
    paths = sorted(mount["mountPath"] for mount in mounts)
    assert all(earlier != later for earlier, later in pairwise(paths))


# --- single values ---------------------------------------------------------------------------------------------------


def test_the_chart_does_without_any_value() -> None:
    documents = render({})
    assert len(documents) == len(ALWAYS)
    assert "nothing to measure yet" in notes({})
    assert "nothing to measure yet" not in notes(values_of("default"))
    assert "Each pod shows the status page of its own shard" in notes({"shards": 2, "ingress": {"enabled": True}})


def test_the_schema_knows_the_values_and_no_others() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())

    def compare(given: Document, known: Document, path: str) -> None:
        if path not in ("", "global") and known.get("additionalProperties") is not False:
            return
        assert given.keys() == known["properties"].keys(), path
        for key, value in given.items():
            if isinstance(value, dict) and "properties" in known["properties"][key]:
                compare(value, known["properties"][key], f"{path}.{key}".lstrip("."))

    compare(values, schema, "")


def scraping(*probes: Document) -> Document:
    return {"config": {"web": {"probe": True}}, "serviceMonitor": {"enabled": True, "probes": list(probes)}}


@pytest.mark.parametrize(
    ("values", "reported"),
    [
        ({"replicas": 2}, "replicas"),
        ({"shards": 0}, "minimum"),
        ({"shards": "three"}, "integer"),
        ({"shardsBefore": 1001}, "maximum"),
        ({"service": {"port": 99999}}, "maximum"),
        ({"image": {"pullpolicy": "Always"}}, "pullpolicy"),
        ({"image": {"digest": "sha256:short"}}, "digest"),
        ({"configReload": "sometimes"}, "configReload"),
        ({"serviceMonitor": {"interval": "30"}}, "interval"),
        ({"serviceMonitor": {"interval": "30s1h"}}, "interval"),
        ({"serviceMonitor": {"interval": ""}}, "interval"),
        ({"serviceMonitor": {"probes": [{"target": "a", "module": "b"}]}}, "interval"),
        ({"serviceMonitor": {"probes": [{"target": "a", "probe": "b", "interval": "5m"}]}}, "probe"),
        ({"service": {"sessionAffinity": "ByCookie"}}, "sessionAffinity"),
        ({"secretMounts": [{"name": "asr"}]}, "secretName"),
        ({"persistence": {"size": "much"}}, "size"),
        ({"config": {"data_directory": "/data"}}, "config.data_directory: the chart sets it; see persistence"),
        ({"config": {"web": {"listen": ":80"}}}, "config.web.listen: the chart sets it; see service.port"),
        ({"shards": 2, "persistence": {"enabled": True, "existingClaim": "one"}}, "every shard needs its own"),
        ({"webConfig": {"tls": True}}, "webConfig.tls needs webConfig.existingSecret"),
        (
            {"existingConfigMap": "a", "configExistingSecret": "b"},
            "existingConfigMap, configExistingSecret: the configuration is in one of them",
        ),
        (
            {"serviceMonitor": {"enabled": True, "interval": "5s", "scrapeTimeout": "10s"}},
            "serviceMonitor.scrapeTimeout: 10s is longer than the interval, 5s, and prometheus-operator refuses that",
        ),
        (
            {"serviceMonitor": {"enabled": True, "interval": "1m30s", "scrapeTimeout": "90001ms"}},
            "serviceMonitor.scrapeTimeout: 90001ms is longer than the interval, 1m30s",
        ),
        (
            scraping(
                {"target": "a", "module": "b", "interval": "1m"},
                {"target": "a", "module": "c", "interval": "1m", "scrapeTimeout": "1h"},
            ),
            "serviceMonitor.probes[1].scrapeTimeout: 1h is longer than the interval, 1m",
        ),
        (
            scraping({"target": "a", "module": "b", "interval": "1m"}) | {"shards": 2},
            "serviceMonitor.probes: all shards would be asked",
        ),
        (
            scraping({"target": "a", "module": "b", "interval": "1m"}) | {"config": {"probes": []}},
            "serviceMonitor.probes needs config.web.probe: true",
        ),
        (
            {"prometheusRule": {"enabled": True, "alerts": {"TritonCanaryStail": {"enabled": False}}}},
            "prometheusRule.alerts.TritonCanaryStail: there is no such alert; there are TritonCanaryExporterDown, ",
        ),
    ],
)
def test_wrong_values_are_refused(values: Document, reported: str) -> None:
    with pytest.raises(HelmError, match=re.escape(reported)):
        render(values)


@pytest.mark.parametrize("key", ["app.kubernetes.io/name", "app.kubernetes.io/instance"])
@pytest.mark.parametrize("place", ["commonLabels", "podLabels", "service.labels"])
def test_what_pods_are_selected_by_is_the_charts(place: str, key: str) -> None:
    """Kubernetes refuses a StatefulSet that doesn't select its own pods."""
    labels: Document = {key: "x"}
    for part in reversed(place.split(".")):
        labels = {part: labels}
    with pytest.raises(HelmError, match=re.escape(f"{place}: {key} is what the pods are selected by")):
        render(labels)


def test_all_that_is_wrong_is_reported_at_once() -> None:
    with pytest.raises(HelmError) as caught:
        render({"webConfig": {"tls": True}, "commonLabels": {"app.kubernetes.io/name": "x"}})
    assert "webConfig.tls needs" in str(caught.value)
    assert "commonLabels: " in str(caught.value)


def test_other_labels_go_to_all() -> None:
    documents = render({"commonLabels": {"app.kubernetes.io/component": "canary", "team": "a"}})
    for labels in (
        one(documents, "Service")["metadata"]["labels"],
        one(documents, "StatefulSet")["spec"]["template"]["metadata"]["labels"],
    ):
        assert (labels["app.kubernetes.io/component"], labels["team"]) == ("canary", "a")
        assert labels["app.kubernetes.io/name"] == "triton-canary"


def test_image_names() -> None:
    digest = f"sha256:{'0' * 64}"
    for image, registry, expected in [
        ({}, "", f"triton-canary:{__version__}"),
        ({"registry": "a.example", "tag": "x"}, "", "a.example/triton-canary:x"),
        ({"registry": "a.example"}, "b.example/c", f"b.example/c/triton-canary:{__version__}"),
        ({"tag": "x", "digest": digest}, "", f"triton-canary@{digest}"),
    ]:
        values = {"image": image, "global": {"imageRegistry": registry}}
        assert container(render(values))["image"] == expected


@pytest.mark.parametrize(
    ("release", "expected"), [({"nameOverride": "x"}, "rel-x"), ({"fullnameOverride": "y" * 80}, "y" * 52)]
)
def test_names(release: Document, expected: str) -> None:
    assert one(render(release), "StatefulSet")["metadata"]["name"] == expected


def test_each_shard_gets_its_ordinal() -> None:
    documents = render(values_of("shards"))
    assert one(documents, "StatefulSet")["spec"]["replicas"] == 3
    ours = container(documents)
    (shard,) = [entry for entry in ours["env"] if entry["name"] == "SHARD"]
    assert shard["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.labels['apps.kubernetes.io/pod-index']"
    (argument,) = [text for text in ours["args"] if text.startswith("--shard=")]
    parts = [Shard.parse(argument.removeprefix("--shard=").replace("$(SHARD)", str(index))) for index in range(3)]
    assert parts == [Shard(0, 3), Shard(1, 3), Shard(2, 3)]
    assert not any("shard" in text for text in container(render({}))["args"])


@pytest.mark.parametrize(("shards", "before"), [(16, 12), (1, 3)])
def test_while_the_number_of_shards_changes_each_pod_knows_both(
    shards: int, before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[object] = []
    monkeypatch.setattr("exporter.daemon.daemon.serve", lambda *given: served.extend(given))
    values = {"shards": shards, "shardsBefore": before}
    ours = container(render(values))
    assert any(entry["name"] == "SHARD" for entry in ours["env"])
    assert cli.run([text.replace("$(SHARD)", "0") for text in ours["args"]]) == 0
    assert served[1] == Shard(0, shards, before=before)
    assert "upgrade again without `shardsBefore`" in notes(values)
    assert "shardsBefore" not in notes({"shards": shards})


def test_the_command_line_is_one_that_the_daemon_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[object] = []
    monkeypatch.setattr("exporter.daemon.daemon.serve", lambda *given: served.extend(given))
    arguments = container(render(values_of("shards")))["args"]
    assert cli.run([text.replace("$(SHARD)", "2") for text in arguments]) == 0
    assert Path("/etc/triton-canary/config/canary.yaml") in served
    assert Shard(2, 3) in served


def test_volumes_of_each_kind() -> None:
    def data(name: str) -> Document:
        volumes = one(render(values_of(name)), "StatefulSet")["spec"]["template"]["spec"]["volumes"]
        return {volume["name"]: volume for volume in volumes}

    assert "data" not in data("default"), "a claim of its own, which outlives the pod"
    (claim,) = one(render(values_of("default")), "StatefulSet")["spec"]["volumeClaimTemplates"]
    assert claim["metadata"]["name"] == "data"
    without = render({"persistence": {"enabled": False}})
    volumes = one(without, "StatefulSet")["spec"]["template"]["spec"]["volumes"]
    assert {"name": "data", "emptyDir": {"sizeLimit": "2Gi"}} in volumes
    assert data("persistence")["data"]["persistentVolumeClaim"] == {"claimName": "canary-data"}
    assert data("persistence")["config"]["configMap"] == {"name": "canary-configuration"}
    secret = {"secretName": "canary-configuration", "defaultMode": 0o440}
    assert data("configsecret")["config"] == {"name": "config", "secret": secret}
    assert "data" not in data("shards")
    assert data("shards")["baselines"]["persistentVolumeClaim"] == {"claimName": "canary-baselines"}
    (claim,) = one(render(values_of("shards")), "StatefulSet")["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["storageClassName"] == "fast"
    (claim,) = one(render({"persistence": {"enabled": True, "storageClass": "-"}}), "StatefulSet")["spec"][
        "volumeClaimTemplates"
    ]
    assert claim["spec"]["storageClassName"] == ""


def test_a_changed_configuration_replaces_the_pods_only_where_that_is_asked_for() -> None:
    def annotations(reload: str, model: str) -> Document:
        config = {"targets": [], "probes": [], "labels": {"model": model}}
        pods = one(render({"configReload": reload, "config": config}), "StatefulSet")["spec"]["template"]
        found: Document = pods["metadata"]["annotations"]
        return found

    assert annotations("watch", "a") == annotations("watch", "b")
    assert annotations("restart", "a") != annotations("restart", "b")


def test_with_tls_all_who_ask_use_it() -> None:
    documents = render(values_of("tls"))
    ours = container(documents)
    assert "--web.config.file=/etc/triton-canary/web/web.yaml" in ours["args"]
    probes = [ours[kind]["httpGet"] for kind in ("livenessProbe", "readinessProbe", "startupProbe")]
    assert {probe["scheme"] for probe in probes} == {"HTTPS"}
    assert one(documents, "ServiceMonitor")["spec"]["endpoints"][0]["scheme"] == "https"
    assert one(documents, "Pod")["spec"]["containers"][0]["args"][-1] == f"https://{FULLNAME}:9787"
    assert "tcpSocket" in container(render(values_of("pod")))["livenessProbe"]


def test_the_alerts_know_the_job() -> None:
    """`up{job=~".*triton-canary.*"}`: the operator makes `job` from the Service's label."""
    documents = render(values_of("monitoring") | {"fullnameOverride": "x", "nameOverride": "y"})
    monitor, service = one(documents, "ServiceMonitor")["spec"], one(documents, "Service")
    assert "triton-canary" in service["metadata"]["labels"][monitor["jobLabel"]]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    (endpoint,) = monitor["endpoints"]
    assert endpoint["interval"] == "30s"
    assert "scrapeTimeout" not in endpoint  # Prometheus's own is never longer than the interval


@pytest.mark.parametrize("interval", ["10s", "10001ms", "1m", "1h30m", "1d"])
def test_a_scrape_may_take_as_long_as_its_interval(interval: str) -> None:
    values = {"serviceMonitor": {"enabled": True, "interval": interval, "scrapeTimeout": "10s"}}
    (endpoint,) = one(render(values), "ServiceMonitor")["spec"]["endpoints"]
    assert parse_duration(endpoint["scrapeTimeout"]) <= parse_duration(endpoint["interval"])


def test_scrapes_that_measure_are_set_apart(tmp_path: Path) -> None:
    documents = render(values_of("ondemand"))
    metrics, *probes = one(documents, "ServiceMonitor")["spec"]["endpoints"]
    cluster = {"targetLabel": "cluster", "replacement": "west"}
    assert metrics == {
        "path": "/metrics",
        "port": "http",
        "scheme": "http",
        "interval": "30s",
        "honorLabels": False,
        "relabelings": [cluster],
    }
    first, second = probes
    assert first == {
        "path": "/probe",
        "params": {"target": ["triton"], "module": ["resnet50"]},
        "port": "http",
        "scheme": "http",
        "interval": "5m",
        "scrapeTimeout": "20s",
        "honorLabels": True,
        "relabelings": [
            cluster,
            {"targetLabel": "job", "replacement": "triton-on-demand"},
            {"targetLabel": "target", "sourceLabels": ["__param_target"]},
            {"targetLabel": "probe", "sourceLabels": ["__param_module"]},
        ],
    }
    assert (second["params"]["module"], "scrapeTimeout" in second) == (["bert"], False)

    # The daemon has them, and the page is on.
    path = tmp_path / "canary.yaml"
    path.write_text(one(documents, "ConfigMap")["data"]["canary.yaml"])
    settings = load(path, {})
    assert settings.web.probe
    known = {(probe.target, probe.name) for probe in settings.probes}
    assert {(each["params"]["target"][0], each["params"]["module"][0]) for each in probes} <= known
    # And a 429 of theirs isn't taken for a daemon that is down.
    down = 'up{job=~".*triton-canary.*"}'
    assert down in (ROOT / "dashboards" / "rules" / "triton-canary.rules.yaml").read_text()
    assert not re.fullmatch(".*triton-canary.*", "triton-on-demand")


def test_scrapes_that_measure_go_by_tls_with_the_others() -> None:
    values = values_of("tls") | {"config": values_of("ondemand")["config"]}
    values["serviceMonitor"] = values["serviceMonitor"] | {"probes": [{"target": "a", "module": "b", "interval": "5m"}]}
    metrics, probe = one(render(values), "ServiceMonitor")["spec"]["endpoints"]
    for key in ("scheme", "tlsConfig", "basicAuth"):
        assert probe[key] == metrics[key]
    assert probe["scheme"] == "https"


def test_a_browser_may_stay_with_its_pod() -> None:
    assert one(render(values_of("configsecret")), "Service")["spec"]["sessionAffinity"] == "ClientIP"
    assert "sessionAffinity" not in one(render({}), "Service")["spec"]


def test_it_is_waited_for_as_long_as_its_end_may_take() -> None:
    pod = one(render(values_of("default")), "StatefulSet")["spec"]["template"]["spec"]
    longest_seconds = Settings().limits.shutdown_timeout_ns / NS + CLOSE_LIMIT_SECONDS
    assert pod["terminationGracePeriodSeconds"] > longest_seconds + 5


def test_the_network_policy_lets_through_what_is_needed() -> None:
    policy = one(render(values_of("networkpolicy")), "NetworkPolicy")["spec"]
    (way_in,) = policy["ingress"]
    assert way_in["ports"] == [{"port": "http", "protocol": "TCP"}]
    monitoring, tests = way_in["from"]
    assert monitoring["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "monitoring"}
    # `helm test` runs beside the daemon.
    pod = one(render(values_of("networkpolicy")), "Pod")["metadata"]
    assert list(tests) == ["podSelector"]
    assert tests["podSelector"]["matchLabels"].items() <= pod["labels"].items()
    assert pod["namespace"] == "canary"
    names, *targets, servers = policy["egress"]
    assert [rule["ports"][0]["port"] for rule in targets] == [8000, 8002]
    assert {port["port"] for port in names["ports"]} == {53}
    assert [port["port"] for port in servers["ports"]] == [8000, 8001, 8002]
    assert "to" in servers
    open_ways = one(render({"networkPolicy": {"enabled": True, "restrictEgress": False}}), "NetworkPolicy")["spec"]
    assert open_ways["policyTypes"] == ["Ingress"]
    assert "egress" not in open_ways
    assert "from" not in open_ways["ingress"][0]


def egress(targets: list[Document], **policy: Any) -> list[Document]:
    values = {"config": {"targets": targets}, "networkPolicy": {"enabled": True} | policy}
    found: list[Document] = one(render(values), "NetworkPolicy")["spec"]["egress"]
    return found[1:]


def at(port: int) -> list[Document]:
    return [{"port": port, "protocol": "TCP"}]


def test_only_the_targets_may_be_reached() -> None:
    address, v6 = ([{"ipBlock": {"cidr": cidr}}] for cidr in ("10.0.0.7/32", "fd00::7/128"))
    inference = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "inference"}}}]
    own: list[Document] = [{"podSelector": {}}]
    for target, rules in (
        ({"url": "http://10.0.0.7"}, [{"to": address, "ports": at(8000)}, {"to": address, "ports": at(8002)}]),
        (
            {"url": "grpc://10.0.0.7:9001", "metrics_url": "http://10.0.0.7:9002/metrics"},
            [{"to": address, "ports": at(9001)}, {"to": address, "ports": at(9002)}],
        ),
        ({"url": "http://[fd00::7]:1"}, [{"to": v6, "ports": at(1)}, {"to": v6, "ports": at(8002)}]),
        ({"url": "grpc://triton.inference.svc:8001"}, [{"to": inference}]),
        ({"url": "grpc://triton.inference.svc.cluster.local"}, [{"to": inference}]),
        ({"url": "http://triton"}, [{"to": own}]),
        ({"url": "https://triton.example.com/path"}, [{"ports": at(443)}, {"ports": at(8002)}]),
        (
            {"url": "http://a.example", "kind": "torchserve", "management_url": "http://a.example:8081"},
            [{"ports": at(8080)}, {"ports": at(8082)}, {"ports": at(8081)}],
        ),
        (
            {"url": "http://x.example:1", "discover": {"http_sd": {"url": "https://sd.example/"}}},
            [{"ports": at(1)}, {"ports": at(8002)}, {"ports": at(443)}],
        ),
        (
            {
                "url": "http://x.example:1",
                "discover": {"http_sd": {"url": "https://sd.example/", "proxy_url": "http://10.0.0.7:3128"}},
            },
            [{"ports": at(1)}, {"ports": at(8002)}, {"ports": at(3128)}],
        ),
    ):
        assert egress([{"name": "t"} | target]) == rules, target
    both = [{"name": "a", "url": "http://10.0.0.7"}, {"name": "b", "url": "http://10.0.0.7"}]
    assert len(egress(both)) == 2
    assert egress(both, toTargets=False, to=[{"ports": at(5)}]) == [{"ports": at(5)}]
    assert egress(both, to=[{"ports": at(5)}])[2:] == [{"ports": at(5)}]
    assert [port["port"] for port in egress([])[0]["ports"]] == [8000, 8001, 8002]


@pytest.mark.parametrize("kind", [kind for kind, each in KINDS.items() if each.ports])
def test_the_chart_knows_each_kinds_ports(kind: str) -> None:
    page = int(KINDS[kind].metrics_page.partition("/")[0])
    for scheme, port in KINDS[kind].ports.items():
        rules = egress([{"name": "t", "kind": kind, "url": f"{scheme}://10.0.0.7"}])
        assert [rule["ports"] for rule in rules] == [at(each) for each in dict.fromkeys((port, page))]


def test_what_may_be_taken_is_bounded() -> None:
    monitor = one(render({"serviceMonitor": {"enabled": True}}), "ServiceMonitor")["spec"]
    assert monitor["bodySizeLimit"] == "32MiB"
    assert Settings().limits.max_series * SERIES_BYTES * 2 < 32 << 20
    assert (
        "bodySizeLimit"
        not in one(render({"serviceMonitor": {"enabled": True, "bodySizeLimit": ""}}), "ServiceMonitor")["spec"]
    )
    assert container(render({}))["resources"]["limits"] == {"memory": "2Gi"}


def test_the_route_of_the_gateway_api() -> None:
    assert one(render(values_of("exposed")), "HTTPRoute")["spec"] == {
        "parentRefs": [{"name": "gateway", "namespace": "gateways"}],
        "hostnames": ["canary.example.com"],
        "rules": [{"backendRefs": [{"name": FULLNAME, "port": 80}]}],
    }


# --- the README ------------------------------------------------------------------------------------------------------


def test_every_value_is_explained() -> None:
    assert [value.path for value in values_table.values() if len(value.comment) < 8] == []


def test_the_table_has_every_value_with_its_default() -> None:
    known = {value.path: value for value in values_table.values()}
    assert known["serviceMonitor.interval"].default == '"30s"'
    assert known["serviceMonitor.interval"].comment.startswith("How often /metrics is read")
    assert known["securityContext"].default is not None  # one value: its keys have no comments of their own
    assert "drop" in known["securityContext"].default
    assert known["service"].default is None

    def reached(given: Document, path: str) -> bool:
        for key, value in given.items():
            below = f"{path}{key}"
            default = known[below].default
            assert reached(value, f"{below}.") if default is None else json.loads(default) == value
        return True

    assert reached(yaml.safe_load((CHART / "values.yaml").read_text()), "")


def test_the_readme_has_the_table() -> None:
    """`python -m tests.helm.values_table` writes it."""
    readme = values_table.README.read_text()
    assert readme == values_table.with_table(readme)


def test_the_commands_of_the_readme_work_in_the_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[BaselineCommand] = []

    def run(command: BaselineCommand) -> str:
        commands.append(command)
        return ""

    monkeypatch.setattr("exporter.commands.baseline.command.run", run)
    text = values_table.README.read_text().replace("\\\n", " ")
    for line in re.findall(r" exec \S+ -- +triton-canary (baseline [^>\n]+)", text):
        assert cli.run(line.split()) == 0
    assert [command.action for command in commands] == ["export", "import", "import"]
    values = {"apiToken": {"existingSecret": "t"}, "webConfig": {"existingSecret": "w", "tls": True}}
    pod = container(render(values))
    mounts = [mount["mountPath"] for mount in pod["volumeMounts"]]
    for command in commands[1:]:
        assert str(command.file) == "/tmp/asr.baseline"  # the root is read-only
        assert {"name": "TRITON_CANARY_WEB__API_TOKEN_FILE", "value": str(command.token_file)} in pod["env"]
    assert (commands[1].url, commands[2].url) == ("http://127.0.0.1:9787", "https://127.0.0.1:9787")
    assert {"/tmp", str(commands[2].ca_file and commands[2].ca_file.parent)} <= set(mounts)


def test_the_versions_are_one() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (of_image,) = re.findall(r"^ARG VERSION=(.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert chart["appVersion"] == chart["version"] == project["version"] == of_image == __version__
