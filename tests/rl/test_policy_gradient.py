"""The two surrogates have one gradient where the policies agree."""

import jax
import jax.numpy as jnp
import numpy as np

from metajax.rl.policy_gradient import likelihood_ratio_loss, reinforce_loss

GENERATOR = np.random.default_rng(0)
SCORES = GENERATOR.normal(size=(9, 4))
OFFSETS = GENERATOR.normal(size=9)
ADVANTAGES = GENERATOR.normal(size=9)
VALID = np.array([True] * 7 + [False] * 2)


def log_probs(theta):
  """Made so that every score is a row of SCORES."""
  return jnp.asarray(SCORES) @ theta + OFFSETS


def test_gradients_are_the_mean_of_score_times_advantage():
  with jax.enable_x64(True):
    theta = np.linspace(-1.0, 1.0, 4)
    old = log_probs(theta)
    reinforce = jax.grad(
      lambda theta: reinforce_loss(log_probs(theta), ADVANTAGES, VALID)
    )(theta)
    ratio = jax.grad(
      lambda theta: likelihood_ratio_loss(
        log_probs(theta), old, ADVANTAGES, VALID
      )
    )(theta)
  expected = -np.mean(SCORES[:7] * ADVANTAGES[:7, None], axis=0)
  np.testing.assert_allclose(reinforce, expected, rtol=1e-12)
  np.testing.assert_allclose(ratio, expected, rtol=1e-12)


def test_ratios_away_from_the_old_policy():
  with jax.enable_x64(True):
    new = np.log([0.2, 0.9])
    old = np.log([0.4, 0.3])
    valid = np.ones(2, bool)
    loss = likelihood_ratio_loss(new, old, np.array([1.0, -2.0]), valid)
  np.testing.assert_allclose(loss, -(0.5 * 1.0 + 3.0 * -2.0) / 2, rtol=1e-12)


def test_old_log_probabilities_and_advantages_are_constants():
  gradients = jax.grad(likelihood_ratio_loss, argnums=(1, 2))(
    jnp.zeros(3), jnp.zeros(3), jnp.ones(3), jnp.ones(3, bool)
  )
  np.testing.assert_array_equal(gradients[0], 0.0)
  np.testing.assert_array_equal(gradients[1], 0.0)
