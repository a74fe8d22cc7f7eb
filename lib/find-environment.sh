#!/usr/bin/env bash
# Which environment a make command uses: prints "<kind> <python>" and, where it must be made (again), the reason.
# Changes nothing. With "record <folder>": what make-environment.sh writes into <folder>/.made.
set -u
cd "$(dirname "$0")/.." || exit 1

satisfied() { # does this python have everything that pyproject.toml asks for, this package included?
  "$1" -I - 2>/dev/null <<'PY'
import importlib.metadata as metadata, importlib.util, pathlib, sys, tomllib
if not (3, 11) <= sys.version_info[:2] < (3, 14): sys.exit(1)
try: from packaging.requirements import Requirement
except ImportError: sys.exit(1)
project = tomllib.loads(pathlib.Path("pyproject.toml").read_text())["project"]
try:
    where = pathlib.Path(importlib.util.find_spec("capitulation").origin).resolve()
    if pathlib.Path("lib").resolve() not in where.parents: sys.exit(1)
    for line in project["dependencies"] + project["optional-dependencies"]["test"]:
        need = Requirement(line)
        if need.marker and not need.marker.evaluate(): continue
        if not need.specifier.contains(metadata.version(need.name), prereleases=True): sys.exit(1)
except Exception: sys.exit(1)
PY
}

record() { # on what the environment in the folder $1 depends, a line each
  pwd -P
  readlink -f "$1/bin/python" || echo
  cat pyproject.toml constraints.txt environment.yml lib/make-environment.sh | cksum
}

reason() { # why the environment in the folder $1 must be made (again); nothing where it is good
  [ -e "$1" ] || { echo "there is none yet" && return; }
  [ ! -e "$1/.making" ] || { echo "its set-up was cut off" && return; }
  "$1/bin/python" -ISc '' 2>/dev/null || { echo "its Python is gone" && return; }
  [ -s "$1/.made" ] || { echo "it was not made by make: adding what is missing" && return; }
  { read -r folder; read -r python; read -r declared; } <"$1/.made"
  record "$1" | {
    read -r here; read -r now; read -r wanted
    if [ "$folder" != "$here" ]; then echo "it was made for $folder"
    elif [ "$python" != "$now" ]; then echo "its Python was $python"
    elif [ "$declared" != "$wanted" ]; then echo "what it must hold changed"; fi
  }
}

if [ "${1-}" = record ]; then
  record "$2"
elif [ -n "${CONDA:-}" ] && { command -v mamba || command -v conda; } >/dev/null 2>&1; then
  tool=$(command -v mamba || command -v conda)
  folder=$("$tool" info --base 2>/dev/null)/envs/${CONDA_ENV_NAME:-capitulation}
  echo "conda $folder/bin/python $(reason "$folder")"
elif [ -n "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] && command -v python >/dev/null 2>&1 && satisfied python; then
  echo "active python"
else
  echo "venv .venv/bin/python $(reason .venv)"
fi
