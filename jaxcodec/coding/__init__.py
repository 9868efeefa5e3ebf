"""Bytes: integer probability tables, range coders on them, and the `.jxc` container. numpy only, never jax.

`tables` holds the probabilities, `range_coder` (and `tfc_coder`) turn symbol indices into bytes, `latents`
codes an array of integers with them, `container` puts chunks of bytes into a checked file.
"""
