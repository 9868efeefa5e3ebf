"""Checkpoints of the training state, by orbax: the latest few are kept, and any device layout can restore."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp


class Checkpoints:
    """A folder of checkpoints; use it as a context manager.

    Parameters
    ----------
    folder
        Created when missing.
    keep
        How many of the latest checkpoints stay.
    """

    def __init__(self, folder: Path, *, keep: int = 2) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # orbax's own annotations contradict each other here.
        policy: Any = ocp.training.preservation_policies.LatestN(keep)
        self._checkpointer = ocp.training.Checkpointer(str(folder.absolute()), preservation_policy=policy)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._checkpointer.close()

    def latest_step(self) -> int | None:
        """The step of the newest complete checkpoint, or None."""
        latest = self._checkpointer.latest
        return None if latest is None else int(latest.step)

    def save(self, step: int, state: Any, config: dict[str, Any]) -> None:
        """Write the state and the configuration under `step`; a step already there is left alone."""
        if self.latest_step() != step:
            self._checkpointer.save_checkpointables(step, {"state": state, "config": config})

    def restore(self, like: Any) -> Any:
        """Read the newest state into the shapes, types and shardings of `like`."""
        abstract = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=getattr(x, "sharding", None)), like
        )
        return self._checkpointer.load_checkpointables(abstract_checkpointables={"state": abstract})["state"]

    def read(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The newest state as nested dictionaries of arrays, and the configuration saved with it.

        The arrays come to this machine's first device, whatever devices they were saved from.
        """
        here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        metadata = self._checkpointer.checkpointables_metadata().metadata["state"]
        abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), metadata)
        loaded = self._checkpointer.load_checkpointables(
            abstract_checkpointables={"state": abstract, "config": None}
        )
        return loaded["state"], loaded["config"]
