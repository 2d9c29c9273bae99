#!/usr/bin/env bash
# Writes dist/: wheel, source archive, chart, bill of materials. Publishes nothing. `make release` calls it.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$PWD/.venv/bin
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
rm -rf dist
"$bin/python" -m build --no-isolation --outdir dist . >/dev/null 2>&1
"$bin/python" packaging/source_archive.py dist/*.tar.gz
"$bin/python" -c 'import helm_python; helm_python.package("helm/triton-canary", destination="dist")'
packaging/sbom.sh "$bin" dist
ls -1 dist
