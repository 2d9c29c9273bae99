#!/usr/bin/env bash
# Workflows, issue forms and dependabot's file, by GitHub's own schemas and an audit for security. The argument is the
# folder of the tools: `packaging/check-repository.sh .venv/bin`.
set -euo pipefail
bin=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
"$bin/check-jsonschema" --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
"$bin/check-jsonschema" --quiet --builtin-schema vendor.dependabot .github/dependabot.yml
"$bin/check-jsonschema" --quiet --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/bug.yml .github/ISSUE_TEMPLATE/feature.yml
"$bin/check-jsonschema" --quiet --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
"$bin/zizmor" --offline --quiet .github
