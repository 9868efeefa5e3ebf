import dataclasses
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcodec.codecs.balle2017 import load_balle2017, load_bmshj2018
from jaxcodec.codecs.balle2017.export import coding_tables, export
from jaxcodec.codecs.balle2017.model import Analysis, Synthesis, TransformCoder, TransformConfig
from jaxcodec.codecs.base import Codec
from jaxcodec.coding.container import Limits, read_header
from jaxcodec.coding.tables import CodingTables
from jaxcodec.errors import BadImage, BadOption, TooLarge, WrongWeights
from jaxcodec.zoo.weights import round_params
from tests.codecs.golden_codecs import (
    NETWORKS,
    ROOT,
    fixture_codec,
    fixture_weights,
    levels_apart,
    photo,
    weights_path,
)

SIZES = [(1, 1), (5, 7), (300, 200), (513, 769), (1, 2000)]


@jax.jit
def _as_levels(x):
    return jnp.round(jnp.clip(x, 0, 1) * 255).astype(jnp.uint8)


def untiled_latents(network, image):
    """Rounded latents of the picture in one piece, edges repeated to whole latents: no window, no mask."""
    weights = fixture_weights(network)
    analysis = jax.jit(Analysis(TransformConfig(**weights.config)).apply)
    missing = [(0, -n % 16) for n in image.shape[:2]]
    whole = np.pad(image, (*missing, (0, 0)), mode="edge")
    x = jnp.asarray(whole[None], jnp.float32) / 255
    return np.asarray(jnp.round(analysis({"params": weights.params["analysis"]}, x))[0].astype(jnp.int32))


def untiled_picture(network, symbols, height, width):
    weights = fixture_weights(network)
    synthesis = jax.jit(Synthesis(TransformConfig(**weights.config)).apply)
    x = synthesis({"params": weights.params["synthesis"]}, jnp.asarray(symbols[None], jnp.float32))
    return np.asarray(_as_levels(x)[0])[:height, :width]


def psnr(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2))


def assert_nearly_the_same_symbols(actual, expected):
    """DESIGN 10: at most 1e-4 of the symbols differ (or one, in a small picture), each by 1."""
    assert actual.shape == expected.shape
    difference = np.abs(actual.astype(np.int64) - expected)
    assert difference.max() <= 1
    assert difference.sum() <= max(1, 1e-4 * difference.size)


@pytest.mark.parametrize("network", NETWORKS)
def test_the_fixture_codecs_keep_the_protocol(network):
    codec = fixture_codec(network)
    assert isinstance(codec, Codec)
    assert codec.qualities == codec.ladder == (codec.default_quality,)
    assert codec.extension == ".jxc"


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_a_picture_of_any_size_comes_back_in_its_size(height, width):
    image = photo(height, width, top=100)
    codec = fixture_codec("bls2017")
    data = codec.encode(image)
    header = read_header(data)
    assert (header.width, header.height, header.channels) == (width, height, 3)
    symbols = codec.decode_latents(data)
    assert_nearly_the_same_symbols(symbols, untiled_latents("bls2017", image))
    decoded = codec.decode(data)
    assert levels_apart(decoded, untiled_picture("bls2017", symbols, height, width)) <= 1
    if min(height, width) > 100:
        # 8 channels make a poor picture, but a picture.
        assert psnr(decoded, image) > 18


@pytest.mark.parametrize("network", NETWORKS)
def test_many_small_windows_code_what_one_large_window_does(network):
    image = photo(300, 200, top=60)
    small = fixture_codec(network, window_shapes=((128, 128),))
    large = fixture_codec(network, window_shapes=((304, 208),))
    symbols = small.latents([image])[0]
    assert_nearly_the_same_symbols(symbols, large.latents([image])[0])
    assert np.count_nonzero(symbols) > symbols.size / 4
    data = large.encode(image)
    assert levels_apart(small.decode(data), large.decode(data)) <= 1


@pytest.mark.parametrize("network", NETWORKS)
def test_windows_code_what_the_network_makes_of_the_whole_picture(network):
    image = photo(137, 251, name="kodim05.png")
    codec = fixture_codec(network, window_shapes=((128, 128),))
    data = codec.encode(image)
    symbols = codec.decode_latents(data)
    assert_nearly_the_same_symbols(symbols, untiled_latents(network, image))
    assert levels_apart(codec.decode(data), untiled_picture(network, symbols, 137, 251)) <= 1


def test_grey_is_coded_as_equal_channels_and_comes_back_grey():
    grey = photo(60, 90, name="kodim15.png")[..., 1]
    codec = fixture_codec("bls2017")
    data, colour = codec.encode(grey), codec.encode(np.repeat(grey[..., None], 3, axis=2))
    np.testing.assert_array_equal(codec.decode_latents(data), codec.decode_latents(colour))
    assert read_header(data).channels == 1
    decoded = codec.decode(data)
    assert decoded.shape == grey.shape
    assert levels_apart(decoded, np.round(codec.decode(colour).mean(-1)).astype(np.uint8)) == 0


def test_a_batch_gives_each_picture_its_own_file():
    images = [photo(40, 50), photo(300, 70, top=20), photo(1, 3), photo(33, 20)[..., 0]]
    codec = fixture_codec("bls2017")
    files = codec.encode_batch(images)
    assert files == [codec.encode(image) for image in images]
    for image, decoded, data in zip(images, codec.decode_batch(files), files, strict=True):
        assert decoded.shape == image.shape
        assert levels_apart(decoded, codec.decode(data)) == 0
    assert codec.encode_batch([]) == []
    assert codec.decode_batch([]) == []


def test_files_of_several_qualities_decode_in_one_batch():
    codec = load_balle2017([weights_path("bls2017"), weights_path("paper")])
    assert codec.qualities == (1, 2)
    image = photo(40, 50)
    files = [codec.encode(image, quality=q) for q in (2, 1, 2)]
    pictures = codec.decode_batch(files)
    assert levels_apart(pictures[0], fixture_codec("paper").decode(files[0])) == 0
    assert levels_apart(pictures[1], fixture_codec("bls2017").decode(files[1])) == 0
    assert levels_apart(pictures[2], pictures[0]) == 0


@pytest.mark.parametrize("network", NETWORKS)
def test_a_file_is_as_large_as_the_models_own_estimate(network):
    weights = fixture_weights(network)
    config = TransformConfig(**weights.config)
    codec = fixture_codec(network)
    image = photo(512, 768, name="kodim08.png")
    data = codec.encode(image)
    coder = TransformCoder(config)
    likelihoods = coder.apply(
        {"params": weights.params},
        jnp.asarray(codec.decode_latents(data)[None], jnp.float32),
        method=lambda module, y: module.prior(y),
    )
    estimate = float(-jnp.log2(likelihoods).sum()) / 8
    assert estimate > 3000
    assert abs(len(data) - estimate) <= 0.01 * estimate + 24


def test_a_file_of_other_weights_raises_wrong_weights():
    data = fixture_codec("paper").encode(photo(20, 20))
    with pytest.raises(WrongWeights, match="not installed"):
        fixture_codec("bls2017").decode(data)


def test_weights_whose_content_is_not_what_their_name_says_raise_wrong_weights(tmp_path):
    data = fixture_codec("bls2017").encode(photo(20, 20))
    other = weights_path("paper").read_bytes()
    swapped = tmp_path / weights_path("bls2017").name
    swapped.write_bytes(other)
    with pytest.raises(WrongWeights, match="content"):
        load_balle2017(swapped).decode(data)


def test_a_renamed_weight_file_still_decodes(tmp_path):
    data = fixture_codec("bls2017").encode(photo(20, 20))
    renamed = tmp_path / "mine.safetensors"
    renamed.write_bytes(weights_path("bls2017").read_bytes())
    assert load_balle2017(renamed).decode(data).shape == (20, 20, 3)


def test_the_file_of_another_codec_raises_bad_option():
    data = fixture_codec("bmshj2018").encode(photo(20, 20))
    with pytest.raises(BadOption, match="bmshj2018"):
        fixture_codec("bls2017").decode(data)


@pytest.mark.parametrize("quality", [0, 3, 100])
def test_a_quality_that_is_not_offered_raises_bad_option(quality):
    with pytest.raises(BadOption, match=f"no quality {quality}"):
        fixture_codec("bls2017").encode(photo(20, 20), quality=quality)


def test_options_of_another_kind_raise_bad_option():
    with pytest.raises(BadOption, match="TransformOptions"):
        fixture_codec("bls2017").encode(photo(20, 20), options={"window_batch": 2})


def test_a_picture_over_the_limit_raises_too_large_both_ways():
    image = photo(20, 30)
    tight = fixture_codec("bls2017", limits=Limits(max_pixels=599))
    with pytest.raises(TooLarge, match="30x20"):
        tight.encode(image)
    with pytest.raises(TooLarge, match="30 x 20 pixels"):
        tight.decode(fixture_codec("bls2017").encode(image))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros(4, np.uint8),
    ],
)
def test_what_is_no_picture_raises_bad_image(image):
    with pytest.raises(BadImage):
        fixture_codec("bls2017").encode(image)


def test_loading_checks_the_weights_given(tmp_path):
    with pytest.raises(WrongWeights, match="weights of bmshj2018"):
        load_balle2017(weights_path("bmshj2018"))
    with pytest.raises(WrongWeights, match="weights of balle2017"):
        load_bmshj2018([weights_path("bls2017")])
    with pytest.raises(BadOption, match="empty"):
        load_balle2017([])
    with pytest.raises(BadOption, match="quality 1"):
        load_balle2017([weights_path("bls2017"), weights_path("bls2017")])
    with pytest.raises(WrongWeights, match="missing"):
        load_balle2017(tmp_path / "missing.safetensors")


def test_weights_of_a_network_that_this_version_has_not_raise_wrong_weights(tmp_path):
    weights = fixture_weights("bls2017")
    config = TransformConfig(**weights.config)

    class Later:
        def to_dict(self):
            return {**config.to_dict(), "attention": True}

    exported = export(tmp_path, codec="balle2017", quality=1, config=config, params=weights.params)
    assert load_balle2017(exported).encode(photo(3, 3))
    # The configuration is read back by name: an unknown field is a later version's.
    from jaxcodec.zoo.weights import save_weights

    later = save_weights(
        tmp_path,
        codec="balle2017",
        quality=1,
        config=Later().to_dict(),
        params=weights.params,
        tables=weights.tables,
    )
    with pytest.raises(WrongWeights, match="attention"):
        load_balle2017(later).encode(photo(3, 3))


@pytest.mark.parametrize("network", NETWORKS)
def test_exporting_the_weights_of_a_file_gives_the_file_again(tmp_path, network):
    weights = fixture_weights(network)
    config = TransformConfig(**weights.config)
    path = export(
        tmp_path, codec=weights.codec, quality=weights.quality, config=config, params=weights.params
    )
    assert path.name == weights_path(network).name
    assert path.read_bytes() == weights_path(network).read_bytes()


def test_tables_are_made_from_the_rounded_parameters():
    weights = fixture_weights("bls2017")
    config = TransformConfig(**weights.config)
    params = jax.tree.map(lambda x: x + 1e-5 * np.abs(x), weights.params)
    tables = coding_tables(round_params(params), config)
    stored = CodingTables.from_arrays(weights.tables)
    # 1e-5 is less than float16 resolves.
    np.testing.assert_array_equal(tables.offsets, stored.offsets)
    for a, b in zip(tables.counts, stored.counts, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        # By hand, layer by layer: kernel area * inputs * outputs / pixels per output, then GDN's C^2 at that
        # resolution.
        (
            TransformConfig("bls2017", 192, 192),
            81 * 3 * 192 / 16 + 192 * 192 / 16 + 25 * 192 * 192 / 64 + 192 * 192 / 64 + 25 * 192 * 192 / 256,
        ),
        (TransformConfig("paper", 192, 192), 2916 + 2304 + 14400 + 576 + 3600 + 144),
        (TransformConfig("paper", 128, 128), 1944 + 1024 + 6400 + 256 + 1600 + 64),
        (TransformConfig("bmshj2018", 128, 192), 2400 + 4096 + 25600 + 1024 + 6400 + 256 + 2400),
        (TransformConfig("bls2017", 8, 4, image_channels=1), 40.5 + 4 + 25 + 1 + 3.125),
    ],
)
def test_macs_per_pixel_are_those_counted_by_hand(config, expected):
    assert config.macs_per_pixel() == pytest.approx((expected, expected))


def test_halos_cover_what_a_latent_reaches():
    # Reach in pixels: 4 + 2*4 + 2*8 = 28 for 9x9/4, 5x5/2, 5x5/2; 2 + 2*2 + 2*4 + 2*8 = 30 for four 5x5/2.
    for transform in ("paper", "bls2017", "bmshj2018"):
        assert TransformConfig(transform, 8, 8).halo == 32
    config = dataclasses.replace(TransformConfig(), channels=4)
    assert config.to_dict() == {**TransformConfig().to_dict(), "channels": 4}


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
codec = fixture_codec("bls2017", window_shapes=shapes)
codec.decode(codec.encode(np.zeros((600, 900, 3), np.uint8)))  # several windows: everything is compiled
before = peak()
rows, columns = ((np.arange(n) % 256).astype(np.uint8) for n in (2000, 3000))
image = np.broadcast_to(rows[:, None, None] ^ columns[:, None], (2000, 3000, 3))
assert codec.decode(codec.encode(image)).shape == (2000, 3000, 3)
print(peak() - before)
"""


def _growth_in_mib(shapes):
    code = _LARGE.format(root=str(ROOT), shapes=shapes)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/status")
def test_a_large_picture_takes_memory_for_its_pixels_and_latents_only():
    # 6 and 18 MB of pixels, and 0.75 MB of latents several times: 37 were measured, and 154 in one window.
    assert _growth_in_mib(((512, 768), (768, 512))) < 100


def test_pictures_of_24_sizes_in_one_call_compile_at_most_4_programs():
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
    codec = fixture_codec("bls2017")
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


def test_the_golden_index_names_all_three_transforms():
    configs = [json.loads(json.dumps(fixture_weights(network).config)) for network in NETWORKS]
    assert {config["transform"] for config in configs} == {"bls2017", "paper", "bmshj2018"}
    assert {config["prior"] for config in configs} == {"deep_factorized", "piecewise_linear"}
