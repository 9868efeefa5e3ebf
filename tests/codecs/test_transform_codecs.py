"""What every transform coder promises, for each fixture network: sizes, windows, batches, weights, refusals."""

import subprocess
import sys

import jax
import numpy as np
import pytest

from jaxcodec.codecs.base import Codec, SteppedCodec
from jaxcodec.codecs.registry import load
from jaxcodec.coding.container import Limits, read_header
from jaxcodec.errors import BadImage, BadOption, TooLarge, WrongWeights
from jaxcodec.zoo.weights import save_weights
from tests.codecs.golden_codecs import (
    NETWORKS,
    ROOT,
    assert_nearly_the_same_symbols,
    fixture_codec,
    fixture_rung,
    fixture_weights,
    least_stride,
    levels_apart,
    photo,
    untiled_picture,
    untiled_symbols,
    weights_path,
)

every_network = pytest.mark.parametrize("network", NETWORKS)
# One network with a single quality, one with a ladder.
each_kind = pytest.mark.parametrize("network", ["bls2017", "theis2017"])


def psnr(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2))


def save_changed(folder, network, **changes):
    """The weight file of a network with some fields changed."""
    weights = fixture_weights(network)
    fields = {
        "codec": weights.codec,
        "quality": weights.quality,
        "config": weights.config,
        "params": weights.params,
        "tables": weights.tables,
    }
    return save_weights(folder, **(fields | changes))


@every_network
def test_the_fixture_codecs_keep_the_protocol(network):
    codec = fixture_codec(network)
    assert isinstance(codec, Codec)
    assert isinstance(codec, SteppedCodec)
    assert codec.default_quality in codec.ladder
    assert set(codec.ladder) <= set(codec.qualities)
    assert list(codec.qualities) == sorted(codec.qualities)
    assert codec.extension == ".jxc"


@pytest.mark.parametrize(
    ("network", "height", "width"),
    [
        *(("bls2017", *size) for size in [(1, 1), (5, 7), (300, 200), (513, 769), (1, 2000)]),
        *(("theis2017", *size) for size in [(1, 1), (7, 5), (65, 33), (300, 200), (1, 600)]),
    ],
)
def test_a_picture_of_any_size_comes_back_in_its_size(network, height, width):
    image = photo(height, width, top=100)
    codec = fixture_codec(network)
    data = codec.encode(image)
    header = read_header(data)
    assert (header.width, header.height, header.channels) == (width, height, 3)
    assert header.quality == fixture_rung(network).number
    symbols = codec.decode_latents(data)
    stride = least_stride(network)
    assert symbols.shape == (-(-height // stride), -(-width // stride), 8)
    assert_nearly_the_same_symbols(symbols, untiled_symbols(network, image))
    decoded = codec.decode(data)
    assert levels_apart(decoded, untiled_picture(network, symbols, height, width)) <= 1
    if min(height, width) > 100:
        # 8 channels make a poor picture, but a picture.
        assert psnr(decoded, image) > 18


@every_network
def test_many_small_windows_code_what_one_large_window_does(network):
    image = photo(300, 200, top=60)
    small = fixture_codec(network, window_shapes=((128, 128),))
    large = fixture_codec(network, window_shapes=((304, 208),))
    symbols = small.latents([image])[0]
    assert_nearly_the_same_symbols(symbols, large.latents([image])[0])
    assert np.count_nonzero(symbols) > symbols.size / 4
    data = large.encode(image)
    assert levels_apart(small.decode(data), large.decode(data)) <= 1


@every_network
def test_windows_code_what_the_network_makes_of_the_whole_picture(network):
    image = photo(137, 251, name="kodim05.png")
    codec = fixture_codec(network, window_shapes=((128, 128),))
    data = codec.encode(image)
    symbols = codec.decode_latents(data)
    assert_nearly_the_same_symbols(symbols, untiled_symbols(network, image))
    assert levels_apart(codec.decode(data), untiled_picture(network, symbols, 137, 251)) <= 1


@each_kind
def test_grey_is_coded_as_equal_channels_and_comes_back_grey(network):
    grey = photo(60, 90, name="kodim15.png")[..., 1]
    codec = fixture_codec(network)
    data, colour = codec.encode(grey), codec.encode(np.repeat(grey[..., None], 3, axis=2))
    np.testing.assert_array_equal(codec.decode_latents(data), codec.decode_latents(colour))
    assert read_header(data).channels == 1
    decoded = codec.decode(data)
    assert decoded.shape == grey.shape
    assert levels_apart(decoded, np.round(codec.decode(colour).mean(-1)).astype(np.uint8)) == 0


@each_kind
def test_a_batch_gives_each_picture_its_own_file(network):
    images = [photo(40, 50), photo(300, 70, top=20), photo(1, 3), photo(33, 20)[..., 0]]
    codec = fixture_codec(network)
    files = codec.encode_batch(images)
    assert files == [codec.encode(image) for image in images]
    for image, decoded, data in zip(images, codec.decode_batch(files), files, strict=True):
        assert decoded.shape == image.shape
        assert levels_apart(decoded, codec.decode(data)) == 0
    assert codec.encode_batch([]) == []
    assert codec.decode_batch([]) == []


@each_kind
def test_a_prepared_picture_gives_the_file_of_each_quality(network):
    codec, image = fixture_codec(network), photo(60, 50, top=30)
    prepared = codec.prepare(image)
    for quality in {codec.qualities[0], codec.default_quality, codec.qualities[-1]}:
        assert prepared(quality) == codec.encode(image, quality=quality)
    with pytest.raises(BadOption, match="no quality"):
        prepared(codec.qualities[-1] + 1)


@each_kind
def test_a_file_of_other_weights_raises_wrong_weights(network, tmp_path):
    data = fixture_codec(network).encode(photo(20, 20))
    other = load(fixture_weights(network).codec, weights=save_changed(tmp_path, network, quality=7))
    with pytest.raises(WrongWeights, match="not installed"):
        other.decode(data)


@each_kind
def test_weights_whose_content_is_not_what_their_name_says_raise_wrong_weights(network, tmp_path):
    data = fixture_codec(network).encode(photo(20, 20))
    other = save_changed(tmp_path / "other", network, quality=7).read_bytes()
    swapped = tmp_path / weights_path(network).name
    swapped.write_bytes(other)
    with pytest.raises(WrongWeights, match="content"):
        load(fixture_weights(network).codec, weights=swapped).decode(data)


@each_kind
def test_a_renamed_weight_file_still_decodes(network, tmp_path):
    data = fixture_codec(network).encode(photo(20, 20))
    renamed = tmp_path / "mine.safetensors"
    renamed.write_bytes(weights_path(network).read_bytes())
    assert load(fixture_weights(network).codec, weights=renamed).decode(data).shape == (20, 20, 3)


@each_kind
def test_weights_of_a_network_that_this_version_has_not_raise_wrong_weights(network, tmp_path):
    # The configuration is read back by name: an unknown field is a later version's.
    config = {**fixture_weights(network).config, "attention": True}
    later = save_changed(tmp_path, network, config=config)
    with pytest.raises(WrongWeights, match="attention"):
        load(fixture_weights(network).codec, weights=later).encode(photo(3, 3))


@each_kind
def test_the_file_of_another_codec_raises_bad_option(network):
    data = fixture_codec("bmshj2018").encode(photo(20, 20))
    with pytest.raises(BadOption, match="bmshj2018"):
        fixture_codec(network).decode(data)


@pytest.mark.parametrize(
    ("network", "quality"),
    [
        *(("bls2017", quality) for quality in (0, 3, 100, 1.5, float("nan"), float("inf"))),
        *(("theis2017", quality) for quality in (0, 0.59, 2.51, 3, -1.5, float("nan"), float("inf"))),
    ],
)
def test_a_quality_that_is_not_offered_raises_bad_option(network, quality):
    with pytest.raises(BadOption, match=f"no quality {quality}"):
        fixture_codec(network).encode(photo(20, 20), quality=quality)


@each_kind
def test_options_of_another_kind_raise_bad_option(network):
    with pytest.raises(BadOption, match="TransformOptions"):
        fixture_codec(network).encode(photo(20, 20), options={"window_batch": 2})
    with pytest.raises(BadOption, match="TransformOptions"):
        fixture_codec(network).prepare(photo(20, 20), options={"window_batch": 2})


@each_kind
def test_a_picture_over_the_limit_raises_too_large_both_ways(network):
    image = photo(20, 30)
    tight = fixture_codec(network, limits=Limits(max_pixels=599))
    with pytest.raises(TooLarge, match="30x20"):
        tight.encode(image)
    with pytest.raises(TooLarge, match="30 x 20 pixels"):
        tight.decode(fixture_codec(network).encode(image))


@each_kind
@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros(4, np.uint8),
    ],
)
def test_what_is_no_picture_raises_bad_image(network, image):
    with pytest.raises(BadImage):
        fixture_codec(network).encode(image)


_LARGE = """
import sys
import numpy as np
sys.path.insert(0, {root!r})
from tests.codecs.golden_codecs import fixture_codec

def peak():
    # Not ru_maxrss, in which a process inherits the peak of the one that started it.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024

shapes = {shapes!r}
codec = fixture_codec({network!r}, window_shapes=shapes)
codec.decode(codec.encode(np.zeros((600, 900, 3), np.uint8)))  # several windows: everything is compiled
before = peak()
rows, columns = ((np.arange(n) % 256).astype(np.uint8) for n in (2000, 3000))
image = np.broadcast_to(rows[:, None, None] ^ columns[:, None], (2000, 3000, 3))
assert codec.decode(codec.encode(image)).shape == (2000, 3000, 3)
print(peak() - before)
"""


def _growth_in_mib(network, shapes):
    code = _LARGE.format(root=str(ROOT), network=network, shapes=shapes)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


@each_kind
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/status")
def test_a_large_picture_takes_memory_for_its_pixels_and_latents_only(network):
    # 6 and 18 MB of pixels, and 0.75 MB of latents several times (four times as much at a stride of 8, with the costs
    # of several symbols): 37 were measured, and 154 in one window.
    assert _growth_in_mib(network, ((512, 768), (768, 512))) < 100


@each_kind
def test_pictures_of_24_sizes_in_one_call_compile_at_most_4_programs(network):
    compiled = []

    def listen(event, seconds, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(seconds)

    rng = np.random.default_rng(24)
    sizes = [
        (512, 768),
        (768, 512),
        (40, 50),
        *zip(rng.integers(30, 800, 21), rng.integers(30, 800, 21), strict=True),
    ]
    assert len(set(sizes)) == 24
    images = [photo(int(h), int(w)) for h, w in sizes]
    codec = fixture_codec(network)
    jax.clear_caches()
    jax.monitoring.register_event_duration_secs_listener(listen)
    files = codec.encode_batch(images)
    encoding = list(compiled)
    compiled.clear()
    pictures = codec.decode_batch(files)
    assert [picture.shape for picture in pictures] == [image.shape for image in images]
    for programs in (encoding, compiled):
        assert len(programs) > 0  # otherwise nothing was listened to
        assert sum(seconds > 0.2 for seconds in programs) <= 4
        # A small network may compile in less: whatever the time, there are three window shapes.
        assert len(programs) <= 4
