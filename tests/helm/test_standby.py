"""The chart's standby pairs: what they share, and what they may."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from helm_python import Chart, HelmError

from exporter.config.loading import load
from exporter.daemon.standby import lease_name
from exporter.schedule.sharding import Shard
from tests.helm.chart import CHART, Document, container, notes, one, render, values_of

FULLNAME = "rel-triton-canary"


def sets(documents: list[Document]) -> list[Document]:
    return [each for each in documents if each["kind"] == "StatefulSet"]


def test_both_halves_are_alike_but_for_their_names() -> None:
    first, second = sets(render(values_of("standby")))
    assert (first["metadata"]["name"], second["metadata"]["name"]) == (FULLNAME, f"{FULLNAME}-second")
    assert first["spec"]["replicas"] == second["spec"]["replicas"] == 2
    assert first["spec"]["template"]["spec"] == second["spec"]["template"]["spec"]
    assert first["spec"]["volumeClaimTemplates"] == second["spec"]["volumeClaimTemplates"]
    own = second["spec"]["selector"]["matchLabels"]
    assert own.items() <= second["spec"]["template"]["metadata"]["labels"].items()
    assert not own.items() <= first["spec"]["template"]["metadata"]["labels"].items()
    # The pages of both are behind one Service.
    service = one(render(values_of("standby")), "Service")["spec"]["selector"]
    for each in (first, second):
        assert service.items() <= each["spec"]["template"]["metadata"]["labels"].items()


def test_turning_it_on_changes_nothing_that_cannot_be_changed() -> None:
    before = sets(render(values_of("standby") | {"standby": {"enabled": False}}))[0]["spec"]
    after = sets(render(values_of("standby")))[0]["spec"]
    for key in ("selector", "serviceName", "volumeClaimTemplates", "podManagementPolicy"):
        assert before[key] == after[key]


def test_the_daemon_takes_the_lease_that_the_chart_made(tmp_path: Path) -> None:
    documents = render(values_of("standby"))
    variables = {entry["name"]: entry["value"] for entry in container(documents)["env"] if "value" in entry}
    path = tmp_path / "canary.yaml"
    path.write_text(one(documents, "ConfigMap")["data"]["canary.yaml"])
    settings = load(path, variables).standby
    assert settings.lease == "kubernetes"
    assert settings.duration_ns == 20 * 10**9
    leases = [each for each in documents if each["kind"] == "Lease"]
    names = [lease_name(settings.name, shard) for shard in (Shard(0, 2), Shard(1, 2))]
    assert [each["metadata"]["name"] for each in leases] == names
    # An upgrade must not take the lease from who holds it.
    assert not any("spec" in each for each in leases)


def test_while_shards_go_their_pods_have_their_leases() -> None:
    values: Document = {"standby": {"enabled": True}, "shards": 2, "shardsBefore": 4}
    assert sum(each["kind"] == "Lease" for each in render(values)) == 4
    assert len(one(render(values), "Role")["rules"][0]["resourceNames"]) == 4


def test_the_daemon_may_replace_its_leases_and_nothing_else() -> None:
    documents = render(values_of("standby"))
    leases = [each["metadata"]["name"] for each in documents if each["kind"] == "Lease"]
    assert one(documents, "Role")["rules"] == [
        {
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "resourceNames": leases,
            "verbs": ["get", "update"],
        }
    ]
    binding = one(documents, "RoleBinding")
    assert binding["roleRef"]["name"] == one(documents, "Role")["metadata"]["name"]
    (subject,) = binding["subjects"]
    account = one(documents, "ServiceAccount")["metadata"]
    assert (subject["name"], subject["namespace"]) == (account["name"], account["namespace"])
    assert one(documents, "StatefulSet")["spec"]["template"]["spec"]["serviceAccountName"] == account["name"]
    kinds = {each["kind"] for each in render(values_of("default"))}
    assert not kinds & {"Lease", "Role", "RoleBinding"}


def test_the_policy_lets_it_reach_the_api_server() -> None:
    rules = one(render(values_of("standby")), "NetworkPolicy")["spec"]["egress"]
    assert {"ports": [{"port": 443, "protocol": "TCP"}, {"port": 6443, "protocol": "TCP"}]} in rules


def test_a_pair_is_spread_over_nodes_unless_the_user_decides() -> None:
    spec = one(render(values_of("standby")), "StatefulSet")["spec"]["template"]["spec"]
    (term,) = spec["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert term["podAffinityTerm"]["topologyKey"] == "kubernetes.io/hostname"
    own: Document = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}
    decided = render(values_of("standby") | {"affinity": own})
    assert one(decided, "StatefulSet")["spec"]["template"]["spec"]["affinity"] == own


@pytest.mark.parametrize("length", [1, 44, 45, 46, 80])
def test_long_names_stay_two(length: int) -> None:
    first, second = sets(render(values_of("standby") | {"fullnameOverride": "y" * length}))
    assert first["metadata"]["name"] != second["metadata"]["name"]
    assert len(second["metadata"]["name"]) <= 52


def test_the_configuration_must_not_set_it_too() -> None:
    config: Document = {"targets": [], "probes": [], "standby": {"lease": "file"}}
    with pytest.raises(HelmError, match=re.escape("config.standby: the chart sets it; see standby")):
        render({"standby": {"enabled": True}, "config": config})
    render({"config": config})


def upgrade(folder: Path, running: list[Document], values: Document) -> None:
    """Renders the chart as beside these objects. The library has no cluster to look them up in."""
    copy = folder / "chart"
    shutil.copytree(CHART, copy, dirs_exist_ok=True)
    helpers = copy / "templates" / "_helpers.tpl"
    in_file = '(get ($.Files.Get "cluster.json" | fromJson) . | default dict)'
    text, replaced = re.subn(r"\(lookup [^\n]+ \.\)", lambda _: in_file, helpers.read_text())
    assert replaced == 1
    helpers.write_text(text)
    (copy / "cluster.json").write_text(json.dumps({each["metadata"]["name"]: each for each in running}))
    Chart.load(copy).render(values, name="rel", namespace="canary")


def scaled(documents: list[Document], asked: int, there: int) -> list[Document]:
    return [
        each | {"spec": each["spec"] | {"replicas": asked}, "status": {"replicas": there}} for each in sets(documents)
    ]


def test_it_is_turned_on_and_off_only_while_nothing_measures(tmp_path: Path) -> None:
    single: Document = {"standby": {"enabled": False}}
    pair: Document = {"standby": {"enabled": True}}
    both = f"scale statefulset/{FULLNAME} statefulset/{FULLNAME}-second to 0"
    for before, after, problem in ((single, pair, f"scale statefulset/{FULLNAME} to 0"), (pair, single, both)):
        for asked, there in ((1, 1), (1, 0), (0, 1)):
            running = scaled(render(before), asked, there)
            with pytest.raises(HelmError, match=re.escape(problem)):
                upgrade(tmp_path, running, after)
            upgrade(tmp_path, running, before)
        upgrade(tmp_path, scaled(render(before), 0, 0), after)
    upgrade(tmp_path, [], pair)


def test_the_notes_name_both() -> None:
    printed = notes(values_of("standby"))
    for name in (FULLNAME, f"{FULLNAME}-second"):
        assert f"rollout status statefulset/{name}\n" in printed
    assert "-second" not in notes({})
