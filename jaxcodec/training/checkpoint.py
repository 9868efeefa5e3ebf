"""Checkpoints of the training state, by orbax: written in the background, restored onto any devices."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import jax
from etils import epath
from orbax.checkpoint import v1 as ocp


class Checkpoints:
    """A folder of checkpoints, local or in a bucket (`gs://`); use it as a context manager.

    A checkpoint appears under its name only when it is complete.

    Parameters
    ----------
    folder
        Created when missing.
    keep
        How many of the latest checkpoints stay.
    keep_every
        Checkpoints whose step is a multiple of this stay for good.
    clean
        Remove what an interrupted save left behind. Only for the run itself: a save of a run that goes on looks the
        same.
    """

    def __init__(
        self,
        folder: epath.PathLike,
        *,
        keep: int = 2,
        keep_every: int | None = None,
        clean: bool = False,
    ) -> None:
        path = epath.Path(folder)
        if "://" not in str(folder):
            path = epath.Path(path.absolute())
        path.mkdir(parents=True, exist_ok=True)
        policies = ocp.training.preservation_policies
        # orbax's own annotations contradict each other here.
        policy: Any = policies.LatestN(keep)
        if keep_every:
            policy = policies.AnyPreservationPolicy([policy, policies.EveryNSteps(keep_every)])
        self.folder = path
        self._checkpointer = ocp.training.Checkpointer(
            path, preservation_policy=policy, cleanup_tmp_directories=clean
        )

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
        """Write the state and the configuration under `step`; a step already there is left alone.

        Returns when the state is copied from the devices; the files are written in the background.
        """
        self._checkpointer.wait()
        if self.latest_step() != step:
            # Forced: when to save is the loop's decision, the same on all processes.
            self._checkpointer.save_checkpointables_async(
                step, {"state": state, "config": config}, force=True
            )

    def wait(self) -> None:
        """Return when the last save is complete."""
        self._checkpointer.wait()

    def restore(self, like: Any) -> tuple[Any, dict[str, Any]]:
        """Read the newest state into the shapes, types and shardings of `like`, and its configuration."""
        loaded = self._checkpointer.load_checkpointables(
            abstract_checkpointables={"state": like, "config": None}
        )
        return loaded["state"], loaded["config"]

    def configuration(self) -> dict[str, Any]:
        """The configuration saved with the newest state."""
        return self._checkpointer.load_checkpointables(abstract_checkpointables={"config": None})["config"]

    def read(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The newest state as nested dictionaries of arrays, and the configuration saved with it.

        The arrays come to this machine's first device, whatever devices they were saved from.
        """
        here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        metadata = self._checkpointer.checkpointables_metadata().metadata["state"]
        abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), metadata)
        return self.restore(abstract)
