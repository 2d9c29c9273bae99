"""The tokenizer of a model file of llama.cpp (GGUF), as a `tokenizer.json`: what the server tokenizes by, for us to
count by."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

_TEXT, _LIST = 8, 9
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


def metadata(path: Path) -> dict[str, Any]:
    """What the file states about its model."""
    with path.open("rb") as file:
        assert file.read(4) == b"GGUF"
        _version, _tensors, count = struct.unpack("<IQQ", file.read(20))
        return {_text(file): _value(file, *struct.unpack("<I", file.read(4))) for _ in range(count)}


def _text(file: BinaryIO) -> str:
    (length,) = struct.unpack("<Q", file.read(8))
    return file.read(length).decode()


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == _TEXT:
        return _text(file)
    if kind == _LIST:
        inner, count = struct.unpack("<IQ", file.read(12))
        return [_value(file, inner) for _ in range(count)]
    form = f"<{_NUMBERS[kind]}"
    return struct.unpack(form, file.read(struct.calcsize(form)))[0]


def tokenizer_json(found: Mapping[str, Any]) -> str:
    """A byte-level BPE that takes each digit alone, as SmolLM2's."""
    assert (found["tokenizer.ggml.model"], found["tokenizer.ggml.pre"]) == ("gpt2", "smollm")
    vocabulary = {token: number for number, token in enumerate(found["tokenizer.ggml.tokens"])}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return json.dumps(
        {
            "version": "1.0",
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level],
            },
            "decoder": byte_level,
            "model": {"type": "BPE", "vocab": vocabulary, "merges": found["tokenizer.ggml.merges"]},
        }
    )
