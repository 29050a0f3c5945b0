"""Proximal policy optimisation: a clipped surrogate (Schulman et al. 2017)."""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
from jax import Array
import jax.numpy as jnp
import optax

from metajax.core.learner import Params
from metajax.rl.returns import valid_mean


class PpoStep(NamedTuple):
  """The step taken, and how.

  Attributes:
    params: new parameters; the old ones if a gradient was not finite.
    optimizer_state: of the optimiser, to go on from; the old one likewise.
    finite: [] bool, whether all gradients were finite.
    surrogate: [] float32, clipped surrogate at the new parameters.
    kl: [] float32, nats, of the new policy from the old.
    gradient_norm: [] float32, of the first epoch's gradient.
  """

  params: Params
  optimizer_state: optax.OptState
  finite: Array
  surrogate: Array
  kl: Array
  gradient_norm: Array


def clipped_ratio_loss(
  log_probs: Array,
  old_log_probs: Array,
  advantages: Array,
  valid: Array,
  clip: Array | float,
) -> Array:
  """Returns the clipped surrogate (Schulman et al. 2017, equation 7).

    J = - mean_{(s, a, A)} [ min(r A, clip(r, 1 - clip, 1 + clip) A) ],
    r = pi(a|s) / pi_old(a|s)

  Args:
    log_probs: [N] float32, log pi(a|s) at the parameters to differentiate.
    old_log_probs: [N] float32, log pi_old(a|s), constants.
    advantages: [N] float32, constants.
    valid: [N] bool, the steps that count.
    clip: how far a ratio may profit from leaving 1, > 0.

  Returns:
    A scalar.
  """
  chex.assert_rank([log_probs, old_log_probs, advantages, valid], 1)
  ratios = jnp.exp(log_probs - jax.lax.stop_gradient(old_log_probs))
  advantages = jax.lax.stop_gradient(advantages)
  clipped = jnp.clip(ratios, 1.0 - clip, 1.0 + clip)
  return -valid_mean(
    jnp.minimum(ratios * advantages, clipped * advantages), valid
  )


def ppo_step(
  params: Params,
  optimizer_state: optax.OptState,
  gradient: Callable[[Params], Params],
  surrogate_and_kl: Callable[[Params], tuple[Array, Array]],
  optimizer: optax.GradientTransformation,
  *,
  num_epochs: int,
) -> PpoStep:
  """Takes several gradient steps on one batch of experience.

  Args:
    params: pytree of arrays, theta.
    optimizer_state: of `optimizer`, as the step before left it.
    gradient: `theta' -> g`, of the clipped surrogate over the whole batch.
    surrogate_and_kl: `theta' -> (clipped surrogate, mean KL)`.
    optimizer: takes the steps; Adam in the paper.
    num_epochs: gradient steps, each over the whole batch, >= 1.

  Returns:
    The new parameters and how they were found.
  """

  def epoch(carry, _):
    theta, state = carry
    g = gradient(theta)
    updates, state = optimizer.update(g, state, theta)
    return (optax.apply_updates(theta, updates), state), optax.tree.norm(g)

  start = (params, optimizer_state)
  end, norms = jax.lax.scan(epoch, start, length=num_epochs)
  finite = jnp.all(jnp.isfinite(norms))
  new, state = jax.tree.map(
    lambda new, old: jnp.where(finite, new, old), end, start
  )
  surrogate, kl = surrogate_and_kl(new)
  return PpoStep(new, state, finite, surrogate, kl, norms[0])
