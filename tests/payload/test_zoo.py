"""The zoo: one file, or folder, an error, named by it, with the exact message beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.core.errors import InputError
from exporter.core.facts import TensorSpec
from exporter.core.probe import InputOptions
from exporter.payload import check_files, make_dataset
from tests.builders import make_facts

ZOO = Path(__file__).parent / "zoo"
ANIMALS = sorted(path for path in ZOO.iterdir() if path.suffix != ".txt")

FACTS = make_facts(
    name="zoo",
    inputs=(
        TensorSpec("FLOATS", "FP32", (4,)),
        TensorSpec("BYTE", "INT8", (2,), optional=True),
        TensorSpec("INDEX", "INT32", (1,), optional=True),
        TensorSpec("COUNT", "UINT64", (1,), optional=True),
        TensorSpec("HALF", "FP16", (1,), optional=True),
        TensorSpec("BRAIN", "BF16", (1,), optional=True),
        TensorSpec("DOUBLE", "FP64", (1,), optional=True),
        TensorSpec("FLAGS", "BOOL", (2,), optional=True),
        TensorSpec("WORDS", "BYTES", (2,), optional=True),
        TensorSpec("TABLE", "FP32", (-1, 2), optional=True),
        TensorSpec("ANY", "FP32", (-1, -1), optional=True),
        TensorSpec("FUTURE", "FP8", (1,), optional=True),
    ),
    outputs=(TensorSpec("SUM", "FP32", (4,)),),
)


def paths_of(animal: Path) -> tuple[str, ...]:
    """A folder is a directory of tensors, or several JSON files."""
    files = sorted(map(str, animal.glob("*.json")))
    return tuple(files) or (str(animal),)


def problems_of(animal: Path) -> list[str]:
    with pytest.raises(InputError) as caught:
        make_dataset(FACTS, InputOptions(source="files", paths=paths_of(animal)))
    error = caught.value
    problems = [*error.problems, *([f"and {error.more} more"] if error.more else [])]
    return [problem.replace(f"{ZOO}/", "") for problem in problems]


@pytest.mark.parametrize("animal", ANIMALS, ids=lambda path: path.name)
def test_every_error_is_reported_in_full(animal: Path) -> None:
    assert problems_of(animal) == (ZOO / f"{animal.stem}.txt").read_text().splitlines()


def test_each_has_its_message_and_each_message_its_file() -> None:
    assert {path.stem for path in ANIMALS} == {path.stem for path in ZOO.glob("*.txt")}
    assert len(ANIMALS) >= 40


@pytest.mark.parametrize("name", ["not-json.json", "data-is-empty.json", "files-of-two-forms"])
def test_what_needs_no_model_is_found_without_one(name: str) -> None:
    with pytest.raises(InputError) as caught:
        check_files(paths_of(ZOO / name))
    assert [problem.replace(f"{ZOO}/", "") for problem in caught.value.problems] == problems_of(ZOO / name)
