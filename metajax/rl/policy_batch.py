"""From the rollouts of one task to what a policy gradient needs."""

from typing import NamedTuple

import chex
import jax
from jax import Array
import jax.numpy as jnp

from metajax.rl import linear_baseline
from metajax.rl.returns import (
  discounted_returns,
  generalised_advantages,
  standardise,
)


class PolicyBatch(NamedTuple):
  """Steps of several episodes of one task, flattened."""

  observations: Array  # [N, observation_size] float32
  actions: Array  # [N, action_size] float32
  advantages: Array  # [N] float32, standardised over the valid steps
  valid: Array  # [N] bool


def policy_batch(
  *,
  observations: Array,
  actions: Array,
  rewards: Array,
  times: Array,
  valid: Array,
  is_last: Array,
  discount: Array | float,
  gae_lambda: Array | float,
) -> PolicyBatch:
  """Computes the advantages of one task's rollouts.

  The linear baseline is fitted to these very rollouts, and the advantages are
  standardised over all their valid steps (Duan et al. 2016).

  Args:
    observations: [rollouts, time, observation_size] float32.
    actions: [rollouts, time, action_size] float32.
    rewards: [rollouts, time] float32.
    times: [rollouts, time] int32, step inside the episode, from 0.
    valid: [rollouts, time] bool, the steps that count.
    is_last: [rollouts, time] bool, the last step of each episode.
    discount: gamma in [0, 1].
    gae_lambda: lambda in [0, 1].

  Returns:
    The batch, N = rollouts * time.
  """
  chex.assert_rank([observations, actions, rewards], [3, 3, 2])
  chex.assert_equal_shape([rewards, times, valid, is_last])
  rewards = jnp.where(valid, rewards, 0.0)
  discounts = jnp.where(is_last | ~valid, 0.0, discount)
  returns = jax.vmap(discounted_returns)(rewards, discounts)
  values = linear_baseline.fit_predict(
    _flat(observations), _flat(times), _flat(returns), _flat(valid)
  )
  advantages = jax.vmap(generalised_advantages, in_axes=(0, 0, 0, None))(
    rewards, discounts, values.reshape(rewards.shape), gae_lambda
  )
  return PolicyBatch(
    observations=_flat(observations),
    actions=_flat(actions),
    advantages=standardise(_flat(advantages), _flat(valid)),
    valid=_flat(valid),
  )


def _flat(array: Array) -> Array:
  return array.reshape((-1,) + array.shape[2:])
