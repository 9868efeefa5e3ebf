"""The typed errors of jaxcodec: everything a user's input can cause derives from `JaxcodecError`.

The message names the file or field and the remedy; the command line prints it on one line and exits with 1.
"""


class JaxcodecError(Exception):
    """Base of all errors that a caller's input can cause."""


class NotAJxcFile(JaxcodecError):
    """The data does not begin as a file that jaxcodec can decode."""


class TruncatedFile(JaxcodecError):
    """The file ends before its own lengths say it does."""


class CorruptFile(JaxcodecError):
    """A checksum or a field contradicts the rest of the file."""


class UnknownCodec(JaxcodecError):
    """No codec, coder or format version of this name or number is known to this version."""


class WrongWeights(JaxcodecError):
    """The weights that wrote the file are neither in the zoo nor given."""


class TooLarge(JaxcodecError):
    """Decoding or encoding would exceed the limits on pixels, memory or iterations."""


class BadImage(JaxcodecError):
    """A picture cannot be read, or is of a kind that would lose something in silence."""


class BadOption(JaxcodecError):
    """An option (quality, codec option, size) is outside what the codec offers."""


class MissingDependency(JaxcodecError):
    """An optional package is needed; the message names the extra to install."""


class OutputExists(JaxcodecError):
    """The output file exists and `--force` was not given."""
