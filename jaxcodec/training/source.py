"""Where batches come from: cut on the device from pictures that lie there, or streamed from the host.

Both give the same global batches whatever the number of devices and processes, and go on at any batch: the
position in the data is the number of examples used, and nothing else.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxcodec.training.step import BatchFunction


@dataclass(frozen=True)
class ResidentSource:
    """Data on the device (a pytree), and the traceable function that draws a batch from it.

    Attributes
    ----------
    data
        The same on every process; replicated over the devices.
    batch
        `batch(data, key=key) -> uint8 [B, S, S, C]`.
    batch_size
        B, over all processes.
    """

    data: Any
    batch: BatchFunction
    batch_size: int


@dataclass(frozen=True)
class StreamSource:
    """Batches made on the host.

    Attributes
    ----------
    batches
        `batches(start, process_index=, process_count=, stack=K)` iterates without end over this process's
        share, uint8 `[K, B / processes, S, S, C]`, of the global batches from number `start` on; a global
        batch is the concatenation of the shares.
    batch_size
        B, over all processes.
    """

    batches: Callable[..., Iterator[np.ndarray]]
    batch_size: int


Source = ResidentSource | StreamSource


class Feed:
    """What the loop takes its data from; a context manager.

    `take` returns what a chunk of steps wants: the resident data, or `[K, B, S, S, C]` of the next K
    batches, split over the mesh along B. A stream is read and sent to the devices by a thread, at most
    `ahead` chunks before it is needed.

    Attributes
    ----------
    waited
        Seconds that `take` has waited for data so far.
    """

    def __init__(
        self, source: Source, mesh: Mesh, *, start: int, steps_per_call: int, ahead: int = 2
    ) -> None:
        self.waited = 0.0
        self._resident: Any = None
        self._thread: threading.Thread | None = None
        if isinstance(source, ResidentSource):
            replicated = NamedSharding(mesh, P())
            self._resident = jax.tree.map(
                lambda x: jax.make_array_from_process_local_data(replicated, np.asarray(x)), source.data
            )
            return
        self._queue: queue.Queue[Any] = queue.Queue(maxsize=ahead)
        self._stop = threading.Event()
        batches = source.batches(
            start,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            stack=steps_per_call,
        )
        split = NamedSharding(mesh, P(None, "data"))
        self._thread = threading.Thread(target=self._fill, args=(batches, split), daemon=True)
        self._thread.start()

    def _fill(self, batches: Iterator[np.ndarray], split: NamedSharding) -> None:
        try:
            while not self._stop.is_set():
                item = jax.make_array_from_process_local_data(split, next(batches))
                self._put(item)
        except BaseException as error:  # whatever it is belongs to the loop's thread
            self._put(error)
        finally:
            close = getattr(batches, "close", None)
            if close is not None:
                close()

    def _put(self, item: Any) -> None:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def take(self) -> Any:
        """Data for the next chunk; raises what reading them raised."""
        if self._thread is None:
            return self._resident
        start = time.perf_counter()
        item = self._queue.get()
        self.waited += time.perf_counter() - start
        if isinstance(item, BaseException):
            raise item
        return item

    def __enter__(self) -> Feed:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is not None:
            self._stop.set()
            self._thread.join(timeout=10.0)


def first_crops(source: Source, *, seed: int, count: int, size: int) -> np.ndarray:
    """At least `count` crops as training will see them, cut to uint8 `[n, size, size, C]`: to start from data.

    The same on every process.
    """
    batches: list[np.ndarray] = []
    if isinstance(source, ResidentSource):
        draw, data = jax.jit(source.batch), jax.device_put(source.data)
        key = jax.random.key(seed)
        # Numbers that no step has.
        for index in range(-(-count // source.batch_size)):
            batches.append(np.asarray(draw(data, key=jax.random.fold_in(key, 2**30 + index))))
    else:
        stream = source.batches(0, process_index=0, process_count=1, stack=1)
        while len(batches) * source.batch_size < count:
            batches.append(next(stream)[0])
    return np.concatenate(batches)[:, :size, :size]
