"""What several flags make together: the load, the search, the input, the server's endpoint. Pure, but for the questions
whether a file of input is there, and whether it asks for streams."""

from __future__ import annotations

import re
from pathlib import Path

from exporter.commands.analyze.flags.draft import Draft, RunOptions
from exporter.commands.analyze.flags.value_parsers import Range
from exporter.config import text
from exporter.config.probe_settings import default_in_flight
from exporter.config.text import shown
from exporter.core.kinds import IN_PROCESS, KINDS, TRITON, Kind
from exporter.payload.prompts import ask_for_streams
from exporter.payload.timing_files import has_steps

TARGET = "server"
EVERY = "1h"
MAX_REQUESTS, MAX_DURATION = 1_000_000_000, "1d"
"""perf_analyzer has no budgets: these end what was forgotten."""
MAX_TOKENS = 100_000_000
MAX_IN_FLIGHT = 1024
"""Requests that the server may have at one time, unless a higher concurrency is asked for."""
REQUEST_TIMEOUT = "1m"
PLOT_ENDINGS = (".png", ".svg", ".pdf")
DEFAULT_SERVER_DIRECTORY = "/opt/tritonserver"
_IN_PROCESS_KIND = "--service-kind=triton_c_api"
_PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
_LOADS = {
    "--concurrency-range": "load.concurrency",
    "--request-rate-range": "load.request_rate",
    "--streams": "load.streams",
    "--request-intervals": "load.intervals_file",
    "--periodic-concurrency-range": "load.periodic_concurrency",
    "--session-concurrency": "load.session_concurrency",
    "--fixed-schedule": "load.schedule_file",
}
_GRPC_TLS = {
    "--ssl-grpc-root-certifications-file": "target.tls.ca_file",
    "--ssl-grpc-private-key-file": "target.tls.key_file",
    "--ssl-grpc-certificate-chain-file": "target.tls.cert_file",
}
_HTTPS_TLS = {
    "--ssl-https-ca-certificates-file": "target.tls.ca_file",
    "--ssl-https-private-key-file": "target.tls.key_file",
    "--ssl-https-client-certificate-file": "target.tls.cert_file",
}
_PROMPT_KEYS = {
    "--endpoint": "input.prompt.endpoint",
    "--prompt-tokens": "input.prompt.tokens",
    "--output-tokens": "input.prompt.output_tokens",
    "--prompt-cache": "input.prompt.cache",
    "--tokenizer": "input.prompt.tokenizer",
}
_HTTPS_VERIFY = ("--ssl-https-verify-peer", "--ssl-https-verify-host")


def assemble(draft: Draft, options: RunOptions) -> None:
    """Completes the document with what no single flag sets."""
    in_process = draft.value("target.kind") == IN_PROCESS
    scheme = _folders(draft) if in_process else _endpoint(draft)
    _tls(draft, scheme)
    takes_prompts = KINDS.get(draft.value("target.kind") or TRITON, Kind()).takes_prompts
    _grpc_only(draft, scheme, "--streaming" if in_process or takes_prompts else "")
    _prompts(draft, takes_prompts)
    _headers(draft)
    _metrics_page(draft)
    _load(draft)
    _measurement(draft, options)
    _input(draft)
    _server_settings(draft)
    _place(draft)
    _names(draft)
    _outputs(draft, options)
    if options.synchronous and (options.asynchronous or "--streaming" in draft.parts):
        draft.problem("--sync", f"excludes {'--async' if options.asynchronous else '--streaming'}")


def _names(draft: Draft) -> None:
    """What the daemon needs to know, and a command line never has."""
    model = draft.value("model") or ""
    if not model:
        draft.problem("-m", "is required: the model to measure")
        draft.default("model", "model")
    name = re.sub(r"[^A-Za-z0-9._-]", "-", model).lstrip("._-")[: text.MAX_LABEL_LENGTH]
    draft.default("name", name or "model")
    draft.default("target", TARGET)
    draft.default("target.name", TARGET)
    draft.default("target.kind", "triton")
    draft.default("schedule", {"every": EVERY})
    draft.default("stop.max_requests", MAX_REQUESTS)
    draft.default("stop.max_duration", MAX_DURATION)
    # Who sits before it may well want to know how slow it gets.
    draft.default("stop.max_latency", "0s")
    draft.default("stop.pending_growth", 0)
    draft.default("measurement.request_timeout", REQUEST_TIMEOUT)
    # Scripts that read perf_analyzer's report depend on its rule.
    draft.default("measurement.stability_rule", "perf_analyzer")


def _outputs(draft: Draft, options: RunOptions) -> None:
    """A file that can't be written is better known before an hour of measuring."""
    paths = {
        "-f": options.output_path,
        "--json": options.json_path,
        "--plot": options.plot_path,
        "--profile-export-file": options.profile_export_path,
    }
    for name, path in paths.items():
        if path and (Path(path).is_dir() or not Path(path).parent.is_dir()):
            draft.problem(name, f"found {shown(path)}: must be a file in a folder that is there")
    if options.profile_export_path and Path(options.profile_export_path).exists():
        draft.problem("--profile-export-file", f"found {shown(options.profile_export_path)}: must not be there already")
    if options.plot_path and not options.plot_path.endswith(PLOT_ENDINGS):
        draft.problem("--plot", f"found {shown(options.plot_path)}: must end in {' or '.join(PLOT_ENDINGS)}")


# --- the server ------------------------------------------------------------------------------------------------------


def _folders(draft: Draft) -> str:
    """Where a Triton in this process and its models are: it has no url, and so no scheme."""
    for name in ("-u", "-i"):
        if name in draft.parts:
            draft.problem(name, f"has no meaning with {_IN_PROCESS_KIND}: there is no endpoint")
    draft.default("target.server_directory", DEFAULT_SERVER_DIRECTORY)
    draft.put_part("--triton-server-directory", "target.server_directory")
    draft.put_part("--model-repository", "target.model_repository")
    if "--model-repository" not in draft.parts:
        draft.problem("--model-repository", f"is required with {_IN_PROCESS_KIND}")
        draft.default("target.model_repository", "models")
    if "--collect-metrics" in draft.parts and "--metrics-url" not in draft.parts:
        draft.problem("--collect-metrics", f"needs --metrics-url with {_IN_PROCESS_KIND}: it serves no page of its own")
    return ""


def _endpoint(draft: Draft) -> str:
    """The target's url; returns its scheme."""
    for name in ("--triton-server-directory", "--model-repository"):
        if name in draft.parts:
            draft.notices.append(f"{name}: has no effect without {_IN_PROCESS_KIND}")
    asked: str | None = draft.parts.get("-i")
    url: str = draft.parts.get("-u", "localhost")
    scheme, separator, rest = url.partition("://")
    if not separator:
        secure = "s" if asked == "grpc" and "--ssl-grpc-use-ssl" in draft.parts else ""
        scheme, rest = f"{asked or 'http'}{secure}", url
    elif asked and not scheme.startswith(asked):
        draft.problem("-u", f"found {shown(url)}: its scheme is not that of -i {asked}; leave the scheme out")
    elif scheme == "grpc" and "--ssl-grpc-use-ssl" in draft.parts:
        scheme = "grpcs"
    if "--ssl-grpc-use-ssl" in draft.parts and scheme != "grpcs":
        draft.problem("--ssl-grpc-use-ssl", "needs -i grpc; for HTTPS write -u https://host:port")
    draft.put("-u", "target.url", f"{scheme}://{rest}")
    return scheme


def _tls(draft: Draft, scheme: str) -> None:
    for flags, needed, fix in (
        (_GRPC_TLS, "grpcs", "-i grpc --ssl-grpc-use-ssl"),
        (_HTTPS_TLS, "https", "-u https://host:port"),
    ):
        for name, key in flags.items():
            if name in draft.parts and scheme != needed:
                draft.problem(name, f"needs {fix}")
            else:
                draft.put_part(name, key)
    peer, host = (draft.parts.get(name) for name in _HTTPS_VERIFY)
    if scheme != "https":
        for name in _HTTPS_VERIFY:
            if name in draft.parts:
                draft.problem(name, "needs -u https://host:port")
        return
    if peer == 0:
        draft.put(_HTTPS_VERIFY[0], "target.tls.verify", False)
    elif host == 0:
        draft.put(_HTTPS_VERIFY[1], "target.tls.verify", "peer")


def _grpc_only(draft: Draft, scheme: str, but: str) -> None:
    """Flags that other protocols have not, `but` that one."""
    is_grpc = scheme.startswith("grpc")
    for name, key in {"--streaming": "streaming", "--grpc-compression-algorithm": "input.compression"}.items():
        if name in draft.parts and not (is_grpc or name == but):
            if draft.parts[name] == "none":
                draft.notices.append(f"{name}: has no effect without -i grpc")
            else:
                draft.problem(name, "needs -i grpc")
        elif draft.parts.get(name) not in (None, "none"):
            draft.put_part(name, key)


def _prompts(draft: Draft, takes_prompts: bool) -> None:
    for name, key in _PROMPT_KEYS.items():
        _put_if(takes_prompts, draft, name, key, "--service-kind=openai")
    if takes_prompts:
        draft.default("stop.max_tokens", MAX_TOKENS)
        files = [Path(path) for path in draft.parts.get("--input-data", ()) if Path(path).is_file()]
        if files and "--streaming" not in draft.parts and ask_for_streams(files[0]):
            # perf_analyzer has no --streaming for openai: there the data states it.
            draft.put("--input-data", "streaming", True)


def _headers(draft: Draft) -> None:
    """A secret goes by an environment variable, so that it is in no document and in no result."""
    headers: dict[str, object] = {}
    for name, value in draft.parts.get("-H", ()):
        if name.lower() == "host":
            draft.put("-H", "target.host_header", value)
        elif text.SECRET_HEADER.search(name) or text.SECRET_VALUE.match(value):
            variable = "TRITON_CANARY_HEADER_" + re.sub(r"[^A-Z0-9]", "_", name.upper())
            draft.environment[variable] = value
            headers[name] = {"env": variable}
        else:
            headers[name] = value
    if headers:
        draft.put("-H", "target.headers", headers)


def _metrics_page(draft: Draft) -> None:
    if "--collect-metrics" not in draft.parts:
        for name in ("--metrics-url", "--metrics-interval"):
            if name in draft.parts:
                draft.problem(name, "needs --collect-metrics")
        draft.put("--collect-metrics", "target.gpu", "off")
        return
    url = draft.parts.get("--metrics-url")
    if url is None:
        page = KINDS[draft.value("target.kind") or TRITON].metrics_page or KINDS[TRITON].metrics_page
        name, url = "--collect-metrics", f"{_host(draft)}:{page}"
    else:
        name = "--metrics-url"
    draft.put(name, "target.metrics_url", url if "://" in url else f"http://{url}")
    draft.put_part("--metrics-interval", "target.metrics_interval")


def _host(draft: Draft) -> str:
    try:
        host = text.parse_endpoint(draft.value("target.url")).host
    except ValueError:  # the url's own error is reported
        return "localhost"
    return f"[{host}]" if ":" in host else host


def _server_settings(draft: Draft) -> None:
    levels = draft.parts.get("--trace-level")
    if levels:
        draft.put("--trace-level", "server_settings.trace_level", list(dict.fromkeys(levels)))


# --- the load --------------------------------------------------------------------------------------------------------


def _load(draft: Draft) -> None:
    _old_concurrency(draft)
    _fixed_schedule(draft)
    given = [name for name in _LOADS if name in draft.parts]
    if len(given) > 1:
        draft.problem(given[1], f"excludes {given[0]}; give one of them")
    for name in given[:1]:
        value = draft.parts[name]
        if isinstance(value, Range) and value.is_open and not draft.parts.get("--latency-threshold"):
            draft.problem(name, "found an open end, 0: needs --latency-threshold, where it stops")
        else:
            draft.put(name, _LOADS[name], value.value if isinstance(value, Range) else value)
    load = given[0] if given else ""
    if draft.value(_LOADS.get(load, "load.concurrency")) is None:
        draft.default("load.concurrency", 1)
    _search(draft, load)
    _of_rates(draft, load)
    _of_streams(draft, load)
    _in_real_time(draft, load)
    _batches(draft)
    highest = draft.parts[load] if load in ("--concurrency-range", "--streams") else None
    top = (
        max(highest.start, highest.end or 0)
        if isinstance(highest, Range)
        else draft.parts.get("--session-concurrency", 0)
    )
    rates = draft.parts["--request-rate-range"] if load == "--request-rate-range" else None
    fastest = max(rates.start, rates.end or 0) if isinstance(rates, Range) else 0
    draft.default("stop.max_in_flight", default_in_flight(fastest, max(MAX_IN_FLIGHT, int(top))))


def _old_concurrency(draft: Draft) -> None:
    """-t and -c, the range's ends of old."""
    low, high = draft.parts.get("-t"), draft.parts.get("-c")
    if low is None and high is None:
        return
    name = "-c" if low is None else "-t"
    if "--concurrency-range" in draft.parts:
        draft.problem(name, "excludes --concurrency-range; give that")
    elif high is not None and high < (low or 1):
        draft.problem("-c", "must not be below -t")
    else:
        draft.parts["--concurrency-range"] = Range(low or 1, high, 1)


def _fixed_schedule(draft: Draft) -> None:
    """The moments is in the file of input data."""
    if draft.parts.pop("--fixed-schedule", False):
        files = draft.parts.get("--input-data", ())
        if len(files) == 1 and has_steps(files[0]):
            draft.parts["--fixed-schedule"] = files[0]
        else:
            draft.problem("--fixed-schedule", "needs --input-data and one .json file, whose steps have a 'timestamp'")


def _search(draft: Draft, load: str) -> None:
    """A range with a threshold is searched, as in perf_analyzer; without one all of its levels are run."""
    levels, limit = draft.parts.get(load), draft.parts.get("--latency-threshold")
    binary = "--binary-search" in draft.parts
    if limit:
        draft.put("--latency-threshold", "measurement.latency_threshold", limit)
    if not isinstance(levels, Range) or load == "--periodic-concurrency-range":
        if binary:
            known = "--concurrency-range, --request-rate-range or --streams"
            draft.problem("--binary-search", f"needs {known}, with start and end")
        return
    if binary and (not limit or levels.is_open or levels.end is None):
        draft.problem("--binary-search", f"needs --latency-threshold, and start and end in {load}")
    elif binary:
        draft.put("--binary-search", "load.search", "binary")
    elif limit and levels.end is not None:
        draft.put("--latency-threshold", "load.search", "linear")


def _put_if(useful: bool, draft: Draft, name: str, key: str, needed: str) -> None:
    """Sets a key where its flag means anything; where `needed` is missing that is no error, as in perf_analyzer."""
    if useful:
        draft.put_part(name, key)
    elif name in draft.parts:
        draft.notices.append(f"{name}: has no effect without {needed}")


def _of_rates(draft: Draft, load: str) -> None:
    open_loop = load in ("--request-rate-range", "--request-intervals", "--fixed-schedule")
    of_rate = load == "--request-rate-range"
    _put_if(of_rate, draft, "--request-distribution", "load.distribution", "--request-rate-range")
    if "--num-of-sequences" in draft.parts:
        if open_loop:
            draft.put_part("--num-of-sequences", "load.sequences.count")
        else:
            number = (
                "each stream has one" if load == "--streams" else "in a closed loop the concurrency is their number"
            )
            draft.notices.append(f"--num-of-sequences: has no effect here: {number}")


def _place(draft: Draft) -> None:
    """Of a daemon's `from: [a, b]` each place is a probe of its own; a run of `analyze` has one."""
    places = draft.parts.get("--from", ())
    if len(places) > 1 or any("," in place for place in places):
        draft.problem("--from", "takes one place; run analyze once per place, or `from: [a, b]` in a configuration")
    elif places and draft.value("load.pool") is None:
        draft.problem("--from", "needs --workers, the Dask scheduler whose workers are in this place")
    elif places:
        draft.put("--from", "from", list(places))


def _batches(draft: Draft) -> None:
    sizes: list[int] = draft.parts.get("-b", [])
    if len(sizes) == 1:
        draft.put("-b", "input.batch_size", sizes[0])
    elif sizes:
        draft.put("-b", "load.batch_size", sizes)


def _in_real_time(draft: Draft, load: str) -> None:
    if load == "--streams" and draft.value("load.streams") is None:
        return  # their own error is reported
    for name, key in {"--step-interval": "load.step_interval", "--ramp": "load.ramp"}.items():
        _put_if(load == "--streams", draft, name, key, "--streams")
    if load == "--streams" and "--step-interval" not in draft.parts:
        draft.problem("--step-interval", "is required with --streams: the length of a step in milliseconds, as 300")
        draft.default("load.step_interval", "1s")


def _of_streams(draft: Draft, load: str) -> None:
    if load == "--periodic-concurrency-range":
        draft.put_part("--request-period", "load.request_period")
        if "--streaming" not in draft.parts:
            draft.problem(load, "needs -i grpc --streaming")
    elif "--request-period" in draft.parts:
        draft.notices.append("--request-period: has no effect without --periodic-concurrency-range")
    if "--sequence-id-range" in draft.parts:
        start, count = draft.parts["--sequence-id-range"]
        if start == 0:
            draft.notices.append("--sequence-id-range: 0 is not a sequence id; ids start at 1")
        draft.put("--sequence-id-range", "load.sequences.start_id", start or 1)
        if count is not None:
            draft.put("--sequence-id-range", "load.sequences.id_range", count)


# --- the measurement and the input -----------------------------------------------------------------------------------


def _measurement(draft: Draft, options: RunOptions) -> None:
    counted = draft.value("measurement.window_mode") == "count"
    key, needed = "measurement.window_requests", "--measurement-mode=count_windows"
    _put_if(counted, draft, "--measurement-request-count", key, needed)
    trials = draft.parts.get("--max-trials")
    if trials is not None:
        draft.put("--max-trials", "measurement.max_windows", trials)
        if trials < 3:
            draft.put("--max-trials", "measurement.stability_windows", trials)
    percentile = draft.parts.get("--percentile")
    if percentile is not None:
        draft.put("--percentile", "measurement.stability_percentile", percentile)
    asked = {condition.percentile for condition in options.fail_on if condition.percentile is not None}
    if not asked <= {*_PERCENTILES, percentile}:
        draft.put("--fail-on", "measurement.percentiles", sorted(asked.union(_PERCENTILES)))


def _input(draft: Draft) -> None:
    given: list[str] = list(draft.parts.get("--input-data", ()))
    zero = "zero" in given or "-z" in draft.parts
    paths = [word for word in given if word not in ("zero", "random")]
    if "--data-directory" in draft.parts:
        paths.append(draft.parts["--data-directory"])
    missing = [path for path in paths if not Path(path).exists()]
    for path in missing:
        draft.problem(
            "--input-data", f"found {shown(path)}: must be zero, random, a folder or a JSON file that is there"
        )
    if zero and paths:
        draft.problem("--input-data", "zero excludes files; give one of them")
    elif paths and not missing:
        draft.put("--input-data", "input.source", "files")
        draft.put("--input-data", "input.paths", paths)
    elif zero:
        draft.put("--input-data", "input.source", "zero")
    shared = draft.value("input.shared_memory") not in (None, "none")
    key, needed = "input.output_shared_memory_size", "--shared-memory"
    _put_if(shared, draft, "--output-shared-memory-size", key, needed)
    for name, key in {
        "--shape": "input.shapes",
        "--tensor-datatype": "input.datatypes",
        "--request-parameter": "input.parameters",
    }.items():
        draft.put_part(name, key, dict)
