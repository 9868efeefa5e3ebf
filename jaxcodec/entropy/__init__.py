"""Probability models of latents: likelihoods under noise for training, probabilities of integers for coding."""

from jaxcodec.entropy.deep_factorized import DeepFactorized
from jaxcodec.entropy.piecewise_linear import PiecewiseLinear

__all__ = ["DeepFactorized", "PiecewiseLinear"]
