"""How a run is laid over devices: one mesh axis, `data`; batches are split along it, parameters if asked.

GSPMD does the rest: the step is one `jit`, and the same program runs on one device, on a pod, and on CPUs.
"""

from __future__ import annotations

import math
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxcodec.errors import BadOption

SMALLEST_SHARDED = 2**14
"""Parameters with fewer entries stay whole: gathering them would cost more than they weigh."""


def data_mesh() -> Mesh:
    """One axis, `data`, over all devices of all processes."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def check_batch_size(batch_size: int) -> None:
    """Make sure that the global batch divides among all devices.

    Raises
    ------
    BadOption
        If it does not.
    """
    devices = jax.device_count()
    if batch_size % devices:
        raise BadOption(
            f"a batch of {batch_size} does not divide among {devices} devices; choose a --batch_size that is "
            f"a multiple of {devices}"
        )


def state_shardings(state: Any, mesh: Mesh, *, fsdp: bool) -> Any:
    """Shardings for a state (a pytree of arrays or of their shapes): replicated, or with `fsdp` split.

    With `fsdp` every array of `SMALLEST_SHARDED` entries or more is split along its longest axis that the
    number of devices divides; weights, their average and the optimiser's moments have equal shapes and so
    equal shardings.
    """
    devices = mesh.size

    def rule(leaf: Any) -> NamedSharding:
        axes = [axis for axis, size in enumerate(leaf.shape) if size % devices == 0]
        if not fsdp or devices == 1 or not axes or math.prod(leaf.shape) < SMALLEST_SHARDED:
            return NamedSharding(mesh, P())
        longest = max(axes, key=lambda axis: leaf.shape[axis])
        return NamedSharding(mesh, P(*(None,) * longest, "data"))

    return jax.tree.map(rule, state)
