"""What is discovered as probes: names, addresses, groups, labels, baselines, and the cap."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.baseline.key import baseline_key
from exporter.baseline.store import kept_as
from exporter.config import Settings, load
from exporter.core.probe import Probe
from exporter.core.target import Resolve
from exporter.discovery.expand import Expanded, capped, expand, own_settings, patterns
from exporter.discovery.found import Found, parse_groups
from exporter.schedule.sharding import Shard

FLEET = {
    "name": "fleet",
    "url": "grpcs://triton.example:9001",
    "metrics_url": "http://triton.example:8002/metrics",
    "discover": {"dns": True},
}
ASR = {"name": "asr", "target": "fleet", "model": "asr"}


def settings_of(folder: Path, *probes: dict[str, Any], target: dict[str, Any] | None = None, **more: Any) -> Settings:
    path = folder / "canary.yaml"
    values = {
        "targets": [target or FLEET, {"name": "alone", "url": "http://alone"}],
        "defaults": {"schedule": {"every": "5m"}, "load": {"concurrency": 1}},
        "probes": list(probes),
        **more,
    }
    path.write_text(yaml.safe_dump(values))
    return load(path, {})


def names(expanded: Expanded) -> list[str]:
    return [probe.name for probe in expanded.probes]


def test_a_name_s_addresses(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, ASR, {"name": "one", "target": "alone", "model": "m"})
    found = [Found("triton.example", 9001, "10.0.0.1"), Found("triton.example", 9001, "fd00::2")]
    assert names(expand(settings, {}, {})) == ["one"]
    expanded = expand(settings, {"fleet": found}, {})
    assert names(expanded) == ["asr/10.0.0.1:9001", "asr/[fd00::2]:9001", "one"]
    first, second, one = expanded.probes
    target = first.target
    assert (target.name, target.parent, first.parent) == ("fleet/10.0.0.1:9001", "fleet", "asr")
    assert (target.host, target.address, target.group) == ("triton.example", "10.0.0.1", "10.0.0.1")
    assert (target.metrics_url, second.target.metrics_url) == (
        "http://10.0.0.1:8002/metrics",
        "http://[fd00::2]:8002/metrics",
    )
    assert target.port == 9001
    assert target.resolve is Resolve.SWEEP
    assert (one.parent, one.target.parent) == ("", "")
    assert len({probe.config_hash for probe in expanded.probes}) == 3
    # Replicas share the baselines of their pattern: a new pod is compared with what the fleet was.
    assert kept_as(first) == kept_as(second) == "asr"
    assert baseline_key(first) == baseline_key(second)


def test_a_list_s_addresses(tmp_path: Path) -> None:
    target = FLEET | {"discover": {"file_sd": ["x.json"], "labels": ["zone"]}, "group": "speech"}
    settings = settings_of(tmp_path, ASR | {"labels": {"team": "a", "zone": "mine"}}, target=target)
    found = [Found("a.example", 1, labels=(("zone", "z"),)), Found("b.example")]
    first, second = expand(settings, {"fleet": found}, {}).probes
    assert (first.name, first.target.url) == ("asr/a.example:1", "grpcs://a.example:1")
    assert (second.name, second.target.url) == ("asr/b.example:9001", "grpcs://b.example:9001")
    assert (first.target.group, first.target.metrics_url) == ("speech", "http://a.example:8002/metrics")
    assert first.labels == (("team", "a"), ("zone", "mine"))  # what the configuration sets goes before


@pytest.mark.parametrize(
    ("metrics_url", "found"),
    [
        ("http://dcgm.example:9400/metrics", "http://dcgm.example:9400/metrics"),
        ("https://triton.example/metrics", "https://10.0.0.1/metrics"),
    ],
)
def test_whose_metrics(tmp_path: Path, metrics_url: str, found: str) -> None:
    settings = settings_of(tmp_path, ASR, target=FLEET | {"metrics_url": metrics_url})
    (probe,) = expand(settings, {"fleet": [Found("triton.example", 9001, "10.0.0.1")]}, {}).probes
    assert probe.target.metrics_url == found


def test_labels_of_a_list_fill_up_to_five(tmp_path: Path) -> None:
    target = FLEET | {"discover": {"file_sd": ["x"], "labels": ["e", "f", "g"]}}
    settings = settings_of(tmp_path, ASR | {"labels": dict.fromkeys("abc", "own")}, target=target)
    labels = (("e", "1"), ("f", "2"), ("g", "3"))
    (probe,) = expand(settings, {"fleet": [Found("h", labels=labels)]}, {}).probes
    assert [name for name, _ in probe.labels] == ["a", "b", "c", "e", "f"]


POOLED = {"from": ["zone-a", "zone-b"], "load": {"concurrency": 1, "pool": "tcp://dask:8786"}}


def test_places_come_before_models_and_addresses(tmp_path: Path) -> None:
    every = {"name": "every", "target": "alone", "models": "all-ready"} | POOLED
    target = FLEET | {"discover": {"file_sd": ["x.json"], "labels": ["place"]}}
    settings = settings_of(tmp_path, ASR | POOLED, every, target=target)
    found = [Found("a.example", 1, labels=(("place", "elsewhere"),)), Found("b.example", 1)]
    expanded = expand(settings, {"fleet": found}, {"alone": ["m"]})
    assert names(expanded) == [
        *("asr/zone-a/a.example:1", "asr/zone-a/b.example:1", "asr/zone-b/a.example:1", "asr/zone-b/b.example:1"),
        *("every/zone-a/m", "every/zone-b/m"),
    ]
    first = expanded.probes[0]
    assert (first.place, first.parent, kept_as(first), first.labels) == ("zone-a", "asr/zone-a", "asr/zone-a", ())
    assert first.target == expanded.probes[2].target
    assert patterns(settings) == [("fleet", "asr"), ("alone", "every")]
    kept, left_out = capped(
        settings_of(tmp_path, ASR | POOLED, target=target, limits={"max_discovered": 1}), {"fleet": found}
    )
    assert (len(kept["fleet"]), left_out) == (1, 2)


def test_all_ready_models(tmp_path: Path) -> None:
    every = {"name": "every", "models": "all-ready"}
    settings = settings_of(tmp_path, every | {"target": "alone"}, every | {"name": "each", "target": "fleet"})
    found = {"fleet": [Found("triton.example", 9001, "10.0.0.1")]}
    models = {"alone": ("asr", "vad"), "fleet/10.0.0.1:9001": ("tts",)}
    assert names(expand(settings, found, {})) == []
    expanded = expand(settings, found, models)
    assert [(probe.name, probe.model, probe.parent) for probe in expanded.probes] == [
        ("every/asr", "asr", ""),
        ("every/vad", "vad", ""),
        ("each/tts/10.0.0.1:9001", "tts", "each/tts"),
    ]


def pods(*numbers: int) -> dict[str, list[Found]]:
    return {"fleet": [Found("triton.example", 9001, f"10.0.0.{number}") for number in numbers]}


def test_the_cap_keeps_who_is_there_already(tmp_path: Path) -> None:
    settings = settings_of(
        tmp_path, ASR, {"name": "one", "target": "alone", "model": "m"}, limits={"max_discovered": 2}
    )

    def kept(*numbers: int, present: tuple[Probe, ...] = ()) -> Expanded:
        return expand(settings, pods(*numbers), {}, [n for each in present for n in (each.name, each.target.name)])

    first = kept(3, 4)
    assert (names(first), first.dropped) == (["asr/10.0.0.3:9001", "asr/10.0.0.4:9001", "one"], 0)
    more = kept(1, 2, 3, 4, present=first.probes)
    assert (more.probes, more.dropped) == (first.probes, 2)
    one_gone = kept(1, 2, 4, present=more.probes)
    assert (names(one_gone), one_gone.dropped) == (["asr/10.0.0.1:9001", "asr/10.0.0.4:9001", "one"], 1)


def test_a_cap_of_none_leaves_what_is_configured(tmp_path: Path) -> None:
    settings = settings_of(
        tmp_path, ASR, {"name": "one", "target": "alone", "model": "m"}, limits={"max_discovered": 0}
    )
    assert names(expand(settings, pods(*range(1, 200)), {})) == ["one"]


def test_each_shard_has_the_cap_for_what_is_its_own(tmp_path: Path) -> None:
    """Two daemons that found the same pods in another order: no group is left out while there is space for it."""
    settings = settings_of(tmp_path, ASR, limits={"max_discovered": 25})
    shards, everybody = [Shard(index, 2) for index in range(2)], range(1, 41)
    measured: list[str] = []
    for shard, first_seen in zip(shards, (range(1, 21), range(21, 41)), strict=True):
        before = names(expand(settings, pods(*first_seen), {}, (), shard.has))
        after = expand(settings, pods(*everybody), {}, before, shard.has)
        assert after.dropped == 0
        assert all(shard.has(probe.target.group) for probe in after.probes)
        measured += names(after)
    assert sorted(measured) == sorted(f"asr/10.0.0.{number}:9001" for number in everybody)


def test_over_the_cap_a_shard_counts_its_own(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, ASR, limits={"max_discovered": 5})
    shards = [Shard(index, 2) for index in range(2)]
    parts = [expand(settings, pods(*range(1, 41)), {}, (), shard.has) for shard in shards]
    own = [sum(shard.has(f"10.0.0.{number}") for number in range(1, 41)) for shard in shards]
    assert [len(part.probes) for part in parts] == [5, 5]
    assert [part.dropped for part in parts] == [count - 5 for count in own]


def test_a_shard_has_what_is_configured_by_group_and_in_its_order(tmp_path: Path) -> None:
    endpoints = [
        (f"{endpoint}-{number}", f"{endpoint}://10.0.1.{number}")
        for number in range(20)
        for endpoint in ("http", "grpc")
    ]
    path = tmp_path / "canary.yaml"
    values = {
        "targets": [{"name": name, "url": url} for name, url in endpoints],
        "defaults": {"schedule": {"every": "5m"}, "load": {"concurrency": 1}},
        "probes": [{"name": name, "target": name, "model": "m"} for name, _ in endpoints],
    }
    path.write_text(yaml.safe_dump(values))
    parts = [expand(load(path, {}), {}, {}, (), Shard(index, 3).has).probes for index in range(3)]
    for index, part in enumerate(parts):
        expected = [name for name, _ in endpoints if Shard(index, 3).has(f"10.0.1.{name.partition('-')[2]}")]
        assert [probe.name for probe in part] == expected
    assert sum(map(len, parts)) == len(endpoints)


def test_a_shard_keeps_the_settings_of_its_own_targets_and_of_those_that_are_discovered(tmp_path: Path) -> None:
    on_fleet, alone = ASR, {"name": "one", "target": "alone", "model": "m"}
    settings = settings_of(tmp_path, on_fleet, alone)
    kept = own_settings(settings, lambda group: group == "alone")
    assert kept == settings
    kept = own_settings(settings, lambda _group: False)
    assert [target.name for target in kept.targets] == ["fleet"]
    assert [probe.name for probe in kept.probes] == ["asr"]
    assert kept.limits == settings.limits
    found = {"fleet": [Found("triton.example", 9001, "10.0.0.1")]}
    for measured in (lambda group: group == "alone", lambda group: group != "alone"):
        whole = expand(settings, found, {}, measured=measured)
        assert expand(own_settings(settings, measured), found, {}, measured=measured) == whole


@pytest.mark.parametrize(
    ("listed", "found"),
    [
        (["a", "a:9001", "A:9001"], ["asr/a:9001"]),
        (
            ["a:9001", "a:1", "B.Example", "b.example:1"],
            ["asr/a:1", "asr/a:9001", "asr/b.example:9001", "asr/b.example:1"],
        ),
        (["[FD00::1]", "[fd00::1]:9001"], ["asr/[fd00::1]:9001"]),
    ],
)
def test_one_address_written_in_many_ways_is_one(listed: list[str], found: list[str], tmp_path: Path) -> None:
    settings = settings_of(tmp_path, ASR, target=FLEET | {"discover": {"file_sd": ["x.json"]}})
    expanded = expand(settings, {"fleet": parse_groups([{"targets": listed}], ())}, {})
    assert names(expanded) == found


def test_which_names_are_patterns(tmp_path: Path) -> None:
    every = {"name": "every", "target": "alone", "models": "all-ready"}
    settings = settings_of(tmp_path, ASR, {"name": "one", "target": "alone", "model": "m"}, every)
    assert patterns(settings) == [("fleet", "asr"), ("alone", "every")]
