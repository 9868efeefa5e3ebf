r"""The file of a quantised network: codebooks and packed indices, and every other parameter. numpy only, never jax.

    magic "JXPQ", version (1 byte), length of the header (4 bytes, little endian), the header (JSON, deflated),
    per kernel the codebook (float16, [K, d]), then the indices (log2 K bits each, most significant bit first: the
    lowest 8 bits of all, then the higher ones), then its scales if it has some (float16, [I] and [O]);
    or, where that was asked for and is shorter, the indices as counts (2 bytes each, [K]) and range-coded words,
    the other arrays, CRC-32 of all before (4 bytes)

The header names architecture and configuration, the hash of the two, and every array with its shape. So the payload is
what the formula of `jaxcodec.pq.size` counts, to the byte that each array is rounded up to; the arrays that it does not
count are stored in float16 or float32, as they are given.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxcodec.coding.bit_fields import pack_fields, packed_size, unpack_fields
from jaxcodec.coding.range_coder import get_coder
from jaxcodec.coding.tables import quantize_probabilities
from jaxcodec.errors import CorruptFile, TooLarge, TruncatedFile, UnknownCodec
from jaxcodec.pq.layouts import count_blocks, from_blocks, rescale

MAGIC = b"JXPQ"
_VERSION = 1
_START = struct.Struct("<4sBI")
_LARGEST_HEADER = 2**22
_LARGEST_NETWORK = 2**28
"""Parameters; a small file might claim more than fit into memory."""

_LARGEST_WIDTH = 16
_DTYPES = {"float16": "<f2", "float32": "<f4"}
_AGAIN = "get another copy of the file"


@dataclass(frozen=True)
class CodedKernel:
    """A quantised kernel.

    Attributes
    ----------
    shape
        Of the kernel, `[*K, I, O]`.
    codebook
        float16 `[K, d]`, K a power of two.
    indices
        Integers `[n]`, 0..K-1, of the blocks in the order of `jaxcodec.pq.layouts`.
    scales
        Factors of inputs and outputs, float16 `[I]` and `[O]`, that what the codebook gives is multiplied by; or None.
    """

    shape: tuple[int, ...]
    codebook: np.ndarray
    indices: np.ndarray
    scales: tuple[np.ndarray, np.ndarray] | None = None

    def dense(self) -> np.ndarray:
        """The kernel, float32."""
        kernel = from_blocks(self.codebook.astype(np.float32)[self.indices], self.shape)
        if self.scales is not None:
            kernel = rescale(kernel, *(scale.astype(np.float32) for scale in self.scales))
        return np.ascontiguousarray(kernel)


@dataclass(frozen=True)
class Artefact:
    """A quantised network.

    Attributes
    ----------
    architecture, config
        What builds it: a name, and plain values.
    kernels
        The quantised kernels by name, `a/b/kernel`.
    others
        float16 or float32 arrays by name.
    """

    architecture: str
    config: dict[str, Any]
    kernels: Mapping[str, CodedKernel]
    others: Mapping[str, np.ndarray] = field(default_factory=dict)

    def parameters(self) -> dict[str, np.ndarray]:
        """All parameters by name, dense, float32."""
        dense = {name: kernel.dense() for name, kernel in self.kernels.items()}
        return dense | {name: value.astype(np.float32) for name, value in self.others.items()}


def config_hash(architecture: str, config: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits that tell one configuration of an architecture from another."""
    text = json.dumps([architecture, config], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def write_artefact(artefact: Artefact, *, entropy_coded: bool = False) -> bytes:
    """The file; the same network always gives the same bytes.

    Parameters
    ----------
    artefact
        The network.
    entropy_coded
        Whether indices may be range-coded, a table of counts to a kernel; otherwise the size is that of the formula.

    Raises
    ------
    ValueError
        If K is no power of two from 2 to 65536, an index is outside, a shape does not fit, or an array is neither
        float16 nor float32.
    """
    kernels, others, payload = [], [], []
    for name, kernel in sorted(artefact.kernels.items()):
        K, d = kernel.codebook.shape
        width = _width(K)
        indices = np.asarray(kernel.indices)
        if kernel.codebook.dtype != np.float16 or indices.shape != (count_blocks(kernel.shape, d),):
            raise ValueError(f"{name}: a codebook float16 [K, d] and an index to each block are needed")
        if indices.min() < 0 or indices.max() >= K:
            raise ValueError(f"{name}: an index lies outside 0..{K - 1}")
        scales = kernel.scales or ()
        if [(scale.dtype, scale.shape) for scale in scales] != [
            (np.dtype(np.float16), (side,)) for side in (kernel.shape[-2:] if scales else ())
        ]:
            raise ValueError(f"{name}: scales must be float16 [I] and [O]")
        row = {"name": name, "shape": list(kernel.shape), "d": d, "K": K}
        row |= {"scaled": 1} if scales else {}
        parts = _pack(indices, width)
        if entropy_coded:
            counts, words = _range_coded(indices, K)
            if len(counts) + len(words) < sum(map(len, parts)):
                parts = [counts, words]
                row["coded"] = len(words)
        kernels.append(row)
        payload += [kernel.codebook.astype("<f2").tobytes(), *parts]
        payload += [scale.astype("<f2").tobytes() for scale in scales]
    for name, value in sorted(artefact.others.items()):
        if value.dtype.name not in _DTYPES:
            raise ValueError(f"{name}: {value.dtype} is neither float16 nor float32")
        others.append({"name": name, "shape": list(value.shape), "dtype": value.dtype.name})
        payload.append(np.ascontiguousarray(value).astype(_DTYPES[value.dtype.name]).tobytes())
    header = {
        "architecture": artefact.architecture,
        "config": artefact.config,
        "config_hash": config_hash(artefact.architecture, artefact.config),
        "kernels": kernels,
        "others": others,
    }
    text = zlib.compress(json.dumps(header, sort_keys=True, separators=(",", ":")).encode(), 9)
    data = b"".join([_START.pack(MAGIC, _VERSION, len(text)), text, *payload])
    return data + zlib.crc32(data).to_bytes(4, "little")


def header_size(data: bytes) -> int:
    """Bytes of a file that are neither codebooks, indices nor parameters."""
    return _START.size + _START.unpack_from(data)[2] + 4


def read_artefact(data: bytes, *, name: str = "the artefact") -> Artefact:
    """Read a file of `write_artefact`.

    Parameters
    ----------
    data
        The whole file.
    name
        What messages call it.

    Raises
    ------
    CorruptFile
        If it is none, or a checksum or a field contradicts the rest.
    TruncatedFile
        If it ends before its own lengths say.
    UnknownCodec
        If its version is not known.
    TooLarge
        If it claims more than 2^28 parameters.
    """
    if data[:4] != MAGIC[: len(data)]:
        raise CorruptFile(
            f"{name} does not begin as a quantised network; scripts/export_weights.py --pq makes one"
        )
    if len(data) < _START.size:
        raise TruncatedFile(f"{name} ends within its first bytes; {_AGAIN}")
    _, version, length = _START.unpack_from(data)
    if version != _VERSION:
        raise UnknownCodec(f"{name} has format version {version}; this version of jaxcodec reads {_VERSION}")
    if len(data) < _START.size + length:
        raise TruncatedFile(f"{name} ends within its header; {_AGAIN}")
    try:
        return _read(data, length, name)
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        zlib.error,
        RecursionError,
    ) as error:
        raise CorruptFile(f"{name}: the header contradicts itself ({error}); {_AGAIN}") from error


def _read(data: bytes, length: int, name: str) -> Artefact:
    inflate = zlib.decompressobj()
    text = inflate.decompress(data[_START.size : _START.size + length], _LARGEST_HEADER)
    if not inflate.eof:
        raise ValueError("it does not end")
    header = json.loads(text)
    sizes = []
    parameters = 0
    for row in header["kernels"]:
        shape, block, K = tuple(map(int, row["shape"])), int(row["d"]), int(row["K"])
        count = count_blocks(shape, block)
        low, high = _widths(_width(K))
        parts = [packed_size(count, low), packed_size(count, high)]
        if "coded" in row:
            parts = [2 * K, _product([row["coded"]])]
        sizes += [2 * K * block, *parts, 2 * sum(shape[-2:]) if "scaled" in row else 0]
        parameters += _product(shape)
    for row in header["others"]:
        count = _product(row["shape"])
        sizes.append(count * np.dtype(_DTYPES[row["dtype"]]).itemsize)
        parameters += count
    if parameters > _LARGEST_NETWORK:
        raise TooLarge(f"{name} claims {parameters} parameters; at most {_LARGEST_NETWORK} are read")
    start = _START.size + length
    expected = start + sum(sizes) + 4
    if len(data) < expected:
        raise TruncatedFile(f"{name} has {len(data)} bytes of {expected}; {_AGAIN}")
    if len(data) > expected or zlib.crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise CorruptFile(f"{name} does not have the checksum it was written with; {_AGAIN}")
    if header["config_hash"] != config_hash(header["architecture"], header["config"]):
        raise ValueError("its configuration does not have the hash beside it")
    parts = []
    for size in sizes:
        parts.append(data[start : start + size])
        start += size
    pieces = iter(parts)
    kernels = {row["name"]: _read_kernel(row, *(next(pieces) for _ in range(4))) for row in header["kernels"]}
    others = {
        row["name"]: np.frombuffer(next(pieces), _DTYPES[row["dtype"]]).reshape(row["shape"]).copy()
        for row in header["others"]
    }
    return Artefact(str(header["architecture"]), dict(header["config"]), kernels, others)


def _read_kernel(
    row: Mapping[str, Any], codebook: bytes, low: bytes, high: bytes, scales: bytes
) -> CodedKernel:
    shape, block, K = tuple(map(int, row["shape"])), int(row["d"]), int(row["K"])
    count = count_blocks(shape, block)
    if "coded" in row:
        decoder = get_coder().decoder(high)
        counts = np.frombuffer(low, "<u2").astype(np.uint32)
        indices = decoder.decode(counts, count).astype(np.uint16)
        decoder.finish()
    else:
        widths = _widths(_width(K))
        indices = unpack_fields(low, count, widths[0]).astype(np.uint16)
        indices |= unpack_fields(high, count, widths[1]).astype(np.uint16) << np.uint16(8)
    codes = np.frombuffer(codebook, "<f2").reshape(K, block).astype(np.float16)
    if "scaled" not in row:
        return CodedKernel(shape, codes, indices)
    both = np.frombuffer(scales, "<f2").astype(np.float16)
    return CodedKernel(shape, codes, indices, (both[: shape[-2]], both[shape[-2] :]))


def _product(shape: Any) -> int:
    sides = [int(side) for side in shape]
    if any(side < 0 for side in sides):
        raise ValueError(f"a shape is {sides}")
    return math.prod(sides)


def _width(K: int) -> int:
    """log2 K, 1..16; at least 1, so that the file's length bounds how many indices it can claim."""
    width = K.bit_length() - 1
    if 1 << width != K or not 1 <= width <= _LARGEST_WIDTH:
        raise ValueError(f"{K} centroids are no power of two from 2 to {2**_LARGEST_WIDTH}")
    return width


def _widths(width: int) -> tuple[int, int]:
    """Bits of an index in its lower and its higher fields."""
    return min(width, 8), max(width - 8, 0)


def _range_coded(indices: np.ndarray, K: int) -> tuple[bytes, bytes]:
    """Counts of the indices that sum to 2^16, none of them zero, and the words of the range coder."""
    shares = np.bincount(indices, minlength=K) / indices.size
    counts = quantize_probabilities(shares[:-1], float(shares[-1]))
    encoder = get_coder().encoder()
    encoder.encode(indices.astype(np.int32), counts)
    return counts.astype("<u2").tobytes(), encoder.finish()


def _pack(indices: np.ndarray, width: int) -> list[bytes]:
    low, high = _widths(width)
    return [
        pack_fields((indices & 255).astype(np.uint8), low),
        pack_fields((indices >> 8).astype(np.uint8), high),
    ]
