"""The APP11 segment: what is put in comes out, and any wrong byte is seen."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from jaxcodec.coding.container import Limits
from jaxcodec.coding.jpeg_segment import JpegSegment, add_segment, has_segment, split_segment
from jaxcodec.errors import CorruptFile, JaxcodecError, TooLarge, TruncatedFile

SEGMENT = JpegSegment(7, b"\x01\x02\xff\x00", 1000, 3)


@pytest.fixture(scope="module")
def jpeg():
    buffer = io.BytesIO()
    y, x = np.mgrid[:24, :40]
    Image.fromarray((5 * x + y).astype(np.uint8)).save(buffer, "JPEG", quality=50)
    return buffer.getvalue()


def test_a_segment_comes_back_and_the_file_without_it_is_the_old_one(jpeg):
    data = add_segment(jpeg, SEGMENT)
    assert has_segment(data)
    assert split_segment(data) == (SEGMENT, jpeg)
    # Behind the JFIF header, which has to be the first segment.
    assert data[:20] == jpeg[:20]
    assert data[20:22] == b"\xff\xeb"


def test_a_file_without_a_segment_has_none(jpeg):
    assert not has_segment(jpeg)
    assert split_segment(jpeg) is None
    for data in (b"", b"\xff\xd8", b"\xff\xd8\xff\xeb\x00", b"text", b"\xff\xd8\xff\xe0\x00\x00" * 3):
        assert split_segment(data) is None
    foreign = jpeg[:20] + b"\xff\xeb\x00\x06JP\x00\x00" + jpeg[20:]
    assert split_segment(foreign) is None


def test_any_flipped_bit_is_seen_or_makes_it_no_file_of_ours(jpeg):
    data = add_segment(jpeg, SEGMENT)
    rng = np.random.default_rng(0)
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1 << rng.integers(0, 8)
        try:
            assert split_segment(bytes(damaged)) is None
            assert place < 28  # the start of the file, and the segment's marker and identifier
        except JaxcodecError:
            pass


def test_every_cut_behind_the_segment_is_seen(jpeg):
    data = add_segment(jpeg, SEGMENT)
    for length in range(40, len(data)):
        with pytest.raises(TruncatedFile):
            split_segment(data[:length])


def test_appended_bytes_are_seen(jpeg):
    with pytest.raises((CorruptFile, TruncatedFile)):
        split_segment(add_segment(jpeg, SEGMENT) + b"\0\xff\xd9")


def test_sizes_beyond_the_limits_are_refused(jpeg):
    huge = add_segment(jpeg, replace(SEGMENT, width=2**40, height=2**20))
    with pytest.raises(TooLarge, match="1099511627776 x"):
        split_segment(huge)
    with pytest.raises(TooLarge, match="bytes"):
        split_segment(add_segment(jpeg, SEGMENT), limits=Limits(max_file_bytes=len(jpeg)))
    with pytest.raises(CorruptFile):
        split_segment(add_segment(jpeg, replace(SEGMENT, width=0)))
