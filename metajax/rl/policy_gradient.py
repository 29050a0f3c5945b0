"""Policy-gradient surrogates: losses whose gradients are policy gradients."""

import chex
import jax
from jax import Array
import jax.numpy as jnp

from metajax.rl.returns import valid_mean


def reinforce_loss(log_probs: Array, advantages: Array, valid: Array) -> Array:
  """Returns the REINFORCE surrogate (Williams 1992).

    J = - mean_{(s, a, A)} [ log pi(a|s) * A ]

  Args:
    log_probs: [N] float32, log pi(a|s) at the parameters to differentiate.
    advantages: [N] float32, constants.
    valid: [N] bool, the steps that count.

  Returns:
    A scalar.
  """
  chex.assert_rank([log_probs, advantages, valid], 1)
  return -valid_mean(log_probs * jax.lax.stop_gradient(advantages), valid)


def likelihood_ratio_loss(
  log_probs: Array, old_log_probs: Array, advantages: Array, valid: Array
) -> Array:
  """Returns the likelihood-ratio surrogate (Schulman et al. 2015, eq. 14).

    J = - mean_{(s, a, A)} [ pi(a|s) / pi_old(a|s) * A ]

  Args:
    log_probs: [N] float32, log pi(a|s) at the parameters to differentiate.
    old_log_probs: [N] float32, log pi_old(a|s), constants.
    advantages: [N] float32, constants.
    valid: [N] bool, the steps that count.

  Returns:
    A scalar.
  """
  chex.assert_rank([log_probs, old_log_probs, advantages, valid], 1)
  ratios = jnp.exp(log_probs - jax.lax.stop_gradient(old_log_probs))
  return -valid_mean(ratios * jax.lax.stop_gradient(advantages), valid)
