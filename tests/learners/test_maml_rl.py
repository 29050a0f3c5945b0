"""MAML-RL: batches by hand, the outer step by hand, and as a method."""

import jax
from jax.flatten_util import ravel_pytree
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.core.algorithm import (
  SKIPPED,
  evaluation_key,
  init_key,
  step_key,
)
from metajax.envs.navigation import navigation
from metajax.envs.rollout import Trajectory, whole_episodes
from metajax.learners.maml_rl import (
  Experience,
  MamlRlConfig,
  collect,
  gaussian_policy,
  maml_rl,
  outer_step,
)
from metajax.learners.policy_adaptation import (
  repeat_task,
  sample_rollouts,
  to_batch,
  update_once,
)
from metajax.nets.distributions import DiagonalGaussian
from metajax.nets.policies import GaussianPolicy
from metajax.rl.policy_batch import PolicyBatch
from metajax.testing.algorithms import check_algorithm
from metajax.testing.comparison import assert_equal_bits
from metajax.testing.environments import check_environment
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
  return MamlRlConfig(
    **{
      'hidden_sizes': (8,),
      'meta_batch_size': 4,
      'num_rollouts': 4,
      'num_test_rollouts': 4,
      'num_test_tasks': 2,
      'num_test_steps': 2,
      **fields,
    }
  )


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


def gaussian_kl(old, new):
  ratio = jnp.exp(2.0 * (old.log_std - new.log_std))[None]
  distance = (old.mean - new.mean) ** 2 / jnp.exp(2.0 * new.log_std)[None]
  return jnp.sum(0.5 * (ratio + distance - 1.0 - jnp.log(ratio)), axis=-1)


def synthetic_batch(generator, leading):
  return PolicyBatch(
    observations=jnp.asarray(generator.normal(size=(*leading, 30, 2))),
    actions=jnp.asarray(generator.normal(size=(*leading, 30, 2))),
    advantages=jnp.asarray(generator.normal(size=(*leading, 30))),
    valid=jnp.asarray(generator.uniform(size=(*leading, 30)) < 0.8),
  )


@pytest.mark.parametrize('first_order', [False, True])
def test_the_outer_step_is_that_worked_by_hand(first_order):
  """With the Hessian of the KL by autodiff, and a dense solve."""
  with jax.enable_x64(True):
    settings = config(
      first_order=first_order,
      damping=0.05,
      max_kl=0.02,
      conjugate_gradient_steps=60,
    )
    network = GaussianPolicy(2, (3,), activation=jnp.tanh)
    generator = np.random.default_rng(0)
    params = jax.tree.map(
      lambda x: jnp.asarray(x + 0.1 * generator.normal(size=x.shape)),
      network.init(jax.random.key(0), jnp.zeros(2))['params'],
    )
    theta, unravel = ravel_pytree(params)
    supports = synthetic_batch(generator, (3, 1))
    queries = synthetic_batch(generator, (3,))

    def output(flat, observations):
      result = network.apply({'params': unravel(flat)}, observations)
      return result.mean, result.log_std

    def log_prob(flat, batch):
      mean, log_std = output(flat, batch.observations)
      standard = (batch.actions - mean) / jnp.exp(log_std)[None]
      return jnp.sum(
        -0.5 * standard**2 - log_std[None] - 0.5 * jnp.log(2 * jnp.pi),
        axis=-1,
      )

    def mean(values, valid):
      return jnp.sum(values * valid) / jnp.sum(valid)

    def phi(flat, support):
      support = jax.tree.map(lambda x: x[0], support)
      gradient = jax.grad(
        lambda f: (
          -mean(log_prob(f, support) * support.advantages, support.valid)
        )
      )(flat)
      if first_order:
        gradient = jax.lax.stop_gradient(gradient)
      return flat - settings.inner_lr * gradient

    def task(i):
      return jax.tree.map(lambda x: x[i], (supports, queries))

    def surrogate(flat):
      losses = []
      for i in range(3):
        support, query = task(i)
        old = log_prob(phi(theta, support), query)
        ratios = jnp.exp(log_prob(phi(flat, support), query) - old)
        losses.append(-mean(ratios * query.advantages, query.valid))
      return sum(losses) / 3

    def kl(flat):
      total = 0.0
      for i in range(3):
        support, query = task(i)
        old, new = (
          DiagonalGaussian(*output(phi(point, support), query.observations))
          for point in (jax.lax.stop_gradient(theta), flat)
        )
        total += jnp.sum(gaussian_kl(old, new) * query.valid)
      return total / jnp.sum(queries.valid)

    surrogate, kl = jax.jit(surrogate), jax.jit(kl)
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

    old = jax.vmap(
      lambda support, query: DiagonalGaussian(
        *output(phi(theta, support), query.observations)
      )
    )(supports, queries)
    experience = Experience(supports, queries, old, jnp.zeros((3, 2)))
    step, norm = jax.jit(
      lambda params: outer_step(network, settings, params, experience)
    )(params)
    moved = ravel_pytree(step.params)[0]
    taken, worked_out = np.asarray(moved - theta), np.asarray(expected - theta)
    moved_kl = np.asarray(kl(moved))
  np.testing.assert_allclose(norm, np.linalg.norm(gradient), rtol=1e-6)
  assert step.accepted
  # Conjugate gradients stop at a residual of 1e-5.
  np.testing.assert_allclose(
    taken, worked_out, atol=1e-3 * np.max(np.abs(full))
  )
  np.testing.assert_allclose(step.kl, moved_kl, rtol=1e-5)
  assert moved_kl <= settings.max_kl


def test_the_lever_keeps_the_contract_of_an_environment():
  check_environment(lever(), num_envs=8, num_steps=5)


@pytest.mark.parametrize(
  'compare_eager',
  # Op by op a step takes long.
  [False, pytest.param(True, marks=pytest.mark.slow)],
)
def test_maml_rl_keeps_the_contract_of_an_algorithm(compare_eager):
  # So few steps leave the Fisher matrix singular, and without damping its
  # inverse would make much of how what is compiled is rounded.
  settings = config(hidden_sizes=(4,), damping=1.0)
  check_algorithm(
    maml_rl(lever(horizon=3), settings),
    tolerance=1e-3,
    compare_eager=compare_eager,
  )


def learn(env, settings, num_steps):
  """Returns what is earned in training and at meta-test, before and after."""
  algorithm = maml_rl(env, settings)
  run_key = jax.random.key(0)

  def body(state, i):
    state, metrics = algorithm.step((), state, step_key(run_key, i))
    before_and_after = [metrics[f'return/step_{k}'] for k in (0, 1)]
    return state, (jnp.stack(before_and_after), metrics)

  @jax.jit
  def whole():
    state = algorithm.init((), init_key(run_key))
    state, (returns, metrics) = jax.lax.scan(body, state, jnp.arange(num_steps))
    evaluation = algorithm.evaluate((), state, evaluation_key(run_key))
    tested = jnp.stack(
      [evaluation[f'return/step_{k}'] for k in (0, 1)], axis=-1
    )
    return returns, tested, metrics

  returns, tested, metrics = whole()
  assert not np.any(metrics[SKIPPED])
  assert np.all(metrics['meta/kl'] <= settings.max_kl)
  return np.asarray(returns), np.asarray(tested)


def test_maml_rl_learns_to_find_goals():
  settings = config(
    hidden_sizes=(16,),
    meta_batch_size=10,
    num_rollouts=10,
    num_test_rollouts=10,
    num_test_tasks=30,
    max_kl=0.05,
  )
  returns, tested = learn(navigation(horizon=20), settings, 15)
  gains = tested[:, 1] - tested[:, 0]
  interval = 1.96 * gains.std(ddof=1) / np.sqrt(len(gains))
  assert gains.mean() - interval > 0.0
  assert gains.mean() > 0.1 * abs(tested[:, 0].mean())
  # Untrained, one update gains far less.
  assert gains.mean() > 2.0 * (returns[0, 1] - returns[0, 0])


def test_maml_rl_learns_which_way_to_push():
  """A bandit: 0 on average before adaptation, at best 1 a push after it."""
  settings = config(
    meta_batch_size=10, num_rollouts=10, num_test_tasks=40, max_kl=0.1
  )
  _, tested = learn(lever(horizon=5), settings, 120)
  before, after = tested.mean(axis=0) / 5
  assert abs(before) < 0.35
  assert after > 0.9
