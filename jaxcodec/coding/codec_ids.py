"""The byte that names a codec in a `.jxc` file. Append only: a number once given is never given again."""

from __future__ import annotations

from types import MappingProxyType

from jaxcodec.errors import UnknownCodec
from jaxcodec.version import __version__

CODEC_IDS = MappingProxyType(
    {
        "fmm": 1,
        "toderici2016": 2,
        "balle2017": 3,
        "toderici2017": 4,
        "theis2017": 5,
        "msroi": 6,
        "comcnn": 7,
        "coconet": 8,
        "bmshj2018": 9,
    }
)


def codec_id(name: str) -> int:
    """Return the byte of the codec `name`; `UnknownCodec` if it has none."""
    if name not in CODEC_IDS:
        raise UnknownCodec(f"no codec '{name}' writes .jxc files; those that do: {', '.join(CODEC_IDS)}")
    return CODEC_IDS[name]


def codec_name(number: int) -> str:
    """Return the name of the codec whose byte is `number`; `UnknownCodec` if this version knows none."""
    for name, known in CODEC_IDS.items():
        if known == number:
            return name
    raise UnknownCodec(
        f"the file was written by codec number {number}, which jaxcodec {__version__} does not know; "
        "upgrade jaxcodec to read it"
    )
