#!/usr/bin/env bash
# Keras's backend "numpy" does not import without JAX, which no requirement of Keras names.
#
# Versions: keras 3.15.1, numpy 2.4.6, scipy 1.17.1, jax 0.7.2, CPython 3.11, Linux x86-64.
# Guess: KERAS_BACKEND=numpy needs NumPy, and SciPy perhaps: it is the way to run a layer without a framework.
# Seen: with keras, numpy and scipy installed, import keras ends in "No module named 'jax'"; with jax beside
#   them it imports, and a Dense gives NumPy arrays.
# Output:
#   without jax: ModuleNotFoundError: No module named 'jax'
#   with jax: ndarray
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q keras==3.15.1 numpy==2.4.6 scipy==1.17.1

cat > "$folder/program.py" <<'PROGRAM'
try:
    import keras
    import numpy as np

    print(type(keras.layers.Dense(2)(np.ones((1, 3)))).__name__)
except ModuleNotFoundError as error:
    print(f"ModuleNotFoundError: {error}")
PROGRAM
export KERAS_BACKEND=numpy KERAS_HOME=$folder
cd "$folder"
without=$("$folder/venv/bin/python" program.py 2> log)
"$folder/venv/bin/pip" install -q jax==0.7.2
with=$("$folder/venv/bin/python" program.py 2> log)
printf 'without jax: %s\nwith jax: %s\n' "$without" "$with"
[[ $without == "ModuleNotFoundError: No module named 'jax'" && $with == ndarray ]] || {
    echo "Keras behaves otherwise now" >&2
    exit 1
}
