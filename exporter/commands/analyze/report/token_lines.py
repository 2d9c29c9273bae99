"""The report's lines in tokens, of targets that take prompts; perf_analyzer has none of them. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from exporter.commands.analyze.report.numbers import number, summary_line
from exporter.core.result import Measurement, TokenFigures


def token_lines(measurement: Measurement, *, verbose: bool) -> Iterator[str]:
    """The figures of a level."""
    if (tokens := measurement.tokens) is not None:
        for name, summary in {
            "Time to first token": tokens.first_token,
            "Time per output token": tokens.per_output_token,
            "Inter token latency": tokens.inter_token,
            "Time to stream open": tokens.stream_open if verbose else None,
        }.items():
            if summary is not None:
                yield summary_line(name, summary)
        yield from _count_lines(tokens)
    if measurement.goodput is not None and measurement.tokens is not None:
        yield f"    Goodput: {number(measurement.goodput)} requests/sec"


def _count_lines(tokens: TokenFigures) -> Iterator[str]:
    if not tokens.requests:
        return
    if tokens.output_tokens_per_second is not None:
        yield f"    Output token throughput: {number(tokens.output_tokens_per_second)} tokens/sec"
    elif tokens.chunks is not None:
        yield (
            f"    Chunks per request: {number(tokens.chunks / tokens.requests)} (tokens were not counted: the server "
            "sent no usage, and there is no tokenizer file)"
        )
    counts = {"prompt": tokens.prompt_tokens, "output": tokens.output_tokens}
    means = [f"{number(count / tokens.requests)} {name}" for name, count in counts.items() if count is not None]
    if means:
        cached = "" if tokens.cached_ratio is None else f" ({tokens.cached_ratio:.1%} of the prompt's cached)"
        yield f"    Tokens per request: {', '.join(means)}{cached}"
    if tokens.early_ends:
        yield f"    Requests that ended before the tokens asked for: {tokens.early_ends}"
