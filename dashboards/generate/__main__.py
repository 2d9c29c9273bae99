"""Writes every board to `dashboards/<name>.json`."""

from __future__ import annotations

from dashboards.generate.boards import BOARDS, FOLDER, as_json


def main() -> None:
    for name in BOARDS:
        (FOLDER / f"{name}.json").write_text(as_json(name))


if __name__ == "__main__":
    main()
