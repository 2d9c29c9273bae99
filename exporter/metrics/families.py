"""The metric families of probes and targets: names, types and help, in page order. The metric contract as a table.

Only what this package can know is here. It must not know how a value comes about.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from exporter.core.probe import MAX_COMPOSING_MODELS
from exporter.metrics import stream_families, token_families
from exporter.metrics.family import PREFIX, Family, FamilyTable, L, P
from exporter.server import MAX_GPUS

INFO_LABELS: Final = (
    "version",
    "platform",
    "backend",
    "batch_size",
    "protocol",
    "kind",
    "url",
    "config_hash",
    "model_config_hash",
    "variant",
    "variant_group",
    "priority",
)
"""What changes by itself, of `probe_info`."""


_table = FamilyTable(PREFIX, L)
_family = _table.family

_LAST = " Of the last sweep with usable data; absent once that is 3 intervals old."
_LAST_OK = _LAST + " Absent without ok requests."
_LAST_ANY = " Of the last finished sweep; absent once that is 3 intervals old."

# --- state of a probe: never expires while the probe is configured ---------------------------------------------------

UP = _family(
    "gauge",
    "up",
    "1 if the last sweep got usable data, 0 if it failed. A skip never changes it. Absent before the first sweep.",
    P,
)
LAST_RUN = _family(
    "gauge", "last_run_timestamp_seconds", "Unix time at which the last sweep ended; kept over a restart. 0 = never.", P
)
LAST_SUCCESS = _family(
    "gauge",
    "last_success_timestamp_seconds",
    "Unix time at which the last sweep with usable data ended; kept over a restart. 0 = never.",
    P,
)
NEXT_RUN = _family(
    "gauge", "next_run_timestamp_seconds", "Unix time at which the next sweep is due. 0 = none is planned.", P
)
INTERVAL = _family(
    "gauge", "interval_seconds", "Configured seconds between two sweeps; for cron the longest gap ahead.", P
)
RESULTS_DROPPED = _family(
    "gauge",
    "results_dropped",
    "1 if the level results of this probe are dropped because of limits.max_series, else 0.",
    P,
)
RUNNING = _family("gauge", "running", "1 while a sweep of this probe runs, else 0.", P)
PAUSED = _family("gauge", "paused", "1 while this probe is paused, else 0.", P)
PROBE_INFO = _family(
    "gauge",
    "probe_info",
    "Always 1; the labels are properties that change by themselves or come from the user. Unknown labels are empty.",
    (*P, *INFO_LABELS),
)
TARGET_INFO = _family(
    "gauge",
    "target_info",
    "Always 1; the target's URL and the host:port of its metrics URL (empty without one), for joins with its own "
    "metrics.",
    ("target", "url", "metrics_instance"),
)

_REPLICAS = " For targets with discover, under the target's and the probe's configured names."
REPLICAS = _family("gauge", "replicas", "Known replicas." + _REPLICAS, P)
REPLICAS_UP = _family("gauge", "replicas_up", "Replicas whose last sweep got usable data." + _REPLICAS, P)

# --- results of the last sweep ---------------------------------------------------------------------------------------

LEVEL_VALUE = _family("gauge", "level_value", "The load level as a number: the x axis of a load curve." + _LAST)
LEVEL_BATCH_SIZE = _family(
    "gauge",
    "level_batch_size",
    "Inferences per request at a level of a matrix (load.batch_size)." + _LAST + " Absent at other levels.",
)
STABLE = _family("gauge", "stable", "1 if the level met its stability rule, else 0." + _LAST)
LATENCY = _family(
    "gauge",
    "latency_seconds",
    "Exact percentiles of the time from sending to the last byte of the response, of ok requests in the merged windows."
    + _LAST
    + " Absent without ok requests.",
    (*L, "percentile"),
)
LATENCY_MEAN = _family("gauge", "latency_mean_seconds", "Mean latency of ok requests in the merged windows." + _LAST_OK)
LATENCY_STDDEV = _family(
    "gauge",
    "latency_stddev_seconds",
    "Standard deviation of the latency of ok requests in the merged windows." + _LAST_OK,
)
LATENCY_MIN = _family(
    "gauge", "latency_min_seconds", "Minimum latency of ok requests in the merged windows." + _LAST_OK
)
LATENCY_MAX = _family(
    "gauge", "latency_max_seconds", "Maximum latency of ok requests in the merged windows." + _LAST_OK
)
RESPONSE_TIME = _family(
    "gauge",
    "response_time_seconds",
    "Percentiles of the time from when a request was due to the last byte "
    "of its response; requests that timed out or were not sent count with "
    "the time-out." + _LAST + " Absent in closed-loop modes.",
    (*L, "percentile"),
)
FIRST_RESPONSE = _family(
    "gauge",
    "first_response_seconds",
    "Percentiles of the time from sending to the first response, of ok "
    "requests." + _LAST + " Absent without streaming.",
    (*L, "percentile"),
)
INTER_RESPONSE = _family(
    "gauge",
    "inter_response_seconds",
    "Percentiles of the time from one response of a request to its next, of ok requests."
    + _LAST
    + " Absent without streaming, or if no request has two.",
    (*L, "percentile"),
)
THROUGHPUT = _family(
    "gauge",
    "throughput_inferences_per_second",
    "Ok requests times batch size, per second of the merged windows." + _LAST,
)
THROUGHPUT_UNITS = _family(
    "gauge",
    "throughput_units_per_second",
    "Throughput in the probe's unit." + _LAST + " Absent without a unit.",
    (*L, "unit"),
)
RESPONSES_PER_SECOND = _family(
    "gauge",
    "responses_per_second",
    "Responses per second of the merged windows." + _LAST + " Absent unless the model is decoupled.",
)
SEQUENCES_PER_SECOND = _family(
    "gauge",
    "sequences_per_second",
    "Sequences whose last request was ok, per second of the merged windows." + _LAST + " Absent without sequences.",
)
OFFERED = _family(
    "gauge", "offered_requests_per_second", "Requests actually sent, per second of the merged windows." + _LAST
)
UNSENT_RATIO = _family(
    "gauge",
    "unsent_ratio",
    "Requests that were due but not sent, divided by all that were due, 0..1: given up while they waited "
    "for a slot or the server had a pause, or waiting longer and longer." + _LAST,
)
SEND_LAG = _family(
    "gauge",
    "send_lag_seconds",
    "Percentiles of the time from when a request was due to when it was "
    "sent." + _LAST + " Absent in closed-loop modes.",
    (*L, "percentile"),
)
ERROR_RATIO = _family(
    "gauge",
    "error_ratio",
    "Requests neither ok nor cancelled, divided by all not cancelled, in the "
    "merged windows, 0..1; responses that were not validated for lack of time "
    "count as wrong in the same proportion as validated ones." + _LAST + " Absent without requests.",
)
MEASURED_REQUESTS = _family(
    "gauge",
    "measured_requests",
    "Requests in the merged windows that these figures come from, without cancelled ones." + _LAST,
)
VALIDATED_REQUESTS = _family(
    "gauge",
    "validated_requests",
    "Requests in the merged windows whose responses were compared with expected ones. Absent without "
    "validation." + _LAST,
)
OUTPUT_ERROR_MAX = _family(
    "gauge",
    "output_error_max",
    "Largest difference between a number in those responses and the expected or reference one. Absent without numbers."
    + _LAST,
)
BREAKDOWN = _family(
    "gauge",
    "latency_breakdown_seconds",
    "Mean seconds by component; they add up to the mean latency."
    + _LAST
    + " A component that the server does not report is absent; with more than 5 % foreign traffic all of the "
    "server's are.",
    (*L, "component"),
)
REPLICAS_LATENCY = _family(
    "gauge",
    "replicas_latency_median_seconds",
    "Median over the replicas of their median latencies." + _REPLICAS + " Absent without results.",
)
REPLICAS_OUTLIER = _family(
    "gauge",
    "replicas_outlier_ratio",
    "Largest median latency of a replica divided by the median of all."
    + _REPLICAS
    + " Absent with fewer than two results.",
)
CONNECT = _family(
    "gauge", "connect_seconds", "Time to open the sweep's first connection, never part of a latency." + _LAST_ANY, P
)
TLS_HANDSHAKE = _family(
    "gauge",
    "tls_handshake_seconds",
    "Time of the first connection's TLS handshake." + _LAST_ANY + " Absent without TLS.",
    P,
)
COLD_FIRST_REQUEST = _family(
    "gauge", "cold_first_request_seconds", "Latency of the sweep's first request." + _LAST_ANY, P
)
CERTIFICATE_EXPIRY = _family(
    "gauge",
    "certificate_expiry_timestamp_seconds",
    "Unix time at which the target's leaf certificate expires, as presented to the last sweep."
    + _LAST_ANY
    + " Absent without TLS.",
    ("target",),
)
SPREAD_RATIO = _family(
    "gauge",
    "spread_ratio",
    "Largest divided by smallest figure of the judged windows, the worse of throughput and latency."
    + _LAST
    + " Absent if a window had no ok request.",
)
WINDOWS = _family("gauge", "measurement_windows", "Measured windows of the level." + _LAST)
CLIENT_LIMITED = _family(
    "gauge", "client_limited", "1 if this client, not the server, limited the figures, else 0." + _LAST
)
CLIENT_LOOP_LAG = _family(
    "gauge",
    "client_loop_lag_seconds",
    "Largest delay of the load generator's event loop in the merged windows." + _LAST,
)
CLIENT_CPU = _family(
    "gauge", "client_cpu_ratio", "CPU time of the load generator divided by window time; 1 is a whole core." + _LAST
)
_NO_POOL = " Absent without load.pool."
CLOCK_ERROR = _family(
    "gauge",
    "client_clock_error_seconds",
    "The most by which an edge of the merged windows may be elsewhere than stated, because another machine's clock set "
    "it." + _LAST + _NO_POOL,
)
CLOCK_UNCERTAIN = _family(
    "gauge",
    "client_clock_uncertain",
    "1 if that is more than 1 % of one of the windows, else 0." + _LAST + _NO_POOL,
)
SERVER_REQUEST_MEAN = _family(
    "gauge",
    "server_request_mean_seconds",
    "Mean time of a successful request in the server's own statistics over the merged windows, for all clients."
    + _LAST
    + " Absent if the server has no statistics.",
)
SERVER_BATCH_SIZE = _family(
    "gauge",
    "server_batch_size_mean",
    "Inferences divided by executions in the server's statistics over the merged windows, for all clients."
    + _LAST
    + " Absent if the server has no statistics.",
)
SERVER_CACHE_HIT_RATIO = _family(
    "gauge",
    "server_cache_hit_ratio",
    "Response cache hits divided by look-ups in the merged windows, 0..1." + _LAST + " Absent without look-ups.",
)
FOREIGN_RATIO = _family(
    "gauge",
    "server_foreign_requests_ratio",
    "Part of the server's requests in the merged windows that "
    "this client did not send, 0..1; 0 if it may only be the "
    "requests in flight at the windows' edges." + _LAST + " Absent if the server has no statistics.",
)
_NO_PAGE = " Absent if the target's metrics URL does not report it."
SERVER_METRICS_UP = _family(
    "gauge",
    "server_metrics_up",
    "1 if the last read of the target's metrics URL in the last sweep succeeded, else 0."
    + _LAST
    + " Absent if the target has none.",
    ("target",),
)
SERVER_PENDING = _family(
    "gauge",
    "server_pending_requests_max",
    "Most requests of the model in the server's queue, of the readings in the merged windows." + _LAST + _NO_PAGE,
)
SERVER_PERCENTILE = _family(
    "gauge",
    "server_percentile_seconds",
    "Percentiles of the server's own histograms (component: first_response, queue, request, first_token), of all its "
    "clients, by what they counted over the merged windows; interpolated within a bucket, absent above the last bound."
    + _LAST
    + _NO_PAGE,
    (*L, "component", "percentile"),
)
SERVER_CPU = _family(
    "gauge",
    "server_cpu_utilization_ratio",
    "Mean CPU utilization of the server's machine over the merged windows, 0..1." + _LAST + _NO_PAGE,
)
SERVER_CPU_MEMORY = _family(
    "gauge",
    "server_cpu_memory_used_bytes",
    "Peak memory use of the server's machine in the merged windows." + _LAST + _NO_PAGE,
)
SERVER_PINNED_MEMORY = _family(
    "gauge",
    "server_pinned_memory_used_bytes",
    "Peak use of the server's pinned memory pool in the merged windows." + _LAST + _NO_PAGE,
)
_GPU: Final = (*L, "gpu", "source")
_NO_GPU = _LAST + f" Absent if neither the metrics URL nor this machine's driver reports it; at most {MAX_GPUS} GPUs."
GPU_UTILIZATION = _family(
    "gauge", "gpu_utilization_ratio", "Mean utilization of the GPU over the merged windows, 0..1." + _NO_GPU, _GPU
)
GPU_POWER = _family("gauge", "gpu_power_watts", "Mean power of the GPU over the merged windows." + _NO_GPU, _GPU)
GPU_MEMORY_USED = _family(
    "gauge", "gpu_memory_used_bytes", "Peak memory use of the GPU in the merged windows." + _NO_GPU, _GPU
)
GPU_MEMORY_TOTAL = _family(
    "gauge",
    "gpu_memory_total_bytes",
    "Total memory of the GPU, from the first reading in the merged windows." + _NO_GPU,
    _GPU,
)
GPU_TEMPERATURE = _family(
    "gauge", "gpu_temperature_celsius", "Highest temperature of the GPU in the merged windows." + _NO_GPU, _GPU
)
GPU_CLOCK = _family(
    "gauge", "gpu_clock_hertz", "Mean clock of the GPU's multiprocessors over the merged windows." + _NO_GPU, _GPU
)
GPU_THROTTLED = _family(
    "gauge",
    "gpu_throttled_ratio",
    "Part of the readings in the merged windows in which this reason reduced the GPU's clock, 0..1; no "
    "series means never." + _NO_GPU,
    (*_GPU, "reason"),
)
ENERGY = _family(
    "gauge",
    "energy_per_inference_joules",
    "Energy of the server's "
    "GPUs over the merged "
    "windows, idle power and "
    "other models included, "
    "divided by the model's "
    "inferences." + _LAST + " Absent without an energy counter that was updated at least twice.",
)
_PART: Final = (*L, "composing_model")
_NO_PART = _LAST + f" Absent if the model calls no others; at most {MAX_COMPOSING_MODELS}."
COMPOSING_QUEUE = _family(
    "gauge",
    "composing_queue_mean_seconds",
    "Mean queue time of a model that this one calls, over the merged windows, for all clients." + _NO_PART,
    _PART,
)
COMPOSING_COMPUTE = _family(
    "gauge",
    "composing_compute_mean_seconds",
    "Mean time for input, inference and output of a model that this one calls, over the merged windows, for all "
    "clients." + _NO_PART,
    _PART,
)
COMPOSING_REQUEST = _family(
    "gauge",
    "composing_request_mean_seconds",
    "Mean time of a whole request to a model that this one calls, over the merged windows, for all clients." + _NO_PART,
    _PART,
)
COMPOSING_EXECUTIONS = _family(
    "gauge",
    "composing_executions_per_second",
    "Executions of a model that this one calls, per second of the merged windows, for all clients." + _NO_PART,
    _PART,
)
SLO_MET = _family(
    "gauge",
    "slo_met",
    "1 if the slo's percentile of latency (in an open loop, of response "
    "time) is within its threshold, and the error ratio still allows "
    "for it, else 0." + _LAST + " Only at the slo's levels.",
)
MAX_LEVEL = _family(
    "gauge",
    "max_level_within_threshold",
    "Highest level that kept the latency threshold, or else the slo's, and reached the requested load; 0 = none."
    + _LAST
    + " Absent without either.",
    (*P, "mode"),
)
SWEEP_DURATION = _family("gauge", "sweep_duration_seconds", "Duration of the sweep." + _LAST_ANY, P)

# --- baseline and verdict --------------------------------------------------------------------------------------------

_VERDICT = " Of the last sweep with usable data."
BASELINE_LATENCY = _family(
    "gauge",
    "baseline_latency_seconds",
    "Baseline of this latency percentile, at this hour of the week." + _VERDICT + " Absent without one.",
    (*L, "percentile"),
)
BASELINE_THROUGHPUT = _family(
    "gauge",
    "baseline_throughput_inferences_per_second",
    "Baseline of the throughput, at this hour of the week." + _VERDICT + " Absent without one.",
)
BASELINE_RATIO = _family(
    "gauge",
    "baseline_ratio",
    "The signal divided by its baseline." + _VERDICT + " Absent without one.",
    (*L, "signal"),
)
REGRESSION = _family(
    "gauge",
    "regression",
    "1 while enough of the last sweeps were worse than the baseline for this tier, 0 while not."
    + _VERDICT
    + " Absent without a verdict, and for tier page while the baseline is provisional.",
    (*L, "signal", "tier"),
)
REGRESSION_SWEEPS = _family(
    "gauge",
    "regression_sweeps",
    "Of the last sweeps (counted: judged), how many were bad (counted: bad)." + _VERDICT + " Absent unless the "
    "regression of this tier holds.",
    (*L, "signal", "tier", "counted"),
)
VERDICT_WITHHELD = _family(
    "gauge",
    "verdict_withheld",
    "1 if no verdict is given on a signal of a tier, with the reason." + _VERDICT + " Absent if there is a verdict.",
    (*L, "signal", "reason"),
)
BIMODAL_LATENCY = _family(
    "gauge",
    "bimodal_latency_seconds",
    "Both medians (group lower, upper) of a level whose windows or sweeps form two groups."
    + _VERDICT
    + " Absent if they form one.",
    (*L, "of", "group"),
)
REGRESSION_COMPONENT = _family(
    "gauge",
    "regression_component_seconds",
    "Change of each component of the mean latency since the baseline was pinned." + _VERDICT + " Absent unless a "
    "regression holds.",
    (*L, "component"),
)
BASELINE_PINNED = _family(
    "gauge",
    "baseline_pinned_timestamp_seconds",
    "Unix time at which the baseline was pinned." + _VERDICT + " Absent without one.",
)
BASELINE_VERSION_RATIO = _family(
    "gauge",
    "baseline_version_ratio",
    "The served version's signal divided by the accepted version's "
    "baseline." + _VERDICT + " Absent while the accepted version is served.",
    (*L, "signal"),
)

CHANGE_TIME = _family(
    "gauge",
    "change_timestamp_seconds",
    "Unix time at which p50 last changed by 5 % or "
    "more, up or down, from the change points of all "
    "remembered sweeps (up to 28 days), searched once "
    "an hour." + _VERDICT + " Absent without one, and in the first 7 days.",
)
CHANGE_RATIO = _family(
    "gauge", "change_ratio", "p50 after that change divided by p50 before it." + _VERDICT + " Absent without one."
)

# --- cumulative: reset only with the process -------------------------------------------------------------------------

REQUESTS = _family(
    "counter",
    "requests",
    "Finished requests by outcome, warm-up included; updated at the end of each window.",
    (*P, "outcome"),
)
INFERENCES = _family(
    "counter", "inferences", "Inferences of ok requests in Triton's own unit (requests times batch size).", P
)
SLO_REQUESTS = _family(
    "counter",
    "slo_requests",
    "Requests at the slo's levels, including those that were due and not sent. Absent without an slo.",
    (*P, "slo"),
)
SLO_BAD = _family(
    "counter",
    "slo_bad_requests",
    "Those of them that were not ok within the slo's threshold; at a rate, counted from when they were due.",
    (*P, "slo"),
)
SLO_THRESHOLD = _family("gauge", "slo_threshold_seconds", "The slo's configured latency threshold.", (*P, "slo"))
SLO_OBJECTIVE = _family(
    "gauge",
    "slo_objective_ratio",
    "The part of requests that must be good, 0..1: slo.objective, or else what slo.percentile implies.",
    (*P, "slo"),
)
DURATION = _family(
    "histogram",
    "request_duration_seconds",
    "Latency of ok requests without warm-up, over all sweeps. Absent if the probe disables it.",
)
SWEEPS = _family("counter", "sweeps", "Finished sweeps by status and reason (empty for ok).", (*P, "status", "reason"))
SWEEP_SECONDS = _family("counter", "sweep_seconds", "Total duration of all sweeps: its rate is the duty.", P)
SWEEPS_SKIPPED = _family(
    "counter", "sweeps_skipped", "Sweeps that were due and did not run, by reason.", (*P, "reason")
)

PAGE_ORDER: Final[tuple[Family, ...]] = (
    *_table.families,
    *token_families.TABLE.families,
    *stream_families.TABLE.families,
)
"""All families of probes and targets, in the order of the page."""


def by_sample_name(names: Iterable[str]) -> dict[Family, frozenset[str]]:
    """The families that have samples of these names, with those names. Unknown names are left out."""
    wanted = frozenset(names)
    found = {family: wanted.intersection(family.sample_names) for family in PAGE_ORDER}
    return {family: chosen for family, chosen in found.items() if chosen}
