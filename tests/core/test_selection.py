"""The best state is kept, and validation tasks are not the held-out ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.core.algorithm import (
  SKIPPED,
  Algorithm,
  evaluation_key,
  init_key,
  step_key,
)
from metajax.core.selection import select_best
from metajax.core.sweeps import sweep
from metajax.core.validation import InputError
from metajax.testing.algorithms import check_algorithm

RUN_KEY = jax.random.key(0)


def walk(losses):
  """An algorithm whose state after step i has the i-th of `losses`."""

  def init(data, key):
    del data, key
    return jnp.int32(0)

  def step(data, state, key):
    del data, key
    return state + 1, {'meta/loss': jnp.zeros(()), SKIPPED: jnp.zeros(())}

  def evaluate(data, state, key):
    noise = jax.random.uniform(key, (2,))
    return {
      'loss': jnp.broadcast_to(data[state], (2,)),
      'state': jnp.broadcast_to(state, (2,)).astype(jnp.float32),
      'noise': noise,
    }

  return Algorithm(jnp.asarray(losses, jnp.float32), init, step, evaluate)


def train(algorithm, num_steps):
  state = algorithm.init(algorithm.data, init_key(RUN_KEY))
  step = jax.jit(algorithm.step)
  for i in range(num_steps):
    state, _ = step(algorithm.data, state, step_key(RUN_KEY, i))
  return state


def state_in_use(algorithm, state):
  key = evaluation_key(RUN_KEY)
  return int(algorithm.evaluate(algorithm.data, state, key)['state'][0])


LOSSES = [9.0, 8.0, 3.0, 1.0, np.nan, 6.0, 2.0, 5.0, 4.0]


@pytest.mark.parametrize(
  ('every', 'num_steps', 'expected'),
  [(1, 8, 3), (2, 8, 6), (4, 8, 8), (3, 2, 2), (4, 4, 4), (1, 2, 2)],
)
def test_the_least_loss_of_the_validations_is_tested(
  every, num_steps, expected
):
  algorithm = select_best(walk(LOSSES), 'loss', every=every)
  state = train(algorithm, num_steps)
  assert state_in_use(algorithm, state) == expected
  assert int(state.current) == num_steps


def test_another_family_may_judge():
  algorithm = select_best(
    walk(LOSSES), 'loss', every=1, validation=walk(np.arange(9.0)[::-1])
  )
  state = train(algorithm, 8)
  assert state_in_use(algorithm, state) == 8
  key = evaluation_key(RUN_KEY)
  tested = algorithm.evaluate(algorithm.data, state, key)
  np.testing.assert_array_equal(tested['loss'], 4.0)


def test_validation_tasks_are_not_the_held_out_ones():
  algorithm = select_best(walk(LOSSES), 'noise', every=1)
  state = train(algorithm, 1)
  key = evaluation_key(RUN_KEY)
  held_out = algorithm.evaluate(algorithm.data, state, key)['noise']
  assert abs(float(state.best_loss) - float(jnp.mean(held_out))) > 1e-6


@pytest.mark.parametrize('worst', [1e9, np.inf, np.nan])
def test_the_worst_hundredth_of_the_tasks_does_not_count(worst):
  algorithm = walk([9.0, 8.0, 7.0])

  def evaluate(data, state, key):
    losses = jnp.full((200,), data[state]).at[7].set(worst)
    return {**algorithm.evaluate(data, state, key), 'loss': losses}

  chosen = select_best(algorithm._replace(evaluate=evaluate), 'loss', every=1)
  state = train(chosen, 2)
  assert float(state.best_loss) == 7.0


def test_columns_of_a_sweep_select_each_for_itself():
  columns = sweep(
    lambda config: select_best(walk(LOSSES), 'noise', every=1), [()], [0, 1, 2]
  )
  state = jax.jit(columns.init)(columns.data, jax.random.key(5))
  state, _ = jax.jit(columns.step)(columns.data, state, jax.random.key(6))
  assert len(np.unique(state.columns.best_loss)) == 3


def test_selection_keeps_the_contract_of_an_algorithm():
  check_algorithm(select_best(walk(np.ones(9)), 'loss', every=2), num_steps=6)


def test_validations_are_counted():
  with pytest.raises(InputError, match='every'):
    select_best(walk(LOSSES), 'loss', every=0)


def test_the_metric_is_one_that_is_evaluated():
  with pytest.raises(InputError, match='metric'):
    train(select_best(walk(LOSSES), 'los', every=1), 1)
