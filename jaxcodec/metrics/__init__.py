"""Measures of rate and distortion.

`psnr` and `ssim` hold differentiable functions on float batches `[B, H, W, C]` beside `*_uint8` functions
that measure one 8-bit picture, `[H, W, 3]` or `[H, W]`, in numpy float64. `psnr_hvs` is numpy only; `rate`
and `bd` turn sizes and curves into numbers.
"""
