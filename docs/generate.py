"""Writes the pages of docs/ that are made from the code: `make reference`. Tests compare them with the code."""

from pathlib import Path

from exporter.commands.analyze.flags import help as flags
from exporter.config import reference as configuration
from exporter.metrics import reference as metrics

HERE = Path(__file__).parent
PAGES = {
    "metrics.md": ("## All metrics", metrics.reference),
    "analyze.md": ("## All flags", flags.reference),
}


def main() -> None:
    for name, text in configuration.pages().items():
        (HERE / name).write_text(text)
    for name, (heading, reference) in PAGES.items():
        path = HERE / name
        before, found, _ = path.read_text().partition(f"{heading}\n")
        if not found:
            raise SystemExit(f"{path}: has no heading {heading!r}")
        path.write_text(f"{before}{heading}\n\n{reference().strip()}\n")


if __name__ == "__main__":
    main()
