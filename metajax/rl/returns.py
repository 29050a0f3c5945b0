"""Returns and advantages of ONE stream of rewards; callers vmap.

A stream may hold several episodes one after another: `discounts_t` is zero
at the last step of each, which cuts what comes after it.
"""

import chex
import jax
from jax import Array
import jax.numpy as jnp


def discounted_returns(rewards_t: Array, discounts_t: Array) -> Array:
  """Returns the discounted sum of rewards from every step on.

    R_t = r_t + discount_t * R_{t+1}

  Args:
    rewards_t: [T] float32, reward of each step.
    discounts_t: [T] float32 in [0, 1]: the discount, and 0 at the last step of
      an episode.

  Returns:
    [T] float32.
  """
  chex.assert_rank([rewards_t, discounts_t], 1)
  chex.assert_equal_shape([rewards_t, discounts_t])

  def step(return_tp1, inputs):
    reward, discount = inputs
    return_t = reward + discount * return_tp1
    return return_t, return_t

  _, returns = jax.lax.scan(
    step, jnp.zeros((), rewards_t.dtype), (rewards_t, discounts_t), reverse=True
  )
  return returns


def generalised_advantages(
  rewards_t: Array,
  discounts_t: Array,
  values_t: Array,
  gae_lambda: Array | float,
) -> Array:
  """Returns generalised advantage estimates (Schulman et al. 2016, eq. 16).

    delta_t = r_t + discount_t * V_{t+1} - V_t
    A_t     = delta_t + discount_t * lambda * A_{t+1}

  The value after the last step of an episode is zero, as in Duan et al. 2016.
  With lambda = 1, A_t = R_t - V_t.

  Args:
    rewards_t: [T] float32.
    discounts_t: [T] float32, as of `discounted_returns`.
    values_t: [T] float32, V of each step's observation.
    gae_lambda: lambda in [0, 1].

  Returns:
    [T] float32.
  """
  chex.assert_rank([rewards_t, discounts_t, values_t], 1)
  chex.assert_equal_shape([rewards_t, discounts_t, values_t])
  values_tp1 = jnp.append(values_t[1:], 0.0)
  deltas_t = rewards_t + discounts_t * values_tp1 - values_t
  return discounted_returns(deltas_t, discounts_t * gae_lambda)


def standardise(values: Array, valid: Array) -> Array:
  """Shifts and scales to mean 0 and standard deviation 1 over valid entries.

  Args:
    values: any shape, float32.
    valid: bool, the same shape; entries that are not valid become zero.

  Returns:
    The same shape; `(x - mean) / (std + 1e-8)` where valid.
  """
  chex.assert_equal_shape([values, valid])
  mean = valid_mean(values, valid)
  variance = valid_mean(jnp.square(values - mean), valid)
  return jnp.where(valid, (values - mean) / (jnp.sqrt(variance) + 1e-8), 0.0)


def valid_mean(values: Array, valid: Array) -> Array:
  """Returns the mean of the entries that are valid; 0 if there are none."""
  chex.assert_equal_shape([values, valid])
  count = jnp.maximum(jnp.sum(valid), 1)
  return jnp.sum(jnp.where(valid, values, 0.0)) / count
