import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import jaxcodec
from jaxcodec.codecs.registry import available, best_general_codec, decode, encode, load
from jaxcodec.coding.container import Header, pack
from jaxcodec.errors import (
    BadOption,
    JaxcodecError,
    MissingDependency,
    NotAJxcFile,
    TruncatedFile,
    UnknownCodec,
    WrongWeights,
)

CLASSICAL = [info for info in available() if info.kind == "classical"]
READY = [info for info in available() if info.qualities]


def gradient(height=20, width=30):
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 4, y * 5, x + y], axis=-1).astype(np.uint8)


def loaded(name):
    try:
        return load(name)
    except MissingDependency as error:
        pytest.skip(str(error))


def test_importing_jaxcodec_and_listing_codecs_imports_neither_jax_nor_pillow():
    program = (
        "import sys, jaxcodec; jaxcodec.available(); import jaxcodec.codecs.registry; "
        "print(sorted({'jax', 'flax', 'PIL', 'constriction', 'safetensors'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_the_public_face_is_complete():
    assert all(hasattr(jaxcodec, name) for name in jaxcodec.__all__)
    errors = [error for error in vars(jaxcodec.errors).values() if isinstance(error, type)]
    assert all(issubclass(error, JaxcodecError) and error.__name__ in jaxcodec.__all__ for error in errors)


def test_every_codec_is_listed_once():
    names = [info.name for info in available()]
    assert len(set(names)) == len(names)
    assert {"balle2017", "bmshj2018", "jpeg", "jpeg444", "jpeg2000", "webp", "avif", "hevc", "jxl"} <= set(
        names
    )
    assert {info.kind for info in available()} == {"learned", "classical"}


@pytest.mark.parametrize("info", CLASSICAL, ids=lambda info: info.name)
def test_what_is_listed_is_what_is_loaded(info):
    codec = loaded(info.name)
    assert (codec.name, codec.qualities, codec.extension) == (info.name, info.qualities, info.extension)


@pytest.mark.parametrize("info", CLASSICAL, ids=lambda info: info.name)
def test_decode_finds_the_codec_of_a_file_by_itself(info):
    codec = loaded(info.name)
    data = codec.encode(gradient())
    expected = codec.decode(data)
    for given in (data, bytearray(data), memoryview(data)):
        np.testing.assert_array_equal(decode(given), expected)  # pyrefly: ignore
    np.testing.assert_array_equal(jaxcodec.decode(encode(gradient(), info.name)), expected)


def test_encode_takes_the_quality():
    assert encode(gradient(), "jpeg", quality=10) == load("jpeg").encode(gradient(), quality=10)


@pytest.mark.parametrize("info", READY, ids=lambda info: info.name)
def test_options_of_another_codec_are_refused(info):
    with pytest.raises(BadOption, match=f"^{info.name} takes options of class .*, not object$"):
        loaded(info.name).encode(gradient(), options=object())


def test_an_unknown_name_lists_its_neighbours():
    with pytest.raises(UnknownCodec, match="no codec is named 'ball2017'; did you mean balle2017"):
        load("ball2017")
    with pytest.raises(UnknownCodec, match="there are balle2017, "):
        load("zzz")


def test_a_classical_codec_takes_no_weights():
    with pytest.raises(BadOption, match="takes no weights"):
        load("jpeg", weights="a.safetensors")


def test_weights_that_are_none_are_refused(tmp_path):
    with pytest.raises(WrongWeights):
        encode(gradient(), weights=tmp_path / "missing.safetensors")
    with pytest.raises(BadOption, match="empty"):
        encode(gradient(), weights=[])


def test_the_best_general_codec_is_a_learned_one_with_weights():
    with_weights = {info.name for info in available() if info.kind == "learned" and info.qualities}
    if with_weights & {"balle2017", "bmshj2018"}:
        assert best_general_codec() in with_weights
    else:
        with pytest.raises(WrongWeights, match="--weights"):
            best_general_codec()


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (b"", TruncatedFile, "empty"),
        (b"this is a text\n", NotAJxcFile, "jxc"),
        (b"\x89PNG\r\n\x1a\n", NotAJxcFile, "a PNG file"),
        (b"\x8aJX\n\x10", TruncatedFile, "ends"),
    ],
)
def test_what_no_codec_wrote_raises_a_typed_error(data, error, words):
    with pytest.raises(error, match=words):
        decode(data)


def test_a_jxc_file_of_a_codec_that_is_not_known_says_so():
    for number in (200, 0):
        header = Header(number, 0, bytes(4), 8, 8, 3, 8, 1)
        with pytest.raises(UnknownCodec, match=f"codec number {number}"):
            decode(pack(header, [b"x"]))


def test_a_name_in_place_of_the_bytes_is_refused(tmp_path):
    Image.fromarray(gradient()).save(tmp_path / "a.jpg")
    for name in (tmp_path / "a.jpg", str(tmp_path / "a.jpg")):
        with pytest.raises(BadOption, match="read_bytes"):
            decode(name)  # pyrefly: ignore
