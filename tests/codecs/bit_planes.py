"""A small progressive codec: the bit planes of a grey picture, the most significant first, uncompressed.

It writes real `.jxc` files, under the number of `fmm`, and follows the protocol of `ProgressiveCodec`.
"""

import numpy as np

from jaxcodec.codecs.base import unpack_iterations
from jaxcodec.codecs.checks import check_image, check_quality
from jaxcodec.coding.codec_ids import codec_id
from jaxcodec.coding.container import Header, pack

NUMBER_OF = "fmm"


class BitPlanes:
    name = "bitplanes"
    qualities = tuple(range(1, 9))
    ladder = qualities
    default_quality = 4
    extension = ".jxc"

    def __init__(self):
        self.encodings = 0

    def encode(self, image, *, quality=None, options=None):
        self.encodings += 1
        image, quality = check_image(image), check_quality(quality, self)
        grey = image if image.ndim == 2 else np.round(image.mean(-1)).astype(np.uint8)
        height, width = grey.shape
        header = Header(codec_id(NUMBER_OF), 0, bytes(4), width, height, 1, 8, quality)
        return pack(header, [np.packbits(grey >> (7 - plane) & 1).tobytes() for plane in range(quality)])

    def decode(self, data):
        return self.decode_progressive(data)

    def decode_progressive(self, data, *, iterations=None, allow_truncated=False):
        header, chunks = unpack_iterations(data, iterations=iterations, allow_truncated=allow_truncated)
        shape = header.height, header.width
        grey = np.zeros(shape, np.uint8)
        for plane, chunk in enumerate(chunks):
            bits = np.unpackbits(np.frombuffer(chunk, np.uint8), count=shape[0] * shape[1])
            grey |= (bits.reshape(shape) << (7 - plane)).astype(np.uint8)
        return grey + np.uint8((1 << 8 - len(chunks)) // 2)  # the centre of the values with these planes

    def encode_batch(self, images, *, quality=None, options=None):
        return [self.encode(image, quality=quality, options=options) for image in images]

    def decode_batch(self, files):
        return [self.decode(data) for data in files]


def load():
    return BitPlanes()
