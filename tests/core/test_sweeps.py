"""Columns of a sweep against the runs that they stand for."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax.core.algorithm import (
  SKIPPED,
  evaluation_key,
  init_key,
  step_key,
)
from metajax.core.meta_training import meta_train
from metajax.core.sweeps import sweep
from metajax.core.validation import InputError
from metajax.learners.maml import MamlConfig, fine_tuning_curve, maml
from metajax.nets.perceptrons import Perceptron
from metajax.tasks.regression import sinusoids
from metajax.testing.algorithms import check_algorithm
from metajax.testing.comparison import assert_close

NUM_STEPS = 5


def make(config):
  network = Perceptron(config.hidden_sizes, 1, activation=jnp.tanh)
  return meta_train(
    maml(network, inner_lr=config.inner_lr),
    sinusoids(shots=config.shots, query_shots=config.query_shots),
    optax.adam(config.outer_lr),
    meta_batch_size=config.meta_batch_size,
    test_learner=fine_tuning_curve(
      network, inner_lr=config.inner_lr, num_steps=1
    ),
    num_test_tasks=3,
  )


def config(**fields):
  return MamlConfig(hidden_sizes=(8,), meta_batch_size=4, **fields)


def run(algorithm, seed):
  run_key = jax.random.key(seed)
  step = jax.jit(algorithm.step)
  state = jax.jit(algorithm.init)(algorithm.data, init_key(run_key))
  metrics = {}
  for i in range(NUM_STEPS):
    state, metrics = step(algorithm.data, state, step_key(run_key, i))
  evaluation = jax.jit(algorithm.evaluate)(
    algorithm.data, state, evaluation_key(run_key)
  )
  return state, metrics, evaluation


def test_columns_equal_lone_runs_config_major():
  configs = [config(inner_lr=0.01), config(inner_lr=0.1, outer_lr=1e-2)]
  seeds = [3, 5]
  swept, metrics, evaluation = run(sweep(make, configs, seeds), 0)
  assert metrics[SKIPPED].shape == (4,)
  assert evaluation['query_loss/step_1'].shape == (4, 3)
  alone = [run(make(one), seed) for one in configs for seed in seeds]
  for column, (state, lone_metrics, lone_evaluation) in enumerate(alone):
    of_column = jax.tree.map(
      lambda x, i=column: x[i], (swept.columns, metrics, evaluation)
    )
    assert_close(
      f'column {column}',
      of_column,
      (state, lone_metrics, lone_evaluation),
      1e-5,
    )
  losses = np.asarray(metrics['meta/loss'])
  assert len(set(losses.tolist())) == 4


def test_a_sweep_keeps_the_contract_of_an_algorithm():
  algorithm = sweep(make, [config(), config(inner_lr=0.1)], [0])
  check_algorithm(algorithm, num_steps=6, compare_eager=False)


@pytest.mark.parametrize(
  ('configs', 'seeds', 'named'),
  [
    ([config(), config(shots=3)], [0], 'configs'),
    ([config(), config(first_order=True)], [0], 'configs'),
    ([config(), config().replace(hidden_sizes=(9,))], [0], 'configs'),
    ([], [0], 'configs'),
    ([config()], [], 'seeds'),
    ([config(), config(inner_lr=-0.1)], [0], 'inner_lr'),
    ([config(), config(inner_lr=float('nan'))], [0], 'inner_lr'),
  ],
)
def test_what_cannot_be_swept_is_refused(configs, seeds, named):
  with pytest.raises(InputError, match=named) as error:
    sweep(make, configs, seeds)
  assert '\n' not in str(error.value)
