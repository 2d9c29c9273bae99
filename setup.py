"""Puts boards, rules, runbooks and examples into the wheel: they are kept outside of the package, where people look."""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


class BuildWithAssets(build_py):
    """The package's files, and the assets in a folder of it."""

    def run(self) -> None:
        """Copies after the build: nothing is written into the checkout."""
        super().run()
        if self.editable_mode:
            return
        for kind, (folder, pattern) in runpy.run_path(str(ROOT / "exporter" / "assets.py"))["SOURCES"].items():
            place = Path(self.build_lib, "exporter", "assets_data", kind)
            place.mkdir(parents=True, exist_ok=True)
            for path in sorted((ROOT / folder).glob(pattern)):
                if path.is_file():
                    shutil.copyfile(path, place / path.name)


setup(cmdclass={"build_py": BuildWithAssets})
