#!/usr/bin/env bash
# Writes the locks that the image is installed from: the versions of constraints.txt, each file with its hash. Needs uv,
# and a package index. Run it after a change of pyproject.toml or constraints.txt.
set -euo pipefail
cd "$(dirname "$0")/.."
lock() {
  uv pip compile --quiet --no-header --no-annotate --no-emit-index-url --generate-hashes --universal \
    --python-version 3.11 --constraint constraints.txt --output-file "$2" "$1" "${@:3}"
}
# With what a standby needs: the chart's has its lease in Kubernetes.
lock pyproject.toml requirements.lock --extra kubernetes
lock pyproject.toml requirements-dask.lock --extra kubernetes --extra dask
python3 -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' |
  lock - requirements-build.lock
