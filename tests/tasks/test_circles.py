"""Circles against plane geometry."""

import jax
import numpy as np
import pytest

from metajax.core.validation import InputError
from metajax.tasks.circles import Circle, circles, is_inside


@pytest.fixture(name='episodes', scope='module')
def fixture_episodes():
  keys = jax.random.split(jax.random.key(0), 3000)
  sample = jax.vmap(circles().sample, in_axes=(None, 0))
  return jax.device_get(jax.jit(sample)((), keys))


def distances(episodes, inputs):
  return np.linalg.norm(inputs - episodes.task.centre[:, None], axis=-1)


def test_the_support_is_one_positive_point(episodes):
  assert episodes.support.inputs.shape == (3000, 1, 2)
  np.testing.assert_array_equal(episodes.support.targets, 1.0)
  inside = distances(episodes, episodes.support.inputs)
  assert np.all(inside <= episodes.task.radius[:, None] * 1.0001)


def test_the_query_holds_ten_of_each_class(episodes):
  assert episodes.query.inputs.shape == (3000, 20, 2)
  assert episodes.query.targets.shape == (3000, 20, 1)
  is_positive = episodes.query.targets[..., 0] == 1.0
  np.testing.assert_array_equal(is_positive.sum(axis=1), 10)
  distance = distances(episodes, episodes.query.inputs)
  margin = 1e-4
  radius = np.broadcast_to(episodes.task.radius[:, None], distance.shape)
  assert np.all(distance[is_positive] <= radius[is_positive] + margin)
  assert np.all(distance[~is_positive] >= radius[~is_positive] - margin)


def test_all_points_lie_in_the_square(episodes):
  for examples in (episodes.support, episodes.query):
    assert examples.inputs.min() >= 0.0
    assert examples.inputs.max() <= 5.0


def test_tasks_are_uniform_in_their_ranges(episodes):
  for values, low, high in (
    (episodes.task.centre.ravel(), 1.0, 4.0),
    (episodes.task.radius, 0.1, 2.0),
  ):
    assert low <= values.min() < values.max() <= high
    error = 5 * (high - low) / np.sqrt(12 * values.size)
    np.testing.assert_allclose(values.mean(), (low + high) / 2, atol=error)


def test_points_are_uniform_where_they_may_lie(episodes):
  """Of a circle within the square: by area, and in every direction."""
  centre, radius = episodes.task.centre, episodes.task.radius
  whole = np.all(
    (centre - radius[:, None] > 0) & (centre + radius[:, None] < 5), axis=1
  )
  offset = episodes.query.inputs[:, :10] - centre[:, None]
  scaled = (offset / radius[:, None, None])[whole].reshape(-1, 2)
  square = np.sum(scaled**2, axis=1)  # uniform in [0, 1]
  error = 5 / np.sqrt(12 * len(square))
  np.testing.assert_allclose(square.mean(), 0.5, atol=error)
  np.testing.assert_allclose(scaled.mean(axis=0), 0.0, atol=2 * error)
  # Outside a small circle, over nearly all of the square.
  small = radius < 0.3
  negatives = episodes.query.inputs[small, 10:].reshape(-1, 2)
  np.testing.assert_allclose(negatives.mean(axis=0), 2.5, atol=0.1)
  np.testing.assert_allclose(negatives.std(axis=0), 5 / np.sqrt(12), rtol=0.05)


def test_is_inside_by_hand():
  circle = Circle(np.array([1.0, 2.0]), np.array(0.5))
  points = np.array([[1.0, 2.4], [1.0, 2.6], [1.4, 2.4], [1.3, 2.3]])
  np.testing.assert_array_equal(
    is_inside(circle, points), [True, False, False, True]
  )


def test_what_cannot_be_is_said():
  with pytest.raises(InputError, match='query_shots: expected an integer >= 1'):
    circles(query_shots=0)
