"""MAML-RL: the contract, its variants, and as a method."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.core.algorithm import (
  SKIPPED,
  evaluation_key,
  init_key,
  step_key,
)
from metajax.core.sharding import shard
from metajax.envs.navigation import navigation
from metajax.learners.maml_rl import maml_rl
from metajax.learners.maml_rl_config import MamlRlConfig
from metajax.testing.algorithms import check_algorithm
from metajax.testing.comparison import assert_close
from metajax.testing.environments import check_environment
from metajax.testing.probes import lever


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


def test_the_lever_keeps_the_contract_of_an_environment():
  check_environment(lever(), num_envs=8, num_steps=5)


@pytest.mark.parametrize(
  'compare_eager',
  # Op by op a step takes long.
  [False, pytest.param(True, marks=pytest.mark.slow)],
)
def test_maml_rl_keeps_the_contract_of_an_algorithm(compare_eager):
  check_contract({}, compare_eager)


@pytest.mark.parametrize(
  'variant',
  [
    pytest.param({'outer_optimizer': 'ppo'}, marks=pytest.mark.slow),
    pytest.param(
      {
        'adapts': 'context',
        'learn_inner_lr': True,
        'num_inner_steps': 2,
        'task_chunk_size': 2,
      },
      marks=pytest.mark.slow,
    ),
    pytest.param(
      {
        'outer_optimizer': 'ppo',
        'adapts': 'context',
        'learn_inner_lr': True,
        'num_inner_steps': 2,
        'first_order': True,
      },
      marks=pytest.mark.slow,
    ),
  ],
)
def test_its_variants_keep_the_contract_too(variant):
  check_contract(variant, compare_eager=False)


def check_contract(variant, compare_eager):
  # So few steps leave the Fisher matrix singular, and without damping its
  # inverse would make much of how what is compiled is rounded.
  settings = config(hidden_sizes=(4,), damping=1.0, **variant)
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
    before_and_after = [
      metrics[f'return/step_{k}'] for k in (0, settings.num_inner_steps)
    ]
    return state, (jnp.stack(before_and_after), metrics)

  @jax.jit
  def whole():
    state = algorithm.init((), init_key(run_key))
    state, (returns, metrics) = jax.lax.scan(body, state, jnp.arange(num_steps))
    evaluation = algorithm.evaluate((), state, evaluation_key(run_key))
    tested = jnp.stack(
      [evaluation[f'return/step_{k}'] for k in (0, settings.num_inner_steps)],
      axis=-1,
    )
    return returns, tested, metrics

  returns, tested, metrics = whole()
  assert not np.any(metrics[SKIPPED])
  if settings.outer_optimizer == 'trust_region':
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


@pytest.mark.parametrize(
  'variant',
  [
    {},
    pytest.param(
      {'outer_optimizer': 'ppo', 'outer_lr': 0.01}, marks=pytest.mark.slow
    ),
    pytest.param(
      {'num_inner_steps': 2, 'learn_inner_lr': True, 'first_order': True},
      marks=pytest.mark.slow,
    ),
  ],
)
def test_maml_rl_learns_which_way_to_push(variant):
  """A bandit: 0 on average before adaptation, at best 1 a push after it."""
  settings = config(
    meta_batch_size=10,
    num_rollouts=10,
    num_test_tasks=40,
    max_kl=0.1,
    **variant,
  )
  _, tested = learn(lever(horizon=5), settings, 120)
  before, after = tested.mean(axis=0)[[0, -1]] / 5
  assert abs(before) < 0.35
  assert after > 0.9


@pytest.mark.slow
def test_step_sizes_are_learned_where_they_start_too_small():
  def after(learn_inner_lr):
    settings = config(
      meta_batch_size=10,
      num_rollouts=10,
      num_test_tasks=40,
      max_kl=0.1,
      inner_lr=0.002,
      test_inner_lr=0.002,
      learn_inner_lr=learn_inner_lr,
    )
    return learn(lever(horizon=5), settings, 60)[1][:, 1].mean() / 5

  assert after(True) > after(False) + 0.3


# Six tasks on one device, and three on each of two, in chunks that leave some.
@pytest.mark.slow
@pytest.mark.parametrize(('num_devices', 'chunk_size'), [(1, 4), (2, 2)])
def test_tasks_in_chunks_give_the_same_numbers(num_devices, chunk_size):
  env = navigation(horizon=10)

  def numbers(chunk_size):
    settings = config(
      meta_batch_size=6,
      num_test_tasks=6,
      task_chunk_size=chunk_size,
      # So few steps leave the Fisher matrix singular.
      damping=1.0,
    )
    algorithm = maml_rl(env, settings)
    if num_devices > 1:
      mesh = jax.make_mesh((num_devices,), ('tasks',))
      algorithm = shard(algorithm, mesh)
    start = algorithm.init((), jax.random.key(0))
    state, metrics = jax.jit(algorithm.step)((), start, jax.random.key(1))
    evaluation = jax.jit(algorithm.evaluate)((), start, jax.random.key(2))
    return state.params, metrics, evaluation

  assert_close('chunks', numbers(chunk_size), numbers(None), 1e-4)
