"""Generated prompts and files of prompts: how many words, which, and counted by whom."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.core.errors import InputError
from exporter.core.probe import InputOptions, PromptOptions
from exporter.payload.prompts import PROMPT, SESSION, ask_for_streams, generated, make_prompts
from exporter.payload.tokenizer import open_tokenizer


@given(st.integers(1, 300), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_so_many_prompts_of_so_many_words_and_the_same_by_the_seed(tokens: int, count: int, seed: int) -> None:
    options = PromptOptions(tokens=tokens, count=count)
    made = generated(options, seed)
    assert [len(text.split()) for text in made] == [tokens] * count
    assert generated(options, seed) == made
    if tokens > 20:
        assert len(set(made)) == count
        assert generated(options, seed ^ 1) != made


def test_lengths_vary_as_asked_and_none_is_empty() -> None:
    lengths = [len(text.split()) for text in generated(PromptOptions(tokens=100, tokens_stddev=20, count=400), 1)]
    assert 95 < sum(lengths) / 400 < 105
    assert 15 < (sum((length - 100) ** 2 for length in lengths) / 400) ** 0.5 < 25
    assert min(len(text.split()) for text in generated(PromptOptions(tokens=2, tokens_stddev=50, count=200), 1)) == 1


def test_a_template_goes_round_each() -> None:
    (text,) = generated(PromptOptions(tokens=3, count=1, template="Repeat {prompt}, twice {prompt}"), 0)
    words = text.removeprefix("Repeat ").split(",")[0]
    assert text == f"Repeat {words}, twice {words}"


class Halves:
    """Replaces the package's tokenizer: two tokens a word."""

    @classmethod
    def from_str(cls, text: str) -> Halves:
        if text != "{}":
            raise Exception("no tokenizer")  # as the package does
        return cls()

    def encode(self, text: str, *, add_special_tokens: bool) -> types.SimpleNamespace:
        assert not add_special_tokens
        return types.SimpleNamespace(ids=[0] * 2 * len(text.split()))


def test_a_tokenizer_makes_them_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", types.SimpleNamespace(Tokenizer=Halves))
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    made = generated(PromptOptions(tokens=40, count=3, tokenizer=str(path)), 0)
    assert [len(text.split()) for text in made] == [20] * 3
    path.write_text("[]")
    with pytest.raises(InputError, match=r"is not a tokenizer\.json: no tokenizer"):
        open_tokenizer(str(path))
    with pytest.raises(InputError, match="cannot be read: No such file"):
        open_tokenizer(str(tmp_path / "none.json"))


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    assert open_tokenizer("") is None
    with pytest.raises(InputError, match=r"pip install 'triton-canary\[tokenizer\]'"):
        open_tokenizer("tokenizer.json")


def read(path: Path) -> list[list[str]]:
    dataset = make_prompts(InputOptions(source="files", paths=(str(path),)))
    return [[step.inputs[PROMPT].item().decode() for step in stream] for stream in dataset.streams]


def test_sessions_are_streams(tmp_path: Path) -> None:
    entries = [("a", 1), ("b", 2), ("a", 3), ("b", 4)]
    lines = [json.dumps({SESSION: session, "text": f"{number}"}) for session, number in entries]
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n".join(lines))
    assert read(path) == [["1", "3"], ["2", "4"]]
    path.write_text("\n".join(json.dumps({"text": str(number)}) for number in range(3)))
    assert read(path) == [["0", "1", "2"]]


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ('{"payload": {"stream": true}}', True),
        ('{"payload": [{"stream": true}]}', True),
        ('{"payload": [{"stream": 1}]}', False),
        ('{"payload": []}', False),
        ('{"text": "x"}', False),
        ("nonsense", False),
        ("", False),
    ],
)
def test_whether_a_file_asks_for_streams(tmp_path: Path, text: str, asked: bool) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(text)
    assert ask_for_streams(path) is asked
