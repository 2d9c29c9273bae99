"""Refuses the words of packaging/wording.txt in documents, and in comments, docstrings and messages of Python code.

`python packaging/check_wording.py` prints each place with what to write instead, and ends with 1 if there is any. Text
in backticks and code blocks is code. A line with "wording: quoted" quotes somebody else's text.
"""

import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
QUOTED = "wording: quoted"
PYTHON = ("exporter/*.py", "tests/*.py", "bench/*.py")
PATTERNS = ("*.md", *PYTHON, "dashboards/rules/*.yaml", "helm/triton-canary/values.yaml")
LEFT_OUT = re.compile(
    "CHANGELOG.md"  # what was
    "|exporter/demo/models/|exporter/services/tfserving/tfserving_pb2.py"  # models; generated
    "|exporter/payload/prompts.py"  # the words of prompts
    "|tests/packaging/test_wording.py"  # tests these words
)
Place = tuple[int, str]


def words() -> list[tuple[re.Pattern[str], str]]:
    lines = (ROOT / "packaging" / "wording.txt").read_text().splitlines()
    pairs = (line.split("\t") for line in lines if line and not line.startswith("#"))
    return [(re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE), advice) for pattern, advice in pairs]


def prose(path: Path, text: str) -> Iterator[Place]:
    """The pieces of a file that people read, each with its first line's number."""
    if path.suffix == ".py":
        kinds = (tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", -1))
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type in kinds and " " in token.string.strip():
                yield token.start[0], token.string
        return
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        if path.suffix == ".md" and line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            yield number, re.sub(r"\]\([^)]*\)", "]", line)


def found(path: Path, text: str, listed: list[tuple[re.Pattern[str], str]]) -> Iterator[str]:
    for first, piece in prose(path, text):
        for offset, line in enumerate(re.sub(r"``?[^`\n]*``?|\{[^{}\n]*\}", "", piece).splitlines()):
            if QUOTED in line:
                continue
            for pattern, advice in listed:
                if match := pattern.search(line):
                    yield f"{path}:{first + offset}: {match[0]!r}: write {advice}"


def main() -> int:
    listed = words()
    command = ["git", "ls-files", "--", *PATTERNS]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    places = [
        place
        for name in names
        if not LEFT_OUT.search(name) and (ROOT / name).exists()
        for place in found(Path(name), (ROOT / name).read_text(), listed)
    ]
    print(*places, sep="\n", end="\n" if places else "")
    return 1 if places else 0


if __name__ == "__main__":
    sys.exit(main())
