"""The outer step of MAML-RL, trust region and PPO, both by hand."""

import functools

import jax
from jax.flatten_util import ravel_pytree
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.core.adaptation import learned_step_sizes
from metajax.core.algorithm import SKIPPED
from metajax.learners.maml_rl_config import MamlRlConfig
from metajax.learners.policy_outer_step import (
  Experience,
  outer_optimizer,
  outer_step,
)
from metajax.nets.distributions import DiagonalGaussian
from metajax.nets.policies import GaussianPolicy
from metajax.rl.policy_batch import PolicyBatch

NUM_TASKS = 3


def synthetic_batch(generator, leading):
  return PolicyBatch(
    observations=jnp.asarray(generator.normal(size=(*leading, 30, 2))),
    actions=jnp.asarray(generator.normal(size=(*leading, 30, 2))),
    advantages=jnp.asarray(generator.normal(size=(*leading, 30))),
    valid=jnp.asarray(generator.uniform(size=(*leading, 30)) < 0.8),
  )


def gaussian_kl(old, new):
  ratio = jnp.exp(2.0 * (old.log_std - new.log_std))[None]
  distance = (old.mean - new.mean) ** 2 / jnp.exp(2.0 * new.log_std)[None]
  return jnp.sum(0.5 * (ratio + distance - 1.0 - jnp.log(ratio)), axis=-1)


def mean(values, valid):
  return jnp.sum(values * valid) / jnp.sum(valid)


class ByHand:
  """J and KL of a small network, as functions of flat parameters."""

  def __init__(self, settings):
    self.settings = settings
    self.network = GaussianPolicy(2, (3,), activation=jnp.tanh)
    generator = np.random.default_rng(0)
    model = jax.tree.map(
      lambda x: jnp.asarray(x + 0.1 * generator.normal(size=x.shape)),
      self.network.init(jax.random.key(0), jnp.zeros(2))['params'],
    )
    self.params = {'model': model}
    if settings.learn_inner_lr:
      sizes = learned_step_sizes(
        model, settings.inner_lr, settings.num_inner_steps
      )
      self.params['inner_lr'] = jax.tree.map(
        lambda x: x * jnp.asarray(generator.uniform(0.5, 1.5, x.shape)), sizes
      )
    self.theta, self.unravel = ravel_pytree(self.params)
    _, self.unravel_model = ravel_pytree(model)
    self.supports = synthetic_batch(
      generator, (NUM_TASKS, settings.num_inner_steps)
    )
    self.queries = synthetic_batch(generator, (NUM_TASKS,))
    old = jax.vmap(
      lambda support, query: self.output(
        self.phi(self.theta, support), query.observations
      )
    )(self.supports, self.queries)
    self.experience = Experience(
      self.supports, self.queries, old, jnp.zeros((NUM_TASKS, 2))
    )

  def output(self, model, observations):
    result = self.network.apply(
      {'params': self.unravel_model(model)}, observations
    )
    return DiagonalGaussian(result.mean, result.log_std)

  def log_prob(self, model, batch):
    actions, log_std = self.output(model, batch.observations)
    standard = (batch.actions - actions) / jnp.exp(log_std)[None]
    return jnp.sum(
      -0.5 * standard**2 - log_std[None] - 0.5 * jnp.log(2 * jnp.pi), axis=-1
    )

  def phi(self, flat, supports):
    params = self.unravel(flat)
    phi = ravel_pytree(params['model'])[0]
    for step in range(self.settings.num_inner_steps):
      support = jax.tree.map(lambda x, step=step: x[step], supports)
      alpha = self.settings.inner_lr
      if 'inner_lr' in params:
        alpha = ravel_pytree(
          jax.tree.map(
            lambda p, size, step=step: jnp.full(p.shape, size[step]),
            params['model'],
            params['inner_lr'],
          )
        )[0]
      gradient = jax.grad(
        lambda f, support=support: (
          -mean(self.log_prob(f, support) * support.advantages, support.valid)
        )
      )(phi)
      if self.settings.first_order:
        gradient = jax.lax.stop_gradient(gradient)
      phi = phi - alpha * gradient
    return phi

  def task(self, index):
    return jax.tree.map(lambda x: x[index], (self.supports, self.queries))

  def surrogate(self, flat, clip=None):
    losses = []
    for index in range(NUM_TASKS):
      support, query = self.task(index)
      old = self.log_prob(self.phi(self.theta, support), query)
      ratios = jnp.exp(self.log_prob(self.phi(flat, support), query) - old)
      gains = ratios * query.advantages
      if clip is not None:
        clipped = jnp.clip(ratios, 1 - clip, 1 + clip) * query.advantages
        gains = jnp.minimum(gains, clipped)
      losses.append(-mean(gains, query.valid))
    return sum(losses) / NUM_TASKS

  def kl(self, flat):
    total = 0.0
    for index in range(NUM_TASKS):
      support, query = self.task(index)
      old, new = (
        self.output(self.phi(point, support), query.observations)
        for point in (jax.lax.stop_gradient(self.theta), flat)
      )
      total += jnp.sum(gaussian_kl(old, new) * query.valid)
    return total / jnp.sum(self.queries.valid)


@pytest.mark.parametrize(
  ('first_order', 'num_steps', 'learned', 'chunk_size'),
  [
    (False, 1, False, None),
    pytest.param(True, 1, False, None, marks=pytest.mark.slow),
    pytest.param(False, 2, True, 2, marks=pytest.mark.slow),
  ],
)
def test_the_trust_region_step_is_that_worked_by_hand(
  first_order, num_steps, learned, chunk_size
):
  """With the Hessian of the KL by autodiff, and a dense solve."""
  with jax.enable_x64(True):
    settings = MamlRlConfig(
      first_order=first_order,
      num_inner_steps=num_steps,
      learn_inner_lr=learned,
      task_chunk_size=chunk_size,
      damping=0.05,
      max_kl=0.02,
      conjugate_gradient_steps=60,
    )
    by_hand = ByHand(settings)
    theta = by_hand.theta
    surrogate, kl = jax.jit(by_hand.surrogate), jax.jit(by_hand.kl)
    gradient = jax.grad(surrogate)(theta)
    fisher = jax.jit(jax.hessian(kl))(theta)
    damped = fisher + settings.damping * jnp.eye(theta.size)
    direction = jnp.linalg.solve(damped, gradient)
    full = direction * jnp.sqrt(
      2 * settings.max_kl / (direction @ damped @ direction)
    )
    candidates = [theta - 0.8**j * full for j in range(15)]
    expected = next(
      point
      for point in candidates
      if kl(point) <= settings.max_kl and surrogate(point) < surrogate(theta)
    )
    step = jax.jit(
      lambda params: outer_step(
        by_hand.network, settings, params, (), by_hand.experience
      )
    )(by_hand.params)
    moved = ravel_pytree(step.params)[0]
    taken, worked_out = np.asarray(moved - theta), np.asarray(expected - theta)
    moved_kl = np.asarray(kl(moved))
    sizes_taken = jax.tree.map(
      lambda new, old: np.asarray(new - old),
      step.params.get('inner_lr', ()),
      by_hand.params.get('inner_lr', ()),
    )
  np.testing.assert_allclose(
    step.metrics['meta/gradient_norm'], np.linalg.norm(gradient), rtol=1e-6
  )
  assert step.metrics['meta/accepted']
  # Conjugate gradients stop at a residual of 1e-5.
  np.testing.assert_allclose(
    taken, worked_out, atol=1e-3 * np.max(np.abs(full))
  )
  np.testing.assert_allclose(step.metrics['meta/kl'], moved_kl, rtol=1e-5)
  assert moved_kl <= settings.max_kl
  assert all(np.all(size != 0.0) for size in jax.tree.leaves(sizes_taken))


@pytest.mark.parametrize(
  ('first_order', 'num_steps', 'learned'),
  [(False, 1, False), pytest.param(True, 2, True, marks=pytest.mark.slow)],
)
def test_the_ppo_step_is_that_worked_by_hand(first_order, num_steps, learned):
  """Adam of Kingma and Ba (2015) on the clipped ratios, two steps in turn."""
  with jax.enable_x64(True):
    settings = MamlRlConfig(
      first_order=first_order,
      num_inner_steps=num_steps,
      learn_inner_lr=learned,
      outer_optimizer='ppo',
      outer_lr=0.05,
      ppo_clip=0.1,
      ppo_epochs=4,
    )
    by_hand = ByHand(settings)
    surrogate = functools.partial(by_hand.surrogate, clip=settings.ppo_clip)
    gradient = jax.jit(jax.grad(surrogate))

    optimizer = outer_optimizer(settings)
    assert optimizer is not None
    params, state = by_hand.params, optimizer.init(by_hand.params)
    outer = jax.jit(
      lambda params, state: outer_step(
        by_hand.network, settings, params, state, by_hand.experience
      )
    )
    for _ in range(2):
      step = outer(params, state)
      params, state = step.params, step.optimizer_state

    flat = by_hand.theta
    first, second = jnp.zeros_like(flat), jnp.zeros_like(flat)
    for count in range(1, 9):
      g = gradient(flat)
      first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g**2
      scaled = first / (1 - 0.9**count)
      root = jnp.sqrt(second / (1 - 0.999**count))
      flat = flat - settings.outer_lr * scaled / (root + 1e-8)
    moved = ravel_pytree(params)[0]
    np.testing.assert_allclose(moved, flat, atol=1e-6)
    np.testing.assert_allclose(
      step.metrics['meta/surrogate'], surrogate(moved), rtol=1e-5
    )
    np.testing.assert_allclose(
      step.metrics['meta/kl'], by_hand.kl(moved), rtol=1e-5
    )
    # So large a step that some ratios are clipped, or this says nothing.
    gain = float(by_hand.surrogate(moved) - step.metrics['meta/surrogate'])
  assert abs(gain) > 1e-3
  assert step.metrics[SKIPPED] == 0.0


def test_ppo_skips_what_is_not_finite():
  settings = MamlRlConfig(outer_optimizer='ppo')
  by_hand = ByHand(settings)
  queries = by_hand.queries._replace(
    advantages=jnp.full_like(by_hand.queries.advantages, jnp.nan)
  )
  optimizer = outer_optimizer(settings)
  assert optimizer is not None
  state = optimizer.init(by_hand.params)
  step = jax.jit(
    lambda experience: outer_step(
      by_hand.network, settings, by_hand.params, state, experience
    )
  )(by_hand.experience._replace(queries=queries))
  assert step.metrics[SKIPPED] == 1.0
  kept = ravel_pytree((step.params, step.optimizer_state))[0]
  np.testing.assert_array_equal(kept, ravel_pytree((by_hand.params, state))[0])
