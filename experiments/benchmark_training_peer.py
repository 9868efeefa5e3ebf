"""The PyTorch side of `benchmark_training.py`: times CompressAI's training step, under a Python that has it.

As a script it reads one JSON request per line from standard input and answers each with one JSON line; `Peer`
is the other end. After a first line with versions and device:

    {"prepare": NAME, "model": ..., "channels": N, "latent_channels": M, "batch_size": ..., "crop_size": ...,
     "mode": {"dtype": ..., "channels_last": ..., "compile": ...}}       -> {"macs_per_pixel": ...}
    {"time": NAME, "steps": ...}                                         -> {"seconds": ..., "loss": ...}
    {"drop": true}: forget what was prepared                             -> {}

and {"error": ...} where one fails, which does not end the others.

The step is that of CompressAI's examples/train.py: Adam on the network, Adam on the auxiliary loss of the
entropy bottleneck's quantiles, gradients clipped to norm 1. Crops are cut on the device from a uint8 tensor
that lies there, as ours are. What torch.compile compiles is the network together with the loss.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

WARM_UP_STEPS = 3
"""Steps before any timing: compilation, the choice of algorithms, the optimisers' state."""

LAMBDA = 0.013


class PeerFailed(Exception):
    """CompressAI answered with an error, or its process ended."""


class Peer:
    """CompressAI in a process of its own, started with the interpreter `python`."""

    def __init__(self, python: str) -> None:
        try:
            self._process = subprocess.Popen(
                [python, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        except OSError as error:
            raise PeerFailed(f"it cannot be run: {error.strerror}") from error
        self.environment = self._answer()

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and return the answer; raises `PeerFailed`."""
        assert self._process.stdin is not None
        if self._process.stdin.closed:
            raise PeerFailed("the process has ended")
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        answer = self._answer()
        if "error" in answer:
            raise PeerFailed(answer["error"])
        return answer

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise PeerFailed(f"the process ended with status {self.close()}; its message is above")
        return json.loads(line)

    def close(self) -> int:
        """End the process and return its status."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        return self._process.wait()


def describe(torch: Any) -> dict[str, Any]:
    """Versions, device and threads."""
    on_gpu = torch.cuda.is_available()
    return {
        "torch": torch.__version__,
        "compressai": importlib.import_module("compressai").__version__,
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "cuda": torch.version.cuda if on_gpu else None,
        "cudnn": torch.backends.cudnn.version() if on_gpu else None,
        "threads": torch.get_num_threads(),
    }


def make_crops(torch: Any, *, batch_size: int, crop_size: int, channels_last: bool) -> Callable[[], Any]:
    """Return a function that cuts random, half of them mirrored crops: float `[B, 3, S, S]` in [0, 1]."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    photos, height, width = 16, 2 * crop_size, 3 * crop_size
    generator = torch.Generator(device).manual_seed(0)
    pixels = torch.randint(
        0, 256, (photos * height * width, 3), dtype=torch.uint8, device=device, generator=generator
    )
    ramp = torch.arange(crop_size, device=device)

    def draw(limit: int) -> Any:
        return torch.randint(0, limit, (batch_size, 1), device=device)

    def crops() -> Any:
        mirrored = draw(2).bool()
        columns = torch.where(mirrored, crop_size - 1 - ramp, ramp) + draw(width - crop_size + 1)
        rows = draw(photos) * height + draw(height - crop_size + 1) + ramp
        batch = pixels[rows[:, :, None] * width + columns[:, None, :]]  # [B, S, S, 3]
        batch = batch.permute(0, 3, 1, 2).float() / 255.0
        return batch if channels_last else batch.contiguous()

    return crops


def make_step(torch: Any, request: dict[str, Any]) -> tuple[Callable[[], Any], float]:
    """Return a training step, which returns its loss on the device, and the multiply-accumulates per pixel."""
    models = importlib.import_module("compressai.models")
    optimizers = importlib.import_module("compressai.optimizers")
    classes = {
        "bmshj2018-factorized": models.FactorizedPrior,
        "mbt2018-mean": models.MeanScaleHyperprior,
    }
    mode = request["mode"]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    # The best that the card offers for float32: TF32, and cuDNN's own search among its algorithms.
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    network = classes[request["model"]](request["channels"], request["latent_channels"]).to(device).train()
    if mode["channels_last"]:
        network = network.to(memory_format=torch.channels_last)
    crops = make_crops(
        torch,
        batch_size=request["batch_size"],
        crop_size=request["crop_size"],
        channels_last=mode["channels_last"],
    )
    optimiser = optimizers.net_aux_optimizer(
        network, {"net": {"type": "Adam", "lr": 1e-4}, "aux": {"type": "Adam", "lr": 1e-3}}
    )

    def loss_of(x: Any) -> Any:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=mode["dtype"] == "bfloat16"):
            out = network(x)
        pixels = x.shape[0] * x.shape[2] * x.shape[3]
        bpp = sum(torch.log(p.float()).sum() for p in out["likelihoods"].values()) / (-math.log(2) * pixels)
        return LAMBDA * 255**2 * torch.nn.functional.mse_loss(out["x_hat"].float(), x) + bpp

    macs = count_macs(torch, network, crops())
    compiled = torch.compile(loss_of, dynamic=False) if mode["compile"] else loss_of

    def step() -> Any:
        x = crops()
        optimiser["net"].zero_grad()
        optimiser["aux"].zero_grad()
        loss = compiled(x)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser["net"].step()
        auxiliary = network.aux_loss()
        auxiliary.backward()
        optimiser["aux"].step()
        return loss.detach()

    return step, macs


def count_macs(torch: Any, network: Any, x: Any) -> float:
    """Multiply-accumulates per pixel of the convolutions (GDN's among them), by PyTorch's own counter."""
    counter = importlib.import_module("torch.utils.flop_counter").FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(x)
    counts = counter.get_flop_counts()["Global"]
    flops = sum(count for operation, count in counts.items() if "convolution" in str(operation))
    return flops / 2 / (x.shape[0] * x.shape[2] * x.shape[3])


def timed(torch: Any, step: Callable[[], Any], steps: int) -> tuple[float, float]:
    """Seconds of so many steps, until the device has finished them, and the last loss."""
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.synchronize()
    start = time.perf_counter()
    loss = step()
    for _ in range(steps - 1):
        loss = step()
    if on_gpu:
        torch.cuda.synchronize()
    return time.perf_counter() - start, float(loss)


def main() -> None:
    """Answer requests until standard input ends."""
    # Only answers go to standard output, whatever the libraries print there.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    torch = importlib.import_module("torch")
    ready: dict[str, Callable[[], Any]] = {}
    print(json.dumps(describe(torch)), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "prepare" in request:
                step, macs = make_step(torch, request)
                timed(torch, step, WARM_UP_STEPS)
                ready[request["prepare"]] = step
                answer: dict[str, Any] = {"macs_per_pixel": macs}
            elif "drop" in request:
                ready.clear()
                torch.compiler.reset()
                torch.cuda.empty_cache()
                answer = {}
            else:
                seconds, loss = timed(torch, ready[request["time"]], request["steps"])
                answer = {"seconds": seconds, "loss": loss}
        except Exception as error:  # one mode that fails must not end the others; its words are the result
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
