"""Baselines as a user writes them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from exporter.config.baseline_settings import BaselineSettings
from exporter.core.probe import PAGE, SLOW, WARN, BaselineOptions, Signal
from exporter.core.units import NS


def read(**values: Any) -> BaselineOptions:
    return BaselineSettings.model_validate(values).options


def test_the_defaults_are_the_probes_own() -> None:
    assert read() == BaselineOptions()
    assert read().tiers == (PAGE, WARN, SLOW)


def test_single_keys() -> None:
    options = read(
        pin_after="3d",
        provisional_after="6h",
        version_worse_by="20%",
        p50_floor="1ms",
        counts_interval="10m",
        refine_after="14d",
        timezone="Europe/Berlin",
        page={"worse_by": "50%", "signals": ["throughput"]},
        slow={"bad": 150},
    )
    assert (options.pin_ns, options.provisional_ns) == (3 * 86_400 * NS, 6 * 3600 * NS)
    assert (options.version_ratio, options.p50_floor_ns) == (1.2, 1_000_000)
    assert options.counts_interval_ns == 600 * NS
    assert (options.refine_ns, options.timezone) == (14 * 86_400 * NS, "Europe/Berlin")
    page, warn, slow = options.tiers
    assert (page.ratio, page.bad, page.signals) == (1.5, 14, (Signal.THROUGHPUT,))
    assert warn == WARN
    assert slow.bad == 150


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"page": {"bad": 19}}, "clear, 6, must be below bad, 19, and that at most of, 18"),
        ({"page": {"clear": 14}}, "clear, 14, must be below bad, 14"),
        ({"timezone": "Europe/Berlim"}, "zone"),
        ({"provisional_after": "8d"}, "provisional_after must be at most pin_after"),
        ({"warn": {"signals": ["p50"]}}, "latency_p50"),
        ({"page": {"worse_by": 0}}, "must be from 0.1% to 1000%"),
        ({"pin": "7d"}, "Extra inputs are not permitted"),
    ],
)
def test_what_is_wrong(values: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError) as caught:
        read(**values)
    assert problem in str(caught.value)
