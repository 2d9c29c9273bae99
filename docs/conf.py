"""The documentation site: Sphinx reads the same Markdown that the repository shows. `make site` builds it, strictly.

Its source folder is the repository's root, so that a link from a page to a file outside docs/ is the same link there.
"""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]

project = "Triton Canary"
author = "The Triton Canary authors"
release = version = re.findall(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[0]

extensions = ["myst_parser", "sphinx_copybutton"]
root_doc = "docs/index"
source_suffix = {".md": "markdown"}
include_patterns = [
    "docs/**.md",
    *("CHANGELOG.md", "CONTRIBUTING.md", "RELEASING.md", "SECURITY.md"),
    *("examples/README.md", "helm/triton-canary/README.md"),
]
exclude_patterns = [".*", "build", "dist", "dashboards", "exporter", "tests", "bench", "*.egg-info"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4  # as GitHub makes them
suppress_warnings = ["misc.highlighting_failure"]  # JSON with NaN and infinities, as perf_analyzer reads it
nitpicky = True

html_theme = "furo"
html_title = f"Triton Canary {release}"
html_show_copyright = False
html_copy_source = False
html_extra_path = ["site"]  # the root's index.html
