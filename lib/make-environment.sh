#!/usr/bin/env bash
# Make the environment that find-environment.sh names: .venv with uv where present, else pip; or conda's. One at a time:
# where another make is at it already, wait, and then most likely there is nothing left to do.
set -eu
cd "$(dirname "$0")/.."
unset PYTHONHOME PYTHONPATH PYTHONOPTIMIZE PYTHONWARNINGS PYTHONSAFEPATH
export PIP_USER=0

exec 9<lib/make-environment.sh # the file itself is the lock; pip inherits it, should this script be killed
if command -v flock >/dev/null 2>&1 && ! flock --nonblock 9; then
  echo "Another make is setting up the environment: waiting for it ..." >&2
  flock 9
fi
read -r kind python reason < <(bash lib/find-environment.sh)
[ -n "$reason" ] || exit 0
folder=${python%/bin/python}
echo "Setting up the environment in $folder ($reason) ..." >&2

if [ "$kind" = conda ]; then
  tool=$(command -v mamba || command -v conda)
  "$tool" env update --quiet --name "${CONDA_ENV_NAME:-capitulation}" --file environment.yml --prune
  bash lib/find-environment.sh record "$folder" >"$folder/.made"
  exit 0
fi

mkdir -p .venv
touch .venv/.making # until all is there
case "$reason" in
*missing | *changed) ;;
*) find .venv/ -mindepth 1 -maxdepth 1 ! -name .making -exec rm -rf {} + ;;
esac
if command -v uv >/dev/null 2>&1; then
  [ -f .venv/pyvenv.cfg ] || uv venv --quiet --allow-existing --python '>=3.11,<3.14' .venv
  uv pip install --quiet --python .venv/bin/python --constraint constraints.txt --editable '.[test,dask]'
else
  base=""
  for candidate in python3.13 python3.12 python3.11 python3 python; do
    if command -v "$candidate" >/dev/null 2>&1 &&
      "$candidate" -c 'import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; then
      base=$candidate
      break
    fi
  done
  if [ -z "$base" ]; then
    echo "No Python 3.11 to 3.13 with venv found: install one (on Debian: apt-get install python3 python3-venv), or uv, or use CONDA=1." >&2
    exit 2
  fi
  [ -f .venv/pyvenv.cfg ] || "$base" -m venv .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test,dask]'
fi
bash lib/find-environment.sh record .venv >.venv/.made
rm .venv/.making
