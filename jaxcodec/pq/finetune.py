r"""Training what is left of a quantised network: its codebooks, and its other parameters where that is wanted.

Stock et al. (ICLR 2020), sections 3.2 and 3.3. Indices never change. A centroid's gradient is the *mean* of those of
its blocks, then weight decay is added, then momentum. The loss needs no labels: for a classifier

    KL(softmax(teacher) || softmax(student)) = sum_i p_i (log p_i - log q_i),

the teacher being the network before quantisation; for a regressor the squared distance of the outputs; for a codec its
rate and distortion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxcodec.pq.parameters import Codes, QuantisedParams

Loss = Callable[..., jax.Array]
"""`loss(params, batch, key=key) -> scalar`, params nested."""


def distillation_loss(apply: Callable[[Any, Any], jax.Array]) -> Loss:
    """Mean KL divergence from the teacher's logits, for batches `(inputs, teacher's logits [B, classes])`."""

    def loss(params: Any, batch: Any, *, key: jax.Array) -> jax.Array:
        del key
        inputs, teacher = batch
        return jnp.mean(kl_divergence(teacher, apply(params, inputs)))

    return loss


def kl_divergence(teacher: jax.Array, student: jax.Array) -> jax.Array:
    """`KL(softmax(teacher) || softmax(student))` in nats, `[..., classes] -> [...]`."""
    log_p, log_q = jax.nn.log_softmax(teacher), jax.nn.log_softmax(student)
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


def regression_loss(apply: Callable[[Any, Any], jax.Array]) -> Loss:
    """Mean squared distance from the teacher's outputs, for batches `(inputs, teacher's outputs)`."""

    def loss(params: Any, batch: Any, *, key: jax.Array) -> jax.Array:
        del key
        inputs, teacher = batch
        return jnp.mean(jnp.square(apply(params, inputs) - teacher))

    return loss


def paper_optimiser(momentum: float = 0.9, weight_decay: float = 1e-4) -> optax.GradientTransformation:
    """Weight decay, then momentum; for a learning rate of 1, by which updates are scaled."""
    return optax.chain(optax.add_decayed_weights(weight_decay), optax.trace(momentum), optax.scale(-1.0))


class Tuner:
    """Fine-tunes a network at any stage of its quantisation with one compiled program.

    A kernel that is not quantised yet, or not to be trained, is there all the same and masked, so that tuning after
    each of fifty layers compiles once.

    Parameters
    ----------
    loss
        `distillation_loss(apply)`, say.
    optimiser
        Of gradients of centroids that are already means; with a learning rate of 1.
    """

    def __init__(self, loss: Loss, optimiser: optax.GradientTransformation | None = None) -> None:
        self._optimiser = optimiser or paper_optimiser()

        def update(
            trained: dict[str, Any],
            state: Any,
            fixed: dict[str, Any],
            mask: dict[str, Any],
            batch: Any,
            rate: jax.Array,
            key: jax.Array,
            *,
            shapes: tuple[tuple[str, tuple[int, ...]], ...],
        ) -> tuple[Any, Any, Any]:
            def of(trained: dict[str, Any]) -> jax.Array:
                kernels = {}
                for name, shape in shapes:
                    scales = fixed["scales"].get(name)
                    rebuilt = Codes(trained["codebooks"][name], fixed["indices"][name], shape, scales).dense()
                    kernels[name] = jnp.where(fixed["active"][name], rebuilt, fixed["kernels"][name])
                return loss(QuantisedParams({}, {**trained["others"], **kernels}).dense(), batch, key=key)

            value, gradient = jax.value_and_grad(of)(trained)
            means = {
                name: each / jnp.maximum(_members(fixed["indices"][name], each.shape[0]), 1.0)[:, None]
                for name, each in gradient["codebooks"].items()
            }
            updates, state = self._optimiser.update({**gradient, "codebooks": means}, state, trained)
            updates = jax.tree.map(lambda u, m: u * (rate * m), updates, mask)
            return optax.apply_updates(trained, updates), state, value

        self._update = jax.jit(update, static_argnames="shapes", donate_argnums=(0, 1))

    def tune(
        self,
        quantised: QuantisedParams,
        batches: Iterable[Any],
        *,
        learning_rate: float | Callable[[int], float],
        key: jax.Array,
        settings: Mapping[str, tuple[int, int]] | None = None,
        only: Sequence[str] | None = None,
        train_others: bool = False,
    ) -> tuple[QuantisedParams, list[float]]:
        """One update for each batch.

        Parameters
        ----------
        quantised
            What to begin with; it is left as it is.
        batches
            As the loss takes them.
        learning_rate
            A number, or a function of the update's number.
        key
            For a loss that draws noise.
        settings
            (K, d) of kernels that will be quantised later, so that nothing has to be compiled for them then.
        only
            Names of the kernels whose codebooks are trained; all quantised ones when not given.
        train_others
            Whether the parameters that are not quantised are trained too. In the paper they are not.

        Returns
        -------
        quantised : QuantisedParams
        losses : one for each batch

        Raises
        ------
        FloatingPointError
            If a loss is not finite.
        """
        later = {name: size for name, size in (settings or {}).items() if name not in quantised.codes}
        trained, fixed, mask, shapes = _arranged(quantised, later, only, train_others)
        state = self._optimiser.init(trained)
        losses = []
        for step, batch in enumerate(batches):
            rate = learning_rate(step) if callable(learning_rate) else learning_rate
            draw = jax.random.fold_in(key, step)
            trained, state, value = self._update(
                trained, state, fixed, mask, batch, jnp.float32(rate), draw, shapes=shapes
            )
            losses.append(float(value))
            if not jnp.isfinite(value):
                raise FloatingPointError(
                    f"the loss of update {step} is {float(value)}; lower the learning rate"
                )
        codes = {
            name: each.with_codebook(trained["codebooks"][name]) for name, each in quantised.codes.items()
        }
        others = {**trained["others"], **{name: quantised.others[name] for name in later}}
        return QuantisedParams(codes, others), losses


def _arranged(
    quantised: QuantisedParams,
    later: Mapping[str, tuple[int, int]],
    only: Sequence[str] | None,
    train_others: bool,
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any], tuple[tuple[str, tuple[int, ...]], ...]]:
    """What is trained, what is fixed, 0 or 1 for each of the first, and the shapes of all quantised kernels."""
    codebooks, indices, active, kernels, mask, shapes = {}, {}, {}, {}, {}, {}
    for name, codes in quantised.codes.items():
        codebooks[name], indices[name], shapes[name] = jnp.array(codes.codebook), codes.indices, codes.shape
        active[name], kernels[name] = jnp.array(True), jnp.zeros(codes.shape, jnp.float32)
        mask[name] = jnp.float32(only is None or name in only)
    for name, (K, d) in later.items():
        kernel = quantised.others[name]
        codebooks[name], indices[name] = (
            jnp.zeros((K, d), jnp.float32),
            jnp.zeros(kernel.size // d, jnp.int32),
        )
        active[name], kernels[name], shapes[name] = jnp.array(False), kernel, kernel.shape
        mask[name] = jnp.float32(0)
    # Copies, since the update takes over the memory of what it is given.
    others = {name: jnp.array(value) for name, value in quantised.others.items() if name not in later}
    masks = {"codebooks": mask, "others": dict.fromkeys(others, jnp.float32(train_others))}
    scales = {name: codes.scales for name, codes in quantised.codes.items() if codes.scales is not None}
    fixed = {"indices": indices, "active": active, "kernels": kernels, "scales": scales}
    return {"codebooks": codebooks, "others": others}, fixed, masks, tuple(sorted(shapes.items()))


def _members(indices: jax.Array, centroids: int) -> jax.Array:
    """Blocks of each centroid, float32 `[K]`."""
    return jnp.zeros(centroids, jnp.float32).at[indices].add(1.0)


def refresh_batch_norm(
    apply: Callable[[Any, Any, Any], Any], params: Any, batch_stats: Any, batches: Iterable[Any]
) -> Any:
    """Running means and variances of a quantised network, from its own activations.

    Parameters
    ----------
    apply
        `apply(params, batch_stats, batch) -> new batch_stats`, with batch norm in training mode.
    params, batch_stats
        Nested; the statistics to begin with.
    batches
        Inputs; each counts as batch norm's momentum says.
    """
    step = jax.jit(apply)
    for batch in batches:
        batch_stats = step(params, batch_stats, batch)
    return batch_stats
