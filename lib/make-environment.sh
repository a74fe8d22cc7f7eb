#!/usr/bin/env bash
# Make the environment named by $1: "venv" (uv where present, else pip) or "conda" (environment.yml).
set -eu
cd "$(dirname "$0")/.."

if [ "$1" = conda ]; then
  tool=$(command -v mamba || command -v conda)
  "$tool" env update --quiet --name "${CONDA_ENV_NAME:-capitulation}" --file environment.yml --prune
  mkdir -p .venv && touch .venv/.made-conda
  exit 0
fi

echo "Setting up .venv from pyproject.toml (once; again only when it changes) ..." >&2
if command -v uv >/dev/null 2>&1; then
  uv venv --quiet --allow-existing --python '>=3.11,<3.14' .venv
  uv pip install --quiet --python .venv/bin/python --constraint constraints.txt --editable '.[test,dask]'
else
  python=""
  for candidate in python3.13 python3.12 python3.11 python3 python; do
    if command -v "$candidate" >/dev/null 2>&1 &&
      "$candidate" -c 'import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; then
      python=$candidate
      break
    fi
  done
  if [ -z "$python" ]; then
    echo "No Python 3.11 to 3.13 with venv found: install one (on Debian: apt-get install python3 python3-venv), or uv, or use CONDA=1." >&2
    exit 2
  fi
  [ -x .venv/bin/python ] && .venv/bin/python -c '' 2>/dev/null || "$python" -m venv --clear .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test,dask]'
fi
touch .venv/.made
