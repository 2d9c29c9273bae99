"""Compare variants: the probes of one `variant_group`, each against a reference, level by level."""

from __future__ import annotations

from dashboards.generate.board import Board, change_annotations
from dashboards.generate.panels import COMPONENT_COLORS, TIMES, Column, bars, curves, lines, rows
from dashboards.generate.queries import BY_PROBE, FLEET, Query, metric

INFO = "triton_canary_probe_info"
IN_GROUP = f'{FLEET}, variant_group="$variant_group"'
GROUP = f'{IN_GROUP}, place=~"$place"'


def board() -> Board:
    it = Board(
        "triton-canary-compare",
        "Triton Canary / Compare variants",
        "Variants of one model, such as ONNX and TensorRT or FP32 and FP16, or one model from several places, side by "
        "side at the same levels.",
    )
    jobs = 'job=~"$job", instance=~"$instance"'
    it.many("target", "Target", f'label_values({INFO}{{{jobs}, variant_group!=""}}, target)')
    it.many("model", "Model", f'label_values({INFO}{{{jobs}, target=~"$target", variant_group!=""}}, model)')
    it.one("variant_group", "Group", f'label_values({INFO}{{{FLEET}, variant_group!=""}}, variant_group)')
    it.many("place", "Places", f'label_values({INFO}{{{IN_GROUP}, place!=""}}, place)', without=True)
    it.one("reference", "Reference", f"label_values({INFO}{{{GROUP}}}, variant)")
    it.many("variant", "Variants", f"label_values({INFO}{{{GROUP}}}, variant)")
    it.one("level", "Level", f"label_values(triton_canary_level_value{{{FLEET}}}, level)", numeric=True)
    it.choice("percentile", "Percentile", "99", ["50", "90", "95", "99", "99.9"])
    it.annotations = change_annotations(f'{GROUP}, variant=~"$variant"')
    _curves(it)
    _ratios(it)
    _over_time(it)
    _parts(it)
    return it


def _of(values: str, *, reference: bool = False) -> str:
    """The values with the label `variant` from the probe's information."""
    chosen = 'variant="$reference"' if reference else 'variant=~"$variant"'
    info = f"max by ({BY_PROBE}, variant) ({INFO}{{{GROUP}, {chosen}}})"
    return f"{values} * on ({BY_PROBE}) group_left (variant) {info}"


LATENCY = metric("latency_seconds", FLEET, percentile="$percentile")
THROUGHPUT = metric("throughput_inferences_per_second", FLEET)


def _ratio(values: str) -> str:
    """Each variant's values over the reference's at the same level."""
    variants = f"max by (variant, mode, level) ({_of(values)})"
    reference = f"max by (mode, level) ({_of(values, reference=True)})"
    return f"{variants} / on (mode, level) group_left () ({reference} > 0)"


def _curves(it: Board) -> None:
    latency = curves(
        "p$percentile against load",
        "The chosen percentile of the last finished sweep over its levels, a line for each variant. Where several "
        "probes are one variant, the slowest.",
        "s",
        Query(f"max by (variant, level) ({_of(LATENCY)})"),
        by="variant",
    )
    throughput = curves(
        "Throughput against load",
        "Inferences per second of the last finished sweep over its levels, a line for each variant.",
        "suffix:inf/s",
        Query(f"max by (variant, level) ({_of(THROUGHPUT)})"),
        by="variant",
    )
    about = rows(
        "Variants",
        "What is compared: each probe of the group, and the server's description of its model.",
        {
            "variant": "Variant",
            "target": "Target",
            "probe": "Probe",
            "model": "Model",
            "version": "Version",
            "backend": "Backend",
            "platform": "Platform",
            "batch_size": "Batch size",
            "protocol": "Protocol",
            "place": "Place",
        },
        Column(
            "max by (variant, target, probe, model, version, backend, platform, batch_size, protocol, place)"
            f' ({INFO}{{{GROUP}, variant=~"$variant"}})',
            "",
        ),
    )
    it.row("Load curves of the last finished sweeps", (9, [latency, throughput]), (6, [about]))


def _ratios(it: Board) -> None:
    latency = bars(
        "p$percentile relative to $reference",
        "Each variant's percentile over the reference's, at the same level: under 1 is faster.",
        TIMES,
        Query(f"max by (variant, level) ({_ratio(LATENCY)})"),
        along="level",
        by="variant",
    )
    speed_up = bars(
        "Throughput relative to $reference",
        "Each variant's inferences per second over the reference's, at the same level: above 1 it gets more done.",
        TIMES,
        Query(f"max by (variant, level) ({_ratio(THROUGHPUT)})"),
        along="level",
        by="variant",
    )
    it.row("Each variant against $reference, by level", (8, [latency, speed_up]))


def _over_time(it: Board) -> None:
    latency = metric("latency_seconds", FLEET, level="$level", percentile="$percentile")
    throughput = metric("throughput_inferences_per_second", FLEET, level="$level")
    percentile = lines(
        "p$percentile at level $level",
        "The chosen percentile at the chosen level, over time.",
        "s",
        Query(f"max by (variant) ({_of(latency)})", "{{variant}}"),
    )
    ratio = lines(
        "Throughput relative to $reference at level $level",
        "Each variant's inferences per second over the reference's at the chosen level, over time.",
        TIMES,
        Query(f"max by (variant) ({_ratio(throughput)})", "{{variant}}"),
        minimum=None,
    )
    it.row("Over time", (8, [percentile, ratio]))


def _parts(it: Board) -> None:
    component = metric("latency_breakdown_seconds", FLEET, level="$level")
    energy = metric("energy_per_inference_joules", FLEET)
    memory = metric("gpu_memory_used_bytes", FLEET)
    breakdown = bars(
        "Where the time goes at level $level",
        "The mean latency of the last finished sweep by component, for each variant. Green is the model's work.",
        "s",
        Query(f"max by (variant, component) ({_of(component)})"),
        along="variant",
        by="component",
        width=12,
        stacked=True,
        colors=COMPONENT_COLORS,
    )
    joules = bars(
        "Energy per inference",
        "Energy of the server's GPUs by the variant's inferences, idle power and other models included, by level.",
        "joule",
        Query(f"max by (variant, level) ({_of(energy)})"),
        along="level",
        by="variant",
        width=6,
    )
    bytes_used = bars(
        "GPU memory used",
        "Most memory used of each GPU of the server during the last finished sweep, whoever used it.",
        "bytes",
        Query(f"max by (variant, gpu) ({_of(memory)})"),
        along="gpu",
        by="variant",
        width=6,
    )
    it.row("Why", (8, [breakdown, joules, bytes_used]))
