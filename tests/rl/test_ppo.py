"""PPO: the clipped surrogate by hand, and its steps."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metajax.rl.policy_gradient import likelihood_ratio_loss
from metajax.rl.ppo import clipped_ratio_loss, ppo_step

# Ratios 0.5, 0.9, 1.0, 1.1, 2.0 with advantages of either sign.
LOG_RATIOS = jnp.log(jnp.array([0.5, 0.9, 1.0, 1.1, 2.0] * 2))
ADVANTAGES = jnp.repeat(jnp.array([1.0, -2.0]), 5)
OLD = jnp.linspace(-2.0, -0.5, 10)


def clipped(log_ratios, valid):
  return clipped_ratio_loss(log_ratios + OLD, OLD, ADVANTAGES, valid, 0.2)


def test_the_clipped_surrogate_by_hand():
  gains = [0.5, 0.9, 1.0, 1.1, 1.2, -1.6, -1.8, -2.0, -2.2, -4.0]
  everything = jnp.ones(10, bool)
  np.testing.assert_allclose(
    clipped(LOG_RATIOS, everything), -np.mean(gains), rtol=1e-6
  )
  valid = everything.at[4].set(False).at[5].set(False)
  np.testing.assert_allclose(
    clipped(LOG_RATIOS, valid),
    -np.mean([*gains[:4], *gains[6:]]),
    rtol=1e-6,
  )


def test_only_what_would_profit_from_leaving_is_clipped():
  valid = jnp.ones(10, bool)
  gradient = jax.grad(clipped)(LOG_RATIOS, valid)
  # d(-r A / 10) / d log r, but nothing beyond 1.2 for a good action, nor
  # below 0.8 for a bad one.
  expected = -np.exp(LOG_RATIOS) * ADVANTAGES / 10
  expected = np.asarray(expected).copy()
  expected[[4, 5]] = 0.0
  np.testing.assert_allclose(gradient, expected, rtol=1e-5)


def test_where_the_policies_agree_it_is_the_likelihood_ratio_surrogate():
  valid = jnp.ones(10, bool)
  plain = jax.grad(likelihood_ratio_loss)(OLD, OLD, ADVANTAGES, valid)
  for clip in (0.1, 0.3):
    np.testing.assert_allclose(
      jax.grad(clipped_ratio_loss)(OLD, OLD, ADVANTAGES, valid, clip),
      plain,
      rtol=1e-6,
    )


def test_every_epoch_takes_the_gradient_anew():
  target = jnp.array([1.0, -2.0])
  optimizer = optax.sgd(0.1)

  def surrogate_and_kl(params):
    return jnp.sum((params - target) ** 2), jnp.sum(params**2)

  start = jnp.zeros(2)
  step = ppo_step(
    start,
    optimizer.init(start),
    jax.grad(lambda params: surrogate_and_kl(params)[0]),
    surrogate_and_kl,
    optimizer,
    num_epochs=3,
  )
  expected = target * (1 - 0.8**3)
  np.testing.assert_allclose(step.params, expected, rtol=1e-6)
  np.testing.assert_allclose(step.kl, np.sum(expected**2), rtol=1e-6)
  np.testing.assert_allclose(step.surrogate, 5.0 * 0.8**6, rtol=1e-5)
  np.testing.assert_allclose(step.gradient_norm, 2.0 * np.sqrt(5.0), rtol=1e-6)
  assert step.finite


def test_one_gradient_that_is_not_finite_undoes_the_step():
  optimizer = optax.adam(0.1)
  start = jnp.ones(2)
  state = optimizer.init(start)
  step = ppo_step(
    start,
    state,
    # Finite at the start, not after the first epoch.
    lambda params: jnp.where(params < 0.95, jnp.nan, 1.0),
    lambda params: (jnp.sum(params), jnp.zeros(())),
    optimizer,
    num_epochs=3,
  )
  assert not step.finite
  np.testing.assert_array_equal(step.params, start)
  jax.tree.map(np.testing.assert_array_equal, step.optimizer_state, state)
