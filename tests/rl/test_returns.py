"""Returns and advantages worked by hand, and against a loop over episodes."""

import jax.numpy as jnp
import numpy as np
import pytest

from metajax.rl.returns import (
  discounted_returns,
  generalised_advantages,
  standardise,
  valid_mean,
)


def test_returns_by_hand():
  # Two episodes, of three steps and of two, with the discount 1/2.
  rewards = jnp.array([1.0, 2.0, 4.0, 8.0, 16.0])
  discounts = jnp.array([0.5, 0.5, 0.0, 0.5, 0.0])
  np.testing.assert_array_equal(
    discounted_returns(rewards, discounts), [3.0, 4.0, 4.0, 16.0, 16.0]
  )


def test_advantages_by_hand():
  rewards = jnp.array([1.0, 2.0, 4.0, 8.0])
  discounts = jnp.array([0.5, 0.0, 0.5, 0.0])
  values = jnp.array([1.0, 3.0, 5.0, 7.0])
  # delta = [1 + 0.5*3 - 1, 2 - 3, 4 + 0.5*7 - 5, 8 - 7] = [1.5, -1, 2.5, 1]
  # A     = [1.5 + 0.5*0.5*(-1), -1, 2.5 + 0.5*0.5*1, 1]
  np.testing.assert_array_equal(
    generalised_advantages(rewards, discounts, values, 0.5),
    [1.25, -1.0, 2.75, 1.0],
  )


@pytest.mark.parametrize('gae_lambda', [0.0, 0.7, 1.0])
def test_a_stream_of_episodes_equals_each_alone(gae_lambda):
  generator = np.random.default_rng(0)
  lengths, discount = [4, 1, 7, 3], 0.9
  rewards = generator.normal(size=sum(lengths))
  values = generator.normal(size=sum(lengths))
  returns, advantages = [], []
  for first, length in zip(np.cumsum([0, *lengths[:-1]]), lengths, strict=True):
    r = rewards[first : first + length]
    v = np.append(values[first : first + length], 0.0)
    deltas = r + discount * v[1:] - v[:-1]
    for t in range(length):
      powers = np.arange(length - t)
      returns.append(np.sum(discount**powers * r[t:]))
      advantages.append(np.sum((discount * gae_lambda) ** powers * deltas[t:]))
  discounts = np.full(sum(lengths), discount)
  discounts[np.cumsum(lengths) - 1] = 0.0
  discounts = jnp.asarray(discounts, jnp.float32)
  rewards = jnp.asarray(rewards, jnp.float32)
  values = jnp.asarray(values, jnp.float32)
  got = generalised_advantages(rewards, discounts, values, gae_lambda)
  np.testing.assert_allclose(got, advantages, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(
    discounted_returns(rewards, discounts), returns, rtol=1e-5, atol=1e-5
  )
  if gae_lambda == 1.0:
    np.testing.assert_allclose(
      got, np.asarray(returns) - values, rtol=1e-5, atol=1e-5
    )


def test_only_valid_entries_are_standardised():
  values = jnp.array([1.0, 3.0, jnp.nan, 5.0, 100.0])
  valid = jnp.array([True, True, False, True, False])
  got = standardise(values, valid)
  spread = np.sqrt(8.0 / 3.0)
  np.testing.assert_allclose(
    got, [-2.0 / spread, 0.0, 0.0, 2.0 / spread, 0.0], rtol=1e-6, atol=1e-7
  )
  np.testing.assert_array_equal(
    standardise(jnp.zeros(4), jnp.ones(4, bool)), 0.0
  )


def test_the_mean_of_nothing_is_zero():
  values = jnp.array([1.0, jnp.nan])
  assert valid_mean(values, jnp.array([True, False])) == 1.0
  assert valid_mean(values, jnp.zeros(2, bool)) == 0.0
