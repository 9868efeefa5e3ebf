#!/usr/bin/env bash
# The leg beside tensorflow-compression 2.14.1: Python 3.11, jax 0.4.34. The runtime has to import, code and
# decode there, and the two range coders and the golden values have to agree.
#   scripts/test_tfc.sh [FOLDER]      FOLDER of the environment, .venv-tfc when not given
set -euo pipefail
cd "$(dirname "$0")/.."
environment=${1:-.venv-tfc}
python=${PYTHON311:-python3.11}

[ -x "$environment/bin/python" ] || "$python" -m venv "$environment"
"$environment/bin/python" -m pip install --quiet --disable-pip-version-check -e '.[tfc]'
JAX_PLATFORMS=cpu TF_CPP_MIN_LOG_LEVEL=3 "$environment/bin/python" -m pytest \
  tests/coding/test_tfc_coder.py tests/coding/test_range_coder.py tests/coding/test_latents.py \
  tests/codecs/test_golden_files.py tests/ops tests/layers tests/entropy
