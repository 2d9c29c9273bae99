#!/usr/bin/env bash
# The bills of materials of both images, by CycloneDX: names, versions and hashes of what they install. The arguments
# are the folder of the tools and the one to write to: `packaging/sbom.sh .venv/bin build`.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p "$2"
for variant in "" -dask; do
  "$1/cyclonedx-py" requirements --pyproject pyproject.toml --output-reproducible --of JSON --validate \
    -o "$2/sbom$variant.cdx.json" "requirements$variant.lock"
  echo "$2/sbom$variant.cdx.json"
done
