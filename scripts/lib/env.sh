# Sourced by the scripts: sets up .venv when it is missing or out of date, and the paths.
# shellcheck shell=bash
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"

die() {
  echo "$(basename "$0"): $*" >&2
  exit 1
}

find_python() {
  local name
  for name in "${PYTHON:-python3.12}" python3.11 python3; do
    if "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null; then
      command -v "$name"
      return
    fi
  done
  return 1
}

make_venv() {
  local python
  python=$(find_python) || die "needs Python 3.11 or 3.12 (set PYTHON to its path)"
  if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    [ "$(id -u)" = 0 ] && [ "${CI:-}" = true ] || die "needs venv: apt-get install python3-venv"
    apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null
  fi
  [ -x .venv/bin/uv ] || {
    "$python" -m venv .venv
    .venv/bin/python -m pip install -q --disable-pip-version-check uv==0.13.8
  }
  .venv/bin/uv pip install -q --python .venv/bin/python --require-hashes -r requirements-dev.lock
}

lock_digest=$(sha256sum requirements-dev.lock) || die "requirements-dev.lock is missing"
if [ "$(cat .venv/.installed 2>/dev/null)" != "$lock_digest" ]; then
  (
    flock 9
    if [ "$(cat .venv/.installed 2>/dev/null)" != "$lock_digest" ]; then
      echo "setting up .venv" >&2
      make_venv || die "the environment could not be set up"
      echo "$lock_digest" >.venv/.installed
    fi
  ) 9>.venv.lock
fi

# Images for containers often set it; each of a thousand short processes would compile Airflow anew.
unset PYTHONDONTWRITEBYTECODE
export PATH="$root/.venv/bin:$PATH"
export PYTHONPATH="$root/include"
export AIRFLOW__CORE__DAGS_FOLDER="$root/dags"
export AIRFLOW__CORE__PLUGINS_FOLDER="$root/plugins"
export AIRFLOW__CORE__LOAD_EXAMPLES=False
