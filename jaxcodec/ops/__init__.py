"""Pure jnp functions: no Flax, no state. Images are float32 `[B, H, W, C]`."""
