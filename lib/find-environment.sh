#!/usr/bin/env bash
# Which environment a make command uses: prints "<kind> <python> <stamp file>". Changes nothing.
set -u
cd "$(dirname "$0")/.." || exit 1

satisfied() { # does this python have everything that pyproject.toml asks for, this package included?
  "$1" - 2>/dev/null <<'PY'
import importlib.metadata as metadata, pathlib, re, sys, tomllib
if not (3, 11) <= sys.version_info[:2] < (3, 14): sys.exit(1)
try: from packaging.requirements import Requirement
except ImportError: sys.exit(1)
project = tomllib.loads(pathlib.Path("pyproject.toml").read_text())["project"]
try:
    where = pathlib.Path(__import__("capitulation").__file__).resolve()
    if pathlib.Path("lib").resolve() not in where.parents: sys.exit(1)
    for line in project["dependencies"] + project["optional-dependencies"]["test"]:
        need = Requirement(line)
        if not need.specifier.contains(metadata.version(need.name), prereleases=True): sys.exit(1)
except Exception: sys.exit(1)
PY
}

if [ -n "${CONDA:-}" ] && { command -v mamba || command -v conda; } >/dev/null 2>&1; then
  tool=$(command -v mamba || command -v conda)
  root=$("$tool" info --base 2>/dev/null)
  echo "conda ${root:-conda}/envs/${CONDA_ENV_NAME:-capitulation}/bin/python .venv/.made-conda"
elif [ -n "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] && command -v python >/dev/null 2>&1 && satisfied python; then
  echo "active $(command -v python) "
else
  echo "venv .venv/bin/python .venv/.made"
fi
