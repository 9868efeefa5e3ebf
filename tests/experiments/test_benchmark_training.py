"""The benchmark as a user runs it, at toy size; its count of arithmetic; its reading of traces. No times."""

import importlib.util
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from absl import app
from jax import lax

pytest.importorskip("jaxcodec.training", reason="training needs jaxcodec[train]", exc_type=ImportError)

from experiments.benchmark_kernels import origins, top_kernels
from experiments.benchmark_training import FLAGS, FLOPS_PER_MAC, main, systems

ROOT = Path(__file__).parents[2]


def run(*arguments):
    # What is compiled runs twice: not worth optimising.
    quickly = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "XLA_FLAGS": quickly}
    command = [sys.executable, "-m", "experiments.benchmark_training", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, cwd=ROOT)


TINY = (
    *("--batch_sizes=2", "--crop_size=32", "--channels=4", "--latent_channels=4", "--calls=2"),
    *("--steps_per_call=2", "--matmul_size=64"),
)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmark")
    done = run(
        *TINY,
        "--systems=balle2017 N=128",
        "--dtypes=float32",
        f"--profile={folder}",
        f"--output={folder / 'speed.json'}",
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads((folder / "speed.json").read_text())


def test_the_report_says_what_was_timed_where(report):
    assert report["environment"].keys() >= {"jax", "jaxlib", "flax", "optax", "device", "threads"}
    assert report["settings"]["crop_size"] == 32
    assert report["settings"]["steps_per_call"] == 2
    (row,) = report["rows"]
    assert (row["system"], row["mode"], row["batch_size"]) == ("balle2017 N=128 M=192", "float32", 2)
    assert row["framework"] == "jaxcodec"
    assert len(row["step_s_of_each_call"]) == 2


def test_speed_flops_and_share_follow_from_the_step_time(report):
    (row,) = report["rows"]
    assert row["crops_per_s"] == pytest.approx(2 / row["step_s"])
    flops = FLOPS_PER_MAC * row["macs_per_pixel"] * 2 * 32 * 32
    assert row["model_flops_per_s"] == pytest.approx(flops / row["step_s"])
    peak = report["matmul_peak_flops"]["float32"]
    assert peak > 0
    assert row["share_of_peak"] == pytest.approx(row["model_flops_per_s"] / peak)


def test_the_profile_names_kernels_and_where_they_come_from(report):
    (profile,) = report["profile"]
    kernels = profile["kernels"]
    assert len(kernels) == 10
    times = [kernel["ms_per_step"] for kernel in kernels]
    assert times == sorted(times, reverse=True)
    assert min(times) > 0
    assert sum(kernel["share"] for kernel in kernels) <= 1 + 1e-9
    # A step's arithmetic is convolutions, whatever the compiler calls its kernels.
    assert any("conv" in origin for kernel in kernels for origin in kernel["from"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--crop_size=40",), "multiple of 16"),
        (("--systems=nothing",), "balle2017 N=192"),
        (("--batch_sizes=8,x",), "whole numbers"),
        (("--dtypes=float16",), "float32 and bfloat16"),
        (("--compressai_python=nowhere/python",), "nowhere/python: it cannot be run"),
        (("surplus",), "surplus"),
    ],
)
def test_a_wrong_command_ends_with_a_sentence(arguments, said):
    try:
        with pytest.raises(app.UsageError, match=said):
            main(FLAGS(["benchmark", *arguments]))
    finally:
        FLAGS.unparse_flags()


@pytest.mark.skipif(importlib.util.find_spec("compressai") is not None, reason="has compressai")
def test_an_interpreter_without_compressai_is_named(capfd):
    try:
        with pytest.raises(app.UsageError, match=f"{re.escape(sys.executable)}: the process ended"):
            main(FLAGS(["benchmark", f"--compressai_python={sys.executable}"]))
    finally:
        FLAGS.unparse_flags()
    assert "No module named" in capfd.readouterr().err


def test_an_unknown_flag_ends_without_traceback():
    done = run("--learning_rate=1")
    assert done.returncode == 1
    assert "learning_rate" in done.stderr
    assert "Traceback" not in done.stderr


# --- arithmetic ---


def macs_of(function, *arguments):
    """Multiply-accumulates of a function's convolutions and matrix products, zeros between samples not counted."""
    total = 0
    for equation in jax.make_jaxpr(function)(*arguments).jaxpr.eqns:
        if equation.primitive is lax.conv_general_dilated_p:
            positions = math.prod(equation.outvars[0].aval.shape[:3])
            total += positions * equation.invars[1].aval.size / math.prod(equation.params["lhs_dilation"])
        elif equation.primitive is lax.dot_general_p:
            total += equation.outvars[0].aval.size * equation.invars[0].aval.shape[-1]
    return total


def reference_network(stages, N, M):
    """The papers' layers as plain strided and zero-inserting convolutions, with GDN's matrices between."""
    widths = [3, *[N] * (len(stages) - 1), M]
    ones = jnp.ones

    def network(x):
        kinds = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
        for i, (K, s) in enumerate(stages):
            kernel = ones((K, K, widths[i], widths[i + 1]))
            x = lax.conv_general_dilated(x, kernel, (s, s), [(K // 2, K // 2)] * 2, **kinds)
            x = x if widths[i + 1] is M and i == len(stages) - 1 else x * (x @ ones((N, N)))
        for i, (K, s) in reversed(list(enumerate(stages))):
            x = x if i == len(stages) - 1 else x * (x @ ones((N, N)))
            kernel = ones((K, K, widths[i + 1], widths[i]))
            padding = [(K // 2, s - 1 + K // 2)] * 2
            x = lax.conv_general_dilated(x, kernel, (1, 1), padding, lhs_dilation=(s, s), **kinds)
        return x

    return network


@pytest.mark.parametrize("name", systems())
def test_macs_per_pixel_are_those_of_the_plain_layers(name):
    stages = ((5, 2),) * 4 if "bmshj2018" in name else ((9, 4), (5, 2), (5, 2))
    N, M = (192, 192) if "N=192" in name else (128, 192)
    counted = macs_of(reference_network(stages, N, M), jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32))
    assert systems()[name].macs_per_pixel == counted / 64**2


def test_macs_per_pixel_of_the_compared_network_are_those_of_compressai():
    # torch.utils.flop_counter (PyTorch 2.15) on compressai 1.2.8, FactorizedPrior(128, 192), 128x128 pixels:
    # half the flops of its convolutions, GDN's among them, per pixel.
    (compared,) = [system for system in systems().values() if system.peer == "bmshj2018-factorized"]
    assert compared.macs_per_pixel == 84352.0


def test_the_compared_network_has_as_many_parameters_in_its_prior_as_compressai(key):
    # entropy_bottleneck of compressai 1.2.8's FactorizedPrior(128, 192), without its quantiles: 192 x 58.
    (compared,) = [system for system in systems().values() if system.peer]
    prior = jax.eval_shape(compared.task(jnp.float32, False).init, key)["prior"]
    assert sum(value.size for value in jax.tree.leaves(prior)) == 192 * 58


# --- traces ---


def names_of(process, threads):
    yield {"ph": "M", "name": "process_name", "pid": 1, "args": {"name": process}}
    for tid, name in threads.items():
        yield {"ph": "M", "name": "thread_name", "pid": 1, "tid": tid, "args": {"name": name}}


def event(name, start, duration, *, tid=1, **arguments):
    return {"ph": "X", "name": name, "pid": 1, "tid": tid, "ts": start, "dur": duration, "args": arguments}


def test_a_cpu_trace_counts_the_operations_of_the_module_without_those_inside():
    events = [
        *names_of("/host:CPU", {1: "worker"}),
        event("while", 0, 1000, hlo_op="while", hlo_module="jit_chunk"),
        event("conv.1", 100, 600, hlo_op="conv.1", hlo_module="jit_chunk"),
        event("add.2", 800, 50, hlo_op="add.2", hlo_module="jit_chunk"),
        event("conv.1", 1000, 200, hlo_op="conv.1", hlo_module="jit_chunk"),
        event("other", 0, 9000, tid=2, hlo_op="other", hlo_module="jit_other"),
        event("python", 0, 9000, tid=3),
    ]
    kernels = top_kernels({"traceEvents": events}, module="jit_chunk", steps=2)
    found = {k["kernel"]: (k["ms_per_step"], k["calls_per_step"], k["share"]) for k in kernels}
    assert list(found) == ["conv.1", "while", "add.2"]
    assert found["conv.1"] == pytest.approx((0.4, 1.0, 800 / 1200))
    assert found["while"] == pytest.approx((0.175, 0.5, 350 / 1200))


def test_a_gpu_trace_counts_what_runs_on_streams_once():
    events = [
        *names_of("/device:GPU:0", {1: "Stream #20(Compute)", 2: "Stream #22(Memcpy)", 3: "XLA Modules"}),
        event("sm90_gemm", 0, 30, hlo_op="gemm_fusion.1", hlo_module="jit_chunk"),
        event("sm90_gemm", 40, 30, hlo_op="gemm_fusion.2", hlo_module="jit_chunk"),
        event("copy", 0, 20, tid=2),
        event("jit_chunk", 0, 100, tid=3, hlo_op="jit_chunk", hlo_module="jit_chunk"),
    ]
    kernels = top_kernels({"traceEvents": events}, module="jit_chunk", steps=1)
    assert [k["kernel"] for k in kernels] == ["sm90_gemm", "copy"]
    assert kernels[0]["hlo"] == ["gemm_fusion.1", "gemm_fusion.2"]
    assert kernels[0]["share"] == pytest.approx(0.75)


def test_an_operation_is_traced_back_to_the_layer_it_comes_from():
    hlo = jax.jit(lambda x: jnp.sin(x) @ x).lower(jnp.ones((8, 8))).compile().as_text()
    assert any("dot_general" in origin for origin in origins(hlo).values())
    lines = [
        "ENTRY %main (p: f32[4]) -> f32[4] {",
        '  %mul.3 = f32[4]{0} multiply(%p, %p), metadata={op_name="jit(f)/gdn_1/mul" stack_frame_id=1}',
        "  ROOT %fusion.4 = f32[2,2]{1,0} fusion(%mul.3), kind=kLoop, calls=%fused_computation",
        "}",
    ]
    assert origins("\n".join(lines)) == {"mul.3": "jit(f)/gdn_1/mul", "fusion.4": "f32[2,2]{1,0}"}
