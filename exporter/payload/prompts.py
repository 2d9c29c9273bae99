"""What a language model is asked: prompts made by their length in tokens, or requests read from files.

Made prompts are of words that are one token each to common tokenizers, so that their number of words is about that of
their tokens; a tokenizer file makes it exact. What the server counted is what is reported.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from exporter.core.errors import InputError
from exporter.core.probe import PROMPT_PLACE, InputOptions, PromptOptions
from exporter.payload.dataset import Dataset, Step, Tensor, Tensors
from exporter.payload.input_errors import InputErrors
from exporter.payload.read import MAX_STEPS, checked_files
from exporter.payload.timing_files import TIMESTAMP
from exporter.payload.tokenizer import open_tokenizer

PROMPT: Final = "prompt"
PAYLOAD: Final = "payload"
"""What stands for tensors: a prompt, from which the kind makes a request, and a request's JSON as it is."""
DELAY: Final = "delay"
"""Milliseconds from the end of a session's request to its next one, where a file sets it."""
SESSION: Final = "session_id"
"""The key of a step's session."""

_TEXT_KEYS: Final = ("prompt", "text", "text_input")
_MAX_LINE: Final = 16 << 20
_MAX_DELAY_MS: Final = 3_600_000
_WORDS: Final = tuple(
    """
    the of and to in a is that for it as was with be by on not he his but at are this have from or had an they which one
    you were all her she there would their we him been has when who will no more if out so up said what its about than
    into them can only other time new some could these two may first then do any like my now over such our man me even
    most made after also did many off before must well back through years where much your way down should because long
    each just state those people too world how good make very year still see own work men day get here old life both
    between being under three never know same last another while us might great go come since against right came take
    used himself few house use place during high without again home around small however found part
    """.split()  # noqa: SIM905  # a list of 160 lines
)


def make_prompts(options: InputOptions) -> Dataset:
    """The probe's prompts, generated or read. Raises InputError."""
    if options.source == "files":
        return _read(options)
    return Dataset((tuple(Step({PROMPT: _one(text.encode())}) for text in generated(options.prompt, options.seed)),))


def generated(options: PromptOptions, seed: int) -> list[str]:
    """So many different prompts, the same for the same seed. Raises InputError."""
    count_tokens = open_tokenizer(options.tokenizer)
    generator = np.random.default_rng([seed, options.count])
    lengths = generator.normal(options.tokens, options.tokens_stddev, options.count)
    return [_templated(_words(generator, max(1, round(length)), count_tokens), options.template) for length in lengths]


def _words(generator: np.random.Generator, tokens: int, count_tokens: Callable[[str], int] | None) -> str:
    words = generator.choice(_WORDS, tokens).tolist()
    if count_tokens is not None:
        while len(words) > 1 and count_tokens(" ".join(words)) > tokens:
            words.pop()
    return " ".join(words)


def _templated(text: str, template: str) -> str:
    return template.replace(PROMPT_PLACE, text) if template else text


# --- files -----------------------------------------------------------------------------------------------------------


def check_prompt_files(options: InputOptions) -> None:
    """Looks for what is wrong with files of prompts. Raises InputError."""
    _read(options)


def ask_for_streams(path: Path) -> bool:
    """Whether the first request of a file of payloads asks for a stream, as perf_analyzer's do; False for a file that
    is none."""
    for _, entry in _entries(path, InputErrors()):
        payload = entry.get(PAYLOAD)
        if isinstance(payload, list) and payload:
            payload = payload[0]
        return isinstance(payload, dict) and payload.get("stream") is True
    return False


def _read(options: InputOptions) -> Dataset:
    files = checked_files(options)
    if files.is_directory:
        raise InputError(f"{files.given[0]}: prompts are read from files (.jsonl, .json), not from a directory")
    errors = InputErrors()
    steps: list[tuple[str, Step]] = []
    for path in files.paths:
        for place, entry in _entries(path, errors):
            try:
                steps.append((_session(entry), Step(_tensors(entry, options.prompt), (), place)))
            except ValueError as error:
                errors.add(f"{place}: {error}")
    errors.raise_if_any()
    if not 1 <= len(steps) <= MAX_STEPS:
        raise InputError(f"{', '.join(options.paths)}: expected 1 to {MAX_STEPS} prompts, found {len(steps)}")
    streams: dict[str, list[Step]] = {}
    for index, (session, step) in enumerate(steps):
        streams.setdefault(session or f"\0{index}", []).append(step)
    if not any(session for session, _ in steps):
        return Dataset((tuple(step for _, step in steps),))
    return Dataset(tuple(map(tuple, streams.values())))


def _entries(path: Path, errors: InputErrors) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a file, each with its place: one a line, or under `data`, as perf_analyzer has them."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8"
        errors.add(f"{path}: cannot be read: {reason}")
        return
    if path.suffix == ".json":
        yield from _steps(path, text, errors)
        return
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            value = _object(line, f"{path}:{number}", errors)
            if value is not None:
                yield f"{path}:{number}", value


def _steps(path: Path, text: str, errors: InputErrors) -> Iterator[tuple[str, dict[str, Any]]]:
    root = _object(text, str(path), errors)
    if root is None:
        return
    data = root.get("data")
    if not isinstance(data, list) or not data:
        errors.add(f"{path}: expected 'data', a list of objects with '{PAYLOAD}'")
        return
    streams = data if all(isinstance(each, list) for each in data) else [data]
    for stream in streams:
        for index, entry in enumerate(stream):
            if isinstance(entry, dict):
                yield f"{path}: step {index}", entry
            else:
                errors.add(f"{path}: step {index}: expected an object")


def _object(text: str, place: str, errors: InputErrors) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = f"{error.msg} (column {error.colno})" if isinstance(error, json.JSONDecodeError) else "nested too deep"
        errors.add(f"{place}: is not JSON: {reason}")
        return None
    if not isinstance(value, dict):
        errors.add(f"{place}: expected an object, found {type(value).__name__}")
        return None
    return value


def _session(entry: dict[str, Any]) -> str:
    session = entry.get(SESSION, "")
    if isinstance(session, list) and len(session) == 1:
        session = session[0]
    if not isinstance(session, str | int) or isinstance(session, bool):
        raise ValueError(f"'{SESSION}' must be text")
    return str(session)


def _tensors(entry: dict[str, Any], options: PromptOptions) -> Tensors:
    """What one entry asks for. Raises ValueError."""
    tensors: dict[str, Tensor] = {}
    given = [key for key in (PAYLOAD, "messages", *_TEXT_KEYS) if key in entry]
    if not given:
        raise ValueError(f"expected '{PAYLOAD}', 'messages' or one of {', '.join(map(repr, _TEXT_KEYS))}")
    value = entry[given[0]]
    if given[0] == PAYLOAD:
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if not isinstance(value, dict):
            raise ValueError(f"'{PAYLOAD}' must be one object, or a list of one")
        tensors[PAYLOAD] = _one(json.dumps(value).encode())
    elif given[0] == "messages":
        # A request as it is, on a line of its own.
        known = {TIMESTAMP, SESSION, DELAY}
        tensors[PAYLOAD] = _one(json.dumps({key: each for key, each in entry.items() if key not in known}).encode())
    elif isinstance(value, str):
        tensors[PROMPT] = _one(_templated(value, options.template).encode("utf-8", "replace"))
    else:
        raise ValueError(f"'{given[0]}' must be text")
    if DELAY in entry:
        tensors[DELAY] = np.array([_delay_ms(entry[DELAY])], np.int64)
    return tensors


def _delay_ms(value: Any) -> int:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= _MAX_DELAY_MS:
        raise ValueError(f"'{DELAY}' must be milliseconds, 0 to {_MAX_DELAY_MS}")
    return round(value)


def _one(content: bytes) -> Tensor:
    tensor: Tensor = np.empty(1, np.object_)
    tensor[0] = content
    return tensor
