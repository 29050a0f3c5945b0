"""Episodes drawn from demonstrations: distinct, of one task."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.core.compilation import compile_hot
from metajax.core.validation import InputError
from metajax.demos.demonstration_tasks import demonstration_tasks

NUM_TASKS, NUM_DEMOS = 6, 4


def numbered(offset=0, num_tasks=NUM_TASKS, num_demos=NUM_DEMOS):
  """Returns fields whose numbers tell task and demonstration."""
  tasks, demos = jnp.meshgrid(
    jnp.arange(num_tasks), jnp.arange(num_demos), indexing='ij'
  )
  numbers = offset + 10 * tasks + demos
  return {
    'actions': jnp.tile(numbers[..., None], (1, 1, 3)),
    'frames/overview': numbers,
    'task/goal': 10 * jnp.arange(num_tasks),
  }


def draw(family, count=200):
  sample = compile_hot(jax.vmap(family.sample, in_axes=(None, 0)))
  return sample(family.data, jax.random.split(jax.random.key(0), count))


def test_support_and_query_are_distinct_demonstrations_of_one_task():
  episodes = draw(demonstration_tasks(numbered(), shots=2, query_shots=2))
  assert set(episodes.task) == {'goal'}
  support = np.asarray(episodes.support['frames/overview'])
  query = np.asarray(episodes.query['frames/overview'])
  every = np.concatenate([support, query], axis=1)
  goals = np.asarray(episodes.task['goal'])
  np.testing.assert_array_equal(
    np.sort(every, axis=1), goals[:, None] + np.arange(4)[None]
  )
  assert set(goals) == set(range(0, 10 * NUM_TASKS, 10))
  assert len(np.unique(support % 10, axis=0)) == 12  # every pair, both ways
  np.testing.assert_array_equal(episodes.support['actions'][..., 0], support)


def test_only_the_chosen_fields_are_there():
  family = demonstration_tasks(
    numbered(),
    shots=1,
    support_fields=['frames/overview'],
    query_fields=['frames/overview', 'actions'],
  )
  assert 'actions' not in family.data['support']
  episodes = draw(family, 2)
  assert set(episodes.support) == {'frames/overview'}
  assert set(episodes.query) == {'frames/overview', 'actions'}
  assert episodes.query['actions'].shape == (2, 1, 3)


def test_two_sets_share_their_tasks():
  robot = numbered(offset=1000, num_demos=2)
  family = demonstration_tasks(numbered(), shots=4, query_shots=2, query=robot)
  episodes = draw(family)
  support = np.asarray(episodes.support['frames/overview'])
  query = np.asarray(episodes.query['frames/overview'])
  np.testing.assert_array_equal(support[:, 0] // 10, (query[:, 0] - 1000) // 10)
  assert (query >= 1000).all()
  assert (np.sort(query, axis=1) % 10 == np.arange(2)[None]).all()


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ({'shots': 0}, 'shots'),
    ({'shots': 3, 'query_shots': 2}, 'at most 4'),
    ({'shots': 5, 'query': numbered()}, 'shots: expected at most 4'),
    ({'shots': 1, 'query': numbered(num_tasks=5)}, 'query: expected 6 tasks'),
    ({'shots': 1, 'support_fields': ['action']}, 'did you mean actions'),
    ({'shots': 1, 'query_fields': ['task/goal']}, 'query_fields'),
  ],
)
def test_what_cannot_be_drawn(arguments, message):
  with pytest.raises(InputError, match=message):
    demonstration_tasks(numbered(), **arguments)


def test_fields_without_demonstrations():
  with pytest.raises(InputError, match='support'):
    demonstration_tasks({'task/goal': jnp.zeros((3,))}, shots=1)
  with pytest.raises(InputError, match='support'):
    demonstration_tasks({'actions': jnp.zeros((3,))}, shots=1)
