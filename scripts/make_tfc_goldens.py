"""Write tests/golden/tfc.safetensors: GDN, deep factorized prior and convolutions by tensorflow-compression.

    python3.11 -m venv reference
    reference/bin/pip install 'jaxcodec[tfc]'
    reference/bin/python scripts/make_tfc_goldens.py

Parameters and inputs are in the file beside the outputs, so that the tests need no TensorFlow. Names are
`gdn/<case>/...`, `deep_factorized/...` and `convolution/<case>/...`; arrays are as the library takes and
gives them: channels last, gamma `[in, out]`, kernels `[K, K, in, out]`.
"""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from absl import app, flags

ROOT = Path(__file__).resolve().parent.parent
FILTERS = (3, 3)

GDN_CASES = {
    "paper": {"alpha": 2.0, "epsilon": 0.5, "inverse": False},
    "paper_inverse": {"alpha": 2.0, "epsilon": 0.5, "inverse": True},
    "simplified": {"alpha": 1.0, "epsilon": 1.0, "inverse": False},
    "simplified_inverse": {"alpha": 1.0, "epsilon": 1.0, "inverse": True},
}

CONVOLUTION_CASES = {
    "down_9x9_4": {"kernel": 9, "stride": 4, "up": False, "size": (18, 21)},
    "down_5x5_2": {"kernel": 5, "stride": 2, "up": False, "size": (8, 11)},
    "up_9x9_4": {"kernel": 9, "stride": 4, "up": True, "size": (3, 4)},
    "up_5x5_2": {"kernel": 5, "stride": 2, "up": True, "size": (4, 5)},
}


def gdn_arrays(tfc: Any, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """GDN and IGDN of the same input with random beta and gamma."""
    C = 5
    x = rng.normal(scale=3.0, size=(2, 3, 4, C)).astype(np.float32)
    beta = rng.uniform(0.2, 2.0, C).astype(np.float32)
    gamma = rng.uniform(0.0, 0.5, (C, C)).astype(np.float32)
    arrays = {"gdn/x": x, "gdn/beta": beta, "gdn/gamma": gamma}
    for name, case in GDN_CASES.items():
        layer = tfc.GDN(
            inverse=case["inverse"],
            rectify=False,
            alpha_parameter=case["alpha"],
            beta_parameter=beta,
            gamma_parameter=gamma,
            epsilon_parameter=case["epsilon"],
        )
        arrays[f"gdn/{name}/y"] = layer(x).numpy()
    return arrays


def deep_factorized_arrays(tfc: Any, tf: Any, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Cumulative, likelihood and its logarithm in float64, from the middle to far out in both tails."""
    C = 4
    prior = tfc.NoisyDeepFactorized(batch_shape=(C,), num_filters=FILTERS, init_scale=10.0, dtype=tf.float64)
    base = prior.base
    arrays = {}
    for kind, spread in (("matrices", 0.3), ("biases", 1.0), ("factors", 1.0)):
        for k, variable in enumerate(getattr(base, f"_{kind}")):
            value = variable.numpy() + rng.normal(scale=spread, size=variable.shape)
            # Rounded, so that float32 and float64 implementations start from the same numbers.
            value = value.astype(np.float32)
            variable.assign(value.astype(np.float64))
            singular = {"matrices": "matrix", "biases": "bias", "factors": "factor"}[kind]
            arrays[f"deep_factorized/params/{singular}_{k}"] = value
    y = np.concatenate([np.arange(-60.0, 60.5, 2.5), [-1000.0, -300.0, -120.0, 120.0, 300.0, 1000.0]])
    y = np.sort(y)[:, None] * np.ones((1, C))
    arrays |= {
        "deep_factorized/y": y,
        "deep_factorized/cumulative": base.cdf(y).numpy(),
        "deep_factorized/likelihood": prior.prob(y).numpy(),
        "deep_factorized/log_likelihood": prior.log_prob(y).numpy(),
    }
    return arrays


def convolution_arrays(tfc: Any, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """SignalConv2D as bls2017.py uses it: correlation going down, convolution going up, "same" zeros."""
    arrays = {}
    for name, case in CONVOLUTION_CASES.items():
        K, s = case["kernel"], case["stride"]
        x = rng.normal(size=(1, *case["size"], 2)).astype(np.float32)
        kernel = rng.normal(size=(K, K, 2, 3)).astype(np.float32)
        layer = tfc.SignalConv2D(
            3,
            (K, K),
            corr=not case["up"],
            strides_down=1 if case["up"] else s,
            strides_up=s if case["up"] else 1,
            padding="same_zeros",
            use_bias=False,
            kernel_parameter=kernel,
        )
        for part, value in (("x", x), ("kernel", kernel), ("y", layer(x).numpy())):
            arrays[f"convolution/{name}/{part}"] = value
    return arrays


def main(_: list[str]) -> None:
    import tensorflow as tf  # pyrefly: ignore[missing-import]
    import tensorflow_compression as tfc  # pyrefly: ignore[missing-import]

    rng = np.random.default_rng(20170406)
    arrays = {
        **gdn_arrays(tfc, rng),
        **deep_factorized_arrays(tfc, tf, rng),
        **convolution_arrays(tfc, rng),
    }
    packages = ("tensorflow-compression", "tensorflow", "tensorflow-probability", "numpy")
    origin = {
        "command": "python scripts/make_tfc_goldens.py",
        "packages": {name: importlib.metadata.version(name) for name in packages},
        "filters": FILTERS,
        "gdn": GDN_CASES,
        "convolution": CONVOLUTION_CASES,
    }
    metadata = {"origin": json.dumps(origin, sort_keys=True)}
    arrays = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    Path(OUTPUT.value).write_bytes(safetensors.numpy.save(arrays, metadata))


if __name__ == "__main__":
    OUTPUT = flags.DEFINE_string(
        "output", str(ROOT / "tests" / "golden" / "tfc.safetensors"), "Where to write the arrays."
    )
    app.run(main)
