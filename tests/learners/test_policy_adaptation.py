"""The inner loop of policies: rollouts, batches by hand, the update."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.envs.navigation import navigation
from metajax.envs.rollout import Trajectory, whole_episodes
from metajax.learners.maml_rl_config import MamlRlConfig
from metajax.learners.policy_adaptation import (
  adapt_by_policy_gradient,
  collect,
  gaussian_policy,
  repeat_task,
  sample_rollouts,
  to_batch,
  update_once,
)
from metajax.testing.comparison import assert_close, assert_equal_bits
from metajax.testing.probes import lever


def trajectory(rewards, times, terminals=None, valid=None):
  shape = np.shape(rewards)
  no, yes = np.zeros(shape, bool), np.ones(shape, bool)
  return Trajectory(
    observations=jnp.zeros((*shape, 1)),
    actions=jnp.zeros((*shape, 1)),
    rewards=jnp.asarray(rewards, jnp.float32),
    terminals=jnp.asarray(no if terminals is None else terminals, bool),
    valid=jnp.asarray(yes if valid is None else valid, bool),
    times=jnp.asarray(times, jnp.int32),
  )


def test_cut_episodes_do_not_count():
  rollouts = trajectory(
    rewards=[[1, 2, 4, 8, 16]] * 3,
    # Whole; ended after two and again at the end; cut in the third.
    times=[[0, 1, 2, 3, 4], [0, 1, 0, 1, 2], [0, 1, 0, 0, 1]],
    terminals=[[0, 0, 0, 0, 0], [0, 1, 0, 0, 1], [0, 1, 1, 0, 0]],
  )
  whole = whole_episodes(rollouts, horizon=5)
  np.testing.assert_array_equal(
    whole.valid,
    [[1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 0, 0]],
  )


def test_the_mean_return_is_that_of_first_episodes():
  rollouts = trajectory(
    rewards=[[1, 2, 4, 8, 16], [1, 2, 4, 8, 16], [1, 2, 4, 0, 0]],
    times=[[0, 1, 2, 3, 4], [0, 1, 0, 1, 2], [0, 1, 2, 3, 4]],
    terminals=[[0, 0, 0, 0, 0], [0, 1, 0, 0, 1], [0, 0, 1, 0, 0]],
    valid=[[1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 0, 0]],
  )
  batch, mean_return = to_batch(rollouts, 1.0, 1.0)
  assert mean_return == (31 + 3 + 7) / 3
  # Observations are all zero: the baseline is a cubic in time, the same for
  # all; 13 valid steps, whose advantages are standardised together.
  valid = np.asarray(batch.valid)
  assert valid.sum() == 13
  advantages = np.asarray(batch.advantages)
  np.testing.assert_array_equal(advantages[~valid], 0.0)
  np.testing.assert_allclose(advantages[valid].mean(), 0.0, atol=1e-5)
  np.testing.assert_allclose(advantages[valid].std(), 1.0, rtol=1e-4)
  returns = np.array([31, 30, 28, 24, 16, 3, 2, 28, 24, 16, 7, 6, 4.0])
  times = np.array([0, 1, 2, 3, 4, 0, 1, 0, 1, 2, 0, 1, 2])
  tau = times[:, None] / 100.0
  psi = np.concatenate([tau, tau**2, tau**3, np.ones_like(tau)], axis=-1)
  gram = psi.T @ psi + 1e-5 * np.eye(4)
  expected = returns - psi @ np.linalg.solve(gram, psi.T @ returns)
  expected = (expected - expected.mean()) / expected.std()
  np.testing.assert_allclose(advantages[valid], expected, atol=0.05)


def config(**fields):
  return MamlRlConfig(hidden_sizes=(8,), **fields)


def start_params(env, settings):
  network = gaussian_policy(env, settings)
  observation = jnp.zeros(env.spec.observation_size)
  return network.init(jax.random.key(0), observation)['params']


@pytest.mark.parametrize('budget', ['episodes', 'steps'])
def test_the_budget_of_rollouts(budget):
  # So wide a goal that most episodes end in it, and soon.
  env, settings = navigation(horizon=10, goal_radius=0.25), config()
  tasks = repeat_task(env.sample_task(jax.random.key(1)), 8)
  rollouts = sample_rollouts(
    env,
    gaussian_policy(env, settings),
    start_params(env, settings),
    tasks,
    jax.random.key(2),
    budget,
  )
  valid, times = np.asarray(rollouts.valid), np.asarray(rollouts.times)
  terminals = np.asarray(rollouts.terminals)
  assert terminals.any()
  for row in range(8):
    ends = np.flatnonzero(terminals[row])
    if budget == 'episodes':
      assert len(ends) <= 1
      length = ends[0] + 1 if len(ends) else 10
      np.testing.assert_array_equal(valid[row], np.arange(10) < length)
    else:
      # Time begins anew after every end; only what is cut is not valid.
      begins = np.flatnonzero(times[row] == 0)
      np.testing.assert_array_equal(begins, [0, *(ends + 1)][: len(begins)])
      last = ends[-1] + 1 if len(ends) else 10
      np.testing.assert_array_equal(valid[row], np.arange(10) < last)


def test_no_reward_no_update():
  env, settings = lever(reward_scale=0.0), config()
  params = start_params(env, settings)
  tasks = repeat_task(env.sample_task(jax.random.key(1)), 4)
  batch, mean_return = collect(env, settings, params, tasks, jax.random.key(2))
  assert mean_return == 0.0
  phi = update_once(gaussian_policy(env, settings), params, batch, 0.1)
  assert_equal_bits('phi', phi, params)


def batch_in(env, settings, params):
  tasks = repeat_task(env.sample_task(jax.random.key(1)), 4)
  return collect(env, settings, params, tasks, jax.random.key(2))[0]


def test_a_context_adapts_alone():
  env, settings = navigation(horizon=10), config(adapts='context')
  network = gaussian_policy(env, settings)
  start = start_params(env, settings)
  assert start['context'].shape == (5,)
  np.testing.assert_array_equal(start['context'], 0.0)
  batch = batch_in(env, settings, start)
  phi = update_once(network, start, batch, 0.1)
  assert np.all(phi['context'] != 0.0)
  assert_equal_bits('mean', phi['mean'], start['mean'])
  assert_equal_bits('log_std', phi['log_std'], start['log_std'])


@pytest.mark.compiled_fully
def test_a_context_moves_the_first_bias():
  """At z = 0 the gradient in z is that in the bias, through z's weights."""
  env, settings = navigation(horizon=10), config(adapts='context')
  plain = config()
  start = start_params(env, settings)
  kernel = start['mean']['Dense_0']['kernel']
  without = {
    'log_std': start['log_std'],
    'mean': start['mean']
    | {'Dense_0': start['mean']['Dense_0'] | {'kernel': kernel[:2]}},
  }
  batch = batch_in(env, plain, without)
  phi = update_once(gaussian_policy(env, settings), start, batch, 1.0)
  other = update_once(gaussian_policy(env, plain), without, batch, 1.0)
  moved = other['mean']['Dense_0']['bias'] - without['mean']['Dense_0']['bias']
  np.testing.assert_allclose(phi['context'], kernel[2:] @ moved, rtol=1e-5)
  # Seen from outside, z is a bias.
  biased = without | {
    'mean': without['mean']
    | {
      'Dense_0': without['mean']['Dense_0']
      | {'bias': phi['context'] @ kernel[2:]}
    }
  }
  seen = batch.observations
  assert_close(
    'actions',
    gaussian_policy(env, settings).distribution(phi, seen).mean,
    gaussian_policy(env, plain).distribution(biased, seen).mean,
    1e-5,
  )


def test_a_step_size_for_every_leaf_and_step():
  env, settings = navigation(horizon=10), config()
  network = gaussian_policy(env, settings)
  start = start_params(env, settings)
  batch = batch_in(env, settings, start)
  twice = jax.tree.map(lambda x: jnp.stack([x, x]), batch)
  sizes = jax.tree.map(lambda _: jnp.array([0.0, 0.1]), start)
  sizes['log_std'] = jnp.array([0.2, 0.0])
  phi = adapt_by_policy_gradient(
    network, start, twice, inner_lr=sizes, num_steps=2
  )
  wide = update_once(network, start, batch, 0.2)
  between = start | {'log_std': wide['log_std']}
  last = update_once(network, between, batch, 0.1)
  expected = last | {'log_std': wide['log_std']}
  assert_close('phi', phi, expected, 1e-6)
