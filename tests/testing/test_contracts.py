"""The contracts of learners and algorithms catch what breaks them."""

import jax
import jax.numpy as jnp
import pytest

from metajax.core.algorithm import SKIPPED, Algorithm
from metajax.core.learner import Learner
from metajax.testing.algorithms import check_algorithm
from metajax.testing.learners import check_learner
from metajax.testing.probes import linear_regressions

TASKS = linear_regressions().tasks


def mean_learner() -> Learner:
  """Predicts a scale times the mean of the support's targets."""
  return Learner(
    init=lambda key, episode: {'scale': jax.random.normal(key)},
    adapt=lambda params, support, key: (
      params['scale'] * jnp.mean(support.targets)
    ),
    loss=lambda params, adapted, query, key: (
      jnp.mean((query.targets - adapted) ** 2),
      {'error': adapted},
    ),
    predict=lambda adapted, inputs: adapted + 0.0 * inputs[..., :1],
  )


def test_a_learner_that_keeps_its_contract():
  check_learner(mean_learner(), TASKS)


CALLS = []


def with_memory(params, support, key):
  CALLS.append(key)
  return params['scale'] * jnp.mean(support.targets) + len(CALLS)


@pytest.mark.parametrize(
  ('broken', 'message'),
  [
    (
      {'init': lambda key, episode: {'scale': jnp.ones(())}},
      'different keys gave the same',
    ),
    ({'init': lambda key, episode: {'scale': jnp.nan}}, 'not finite'),
    ({'adapt': with_memory}, 'differs'),
    (
      {
        'loss': lambda params, adapted, query, key: (
          (query.targets[0] - adapted) ** 2,
          {},
        )
      },
      'scalar',
    ),
    (
      {
        'loss': lambda params, adapted, query, key: (
          adapted,
          {'errors': query.targets},
        )
      },
      'expected a number',
    ),
    (
      {'loss': lambda params, adapted, query, key: (jnp.float32(1.0), {})},
      'does not depend',
    ),
    ({'predict': lambda adapted, inputs: inputs / 0.0}, 'not finite'),
  ],
)
def test_a_learner_that_breaks_its_contract(broken, message):
  with pytest.raises((AssertionError, TypeError), match=message):
    check_learner(mean_learner()._replace(**broken), TASKS)


def walk() -> Algorithm:
  """Adds noise to a number; not an algorithm that learns."""

  def step(data, state, key):
    state = state + data * jax.random.normal(key)
    return state, {'value': state, SKIPPED: jnp.zeros(())}

  return Algorithm(
    data=jnp.float32(0.1),
    init=lambda data, key: jax.random.normal(key),
    step=step,
    evaluate=lambda data, state, key: {
      'value/step_0': state + jax.random.normal(key, (3,))
    },
  )


def test_an_algorithm_that_keeps_its_contract():
  check_algorithm(walk())


def replaced(**metrics):
  """The walk with some metrics put in or, where None, left out."""

  def step(data, state, key):
    state, told = walk().step(data, state, key)
    told = {**told, **metrics}
    return state, {k: v for k, v in told.items() if v is not None}

  return {'step': step}


def hidden_state():
  """Counts in Python, where neither `jit` nor a resume sees it."""
  calls = []

  def step(data, state, key):
    calls.append(key)
    state, told = walk().step(data, state, key)
    return state + len(calls), told

  return {'step': step}


def grows(data, state, key):
  state, told = walk().step(data, state, key)
  return state * 1e30, told


@pytest.mark.parametrize(
  ('broken', 'message'),
  [
    (replaced(**{SKIPPED: None}), 'expected the metric'),
    (replaced(**{SKIPPED: jnp.ones(())}), 'skipped'),
    (replaced(value=jnp.zeros(3)), 'expected the shape'),
    (replaced(value=jnp.nan), 'not finite'),
    (hidden_state(), 'differs'),
    ({'step': grows}, 'not finite'),
    (
      {'evaluate': lambda data, state, key: {'value': state}},
      'one number a task',
    ),
    (
      {'evaluate': lambda data, state, key: {'value': state[None]}},
      'at least two',
    ),
    ({'evaluate': lambda data, state, key: {}}, 'no metrics'),
  ],
)
def test_an_algorithm_that_breaks_its_contract(broken, message):
  with pytest.raises(AssertionError, match=message):
    check_algorithm(walk()._replace(**broken))


def test_an_algorithm_that_is_traced_anew():
  def step(data, state, key):
    state = jnp.append(state, data * jax.random.normal(key))
    return state, {SKIPPED: jnp.zeros(())}

  growing = walk()._replace(
    init=lambda data, key: jax.random.normal(key, (1,)), step=step
  )
  with pytest.raises(AssertionError, match='traced 4 times in 4 steps'):
    check_algorithm(growing, num_steps=4)
