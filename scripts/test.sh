#!/usr/bin/env bash
# Install into a fresh virtual environment and pass everything: lint, format, types, tests.
#   scripts/test.sh [FOLDER]      FOLDER of the environment, .venv-test when not given
set -euo pipefail
cd "$(dirname "$0")/.."
environment=${1:-.venv-test}
python=${PYTHON:-python3}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "needs Python 3.11 or newer; set PYTHON=" >&2; exit 1; }
[ -x "$environment/bin/python" ] || "$python" -m venv "$environment"
"$environment/bin/python" -m pip install --quiet --disable-pip-version-check -e '.[test]'
"$environment/bin/ruff" check .
"$environment/bin/ruff" format --check .
"$environment/bin/pyrefly" check --python-interpreter-path "$environment/bin/python"
JAX_PLATFORMS=cpu "$environment/bin/python" -m pytest -n 2 --dist loadscope --no-loadscope-reorder --durations=25
