import json
import struct
import zlib

import numpy as np
import pytest

from jaxcodec.errors import CorruptFile, JaxcodecError, TooLarge, TruncatedFile, UnknownCodec
from jaxcodec.pq.artefact import Artefact, CodedKernel, header_size, read_artefact, write_artefact
from jaxcodec.pq.size import CodedLayer, size_in_bits


def example(rng, *, centroids=(256, 2048, 2)):
    kernels = {}
    for i, K in enumerate(centroids):
        shape, d = ((3, 3, 20, 30), 9) if i == 0 else ((40, 52), 4)
        n = np.prod(shape) // d
        codebook = rng.standard_normal((K, d)).astype(np.float16)
        # One of them has scales.
        scales = tuple(rng.uniform(1, 2, side).astype(np.float16) for side in shape[-2:]) if i == 1 else None
        kernels[f"layer_{i}/kernel"] = CodedKernel(shape, codebook, rng.integers(0, K, n), scales)
    others = {"layer_0/bias": rng.standard_normal(30).astype(np.float32), "x": np.ones((2, 0, 3), np.float16)}
    return Artefact("example", {"channels": 30, "b": [1, 2]}, kernels, others)


def test_what_is_written_is_read_again(rng):
    artefact = example(rng)
    data = write_artefact(artefact)
    read = read_artefact(data)
    assert (read.architecture, read.config) == (artefact.architecture, artefact.config)
    assert read.kernels.keys() == artefact.kernels.keys()
    for name, kernel in artefact.kernels.items():
        assert read.kernels[name].shape == kernel.shape
        np.testing.assert_array_equal(read.kernels[name].codebook, kernel.codebook)
        np.testing.assert_array_equal(read.kernels[name].indices, kernel.indices)
        assert (read.kernels[name].scales is None) == (kernel.scales is None)
        np.testing.assert_array_equal(read.parameters()[name], kernel.dense())
    for name, value in artefact.others.items():
        assert read.others[name].dtype == value.dtype
        np.testing.assert_array_equal(read.others[name], value)
    assert write_artefact(read) == data


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("K", [2, 64, 256, 512, 2048, 65536])
def test_the_file_is_the_formula_and_the_header(rng, K, scaled):
    scales = (np.ones(64, np.float16), np.full(64, 2, np.float16)) if scaled else None
    codebook = rng.standard_normal((K, 4)).astype(np.float16)
    kernel = CodedKernel((64, 64), codebook, rng.integers(0, K, 1024), scales)
    data = write_artefact(Artefact("a", {}, {"k": kernel}, {"b": np.zeros(7, np.float32)}))
    formula = size_in_bits([CodedLayer((64, 64), 4, K, scaled)], 7) / 8
    assert len(data) - header_size(data) == formula


def test_a_file_that_is_cut_anywhere_raises(rng):
    data = write_artefact(example(rng))
    for end in [*range(60), len(data) // 2, len(data) - 1]:
        with pytest.raises(TruncatedFile):
            read_artefact(data[:end])


def test_a_changed_byte_anywhere_raises(rng):
    data = write_artefact(example(rng))
    for at in [*range(header_size(data)), *rng.integers(0, len(data), 50)]:
        changed = bytearray(data)
        changed[at] ^= 1 << int(rng.integers(8))
        with pytest.raises(JaxcodecError):
            read_artefact(bytes(changed), name="net.pq")


def with_header(data, change):
    """The file with another header and a right checksum."""
    start, length = struct.calcsize("<4sBI"), struct.unpack_from("<4sBI", data)[2]
    header = json.loads(zlib.decompress(data[start : start + length]))
    change(header)
    text = zlib.compress(json.dumps(header).encode())
    new = struct.pack("<4sBI", b"JXPQ", 1, len(text)) + text + data[start + length : -4]
    return new + zlib.crc32(new).to_bytes(4, "little")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda h: h["kernels"][0].update(K=3), CorruptFile),
        (lambda h: h["kernels"][0].update(K=1), CorruptFile),
        (lambda h: h["kernels"][0].update(d=7), CorruptFile),
        (lambda h: h["kernels"][0].update(shape=[]), CorruptFile),
        (lambda h: h["kernels"][0].update(shape=[-9, 2]), CorruptFile),
        (lambda h: h["kernels"][0].update(shape=[9, 2**40]), TooLarge),
        (lambda h: h["others"][0].update(shape=[2**40]), TooLarge),
        (lambda h: h["others"][0].update(shape=[-5]), CorruptFile),
        (lambda h: h["others"][0].update(dtype="int8"), CorruptFile),
        (lambda h: h["others"][0].update(shape=None), CorruptFile),
        (lambda h: h.pop("others"), CorruptFile),
        (lambda h: h["config"].update(channels=31), CorruptFile),
    ],
)
def test_a_header_that_lies_raises(rng, change, error):
    with pytest.raises(error, match=r"net\.pq"):
        read_artefact(with_header(write_artefact(example(rng)), change), name="net.pq")


def test_other_files_and_later_versions_are_named(rng):
    data = write_artefact(example(rng))
    with pytest.raises(CorruptFile, match="does not begin as a quantised network"):
        read_artefact(b"\x89PNG\r\n" + bytes(100))
    with pytest.raises(UnknownCodec, match="format version 9"):
        read_artefact(data[:4] + b"\x09" + data[5:])


@pytest.mark.parametrize(
    "kernel",
    [
        CodedKernel((8, 3), np.zeros((3, 4), np.float16), np.zeros(6, int)),
        CodedKernel((8, 3), np.zeros((4, 4), np.float32), np.zeros(6, int)),
        CodedKernel((8, 3), np.zeros((4, 4), np.float16), np.zeros(5, int)),
        CodedKernel((8, 3), np.zeros((4, 4), np.float16), np.full(6, 4)),
        CodedKernel((8, 3), np.zeros((4, 4), np.float16), np.full(6, -1)),
        CodedKernel((8, 3), np.zeros((4, 4), np.float16), np.zeros(6, int), (np.ones(3, np.float16),) * 2),
        CodedKernel((8, 3), np.zeros((4, 4), np.float16), np.zeros(6, int), (np.ones(8), np.ones(3))),
    ],
)
def test_codes_that_do_not_fit_are_not_written(kernel):
    with pytest.raises(ValueError):
        write_artefact(Artefact("a", {}, {"k": kernel}))


@pytest.mark.parametrize("K", [2, 256, 2048])
def test_unequal_indices_are_range_coded_near_their_entropy_and_come_back(rng, K):
    shares = 0.5 ** np.minimum(np.arange(K), 30)
    indices = rng.choice(K, 4096, p=shares / shares.sum())
    kernel = CodedKernel((64, 64), rng.standard_normal((K, 1)).astype(np.float16), indices)
    packed, coded = (write_artefact(Artefact("a", {}, {"k": kernel}), entropy_coded=e) for e in (False, True))
    found = np.bincount(indices, minlength=K) / indices.size
    entropy = -np.sum(found * np.log2(np.maximum(found, 1e-12))) * indices.size / 8
    if K > 2:
        assert len(coded) < len(packed)
        assert len(coded) - header_size(coded) - 4 * K == pytest.approx(entropy, rel=0.05, abs=16)
    for data in (packed, coded):
        np.testing.assert_array_equal(read_artefact(data).kernels["k"].indices, indices)
    for at in rng.integers(0, len(coded), 30):
        changed = bytearray(coded)
        changed[at] ^= 4
        with pytest.raises(JaxcodecError):
            read_artefact(bytes(changed))
