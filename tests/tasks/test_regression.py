"""The sinusoid family against the numbers that its distribution implies."""

import jax
import jax.numpy as jnp
import numpy as np

from metajax.core.learner import TaskFamily
from metajax.tasks.regression import Sinusoid, reveal_task, sinusoid, sinusoids

TASKS = sinusoids(shots=3, query_shots=4)


def draw(family: TaskFamily, num_tasks):
  keys = jax.random.split(jax.random.key(0), num_tasks)
  return jax.jit(jax.vmap(family.sample, in_axes=(None, 0)))(family.data, keys)


def test_a_sinusoid_is_what_numpy_computes():
  inputs = np.linspace(-5, 5, 11)[:, None]
  got = sinusoid(Sinusoid(jnp.float32(2.0), jnp.float32(0.5)), inputs)
  np.testing.assert_allclose(got, 2.0 * np.sin(inputs - 0.5), atol=1e-5)


def test_episodes_hold_points_of_their_task():
  episodes = draw(TASKS, 50)
  assert episodes.support.inputs.shape == (50, 3, 1)
  assert episodes.query.targets.shape == (50, 4, 1)
  amplitude, phase = (np.asarray(x)[:, None, None] for x in episodes.task)
  for examples in (episodes.support, episodes.query):
    np.testing.assert_allclose(
      examples.targets, amplitude * np.sin(examples.inputs - phase), atol=1e-5
    )
  both = np.concatenate(
    [episodes.support.inputs, episodes.query.inputs], axis=1
  )
  assert all(len(set(row.ravel().tolist())) == 7 for row in both)


def test_tasks_are_uniform_in_their_ranges():
  episodes = draw(TASKS, 4000)
  ranges = [
    (episodes.task.amplitude, 0.1, 5.0),
    (episodes.task.phase, 0.0, np.pi),
    (episodes.query.inputs, -5.0, 5.0),
  ]
  for values, low, high in ranges:
    values = np.asarray(values).ravel()
    assert values.min() >= low
    assert values.max() <= high
    error = 5 * (high - low) / np.sqrt(12 * values.size)
    np.testing.assert_allclose(values.mean(), (low + high) / 2, atol=error)
    np.testing.assert_allclose(
      values.std(), (high - low) / np.sqrt(12), rtol=0.05
    )


def test_what_predicting_costs_without_adapting():
  """The two numbers of the docstring, from dense sums."""
  amplitude, phase, inputs = np.meshgrid(
    np.linspace(0.1, 5.0, 101),
    np.linspace(0.0, np.pi, 101),
    np.linspace(-5.0, 5.0, 101),
    indexing='ij',
  )
  targets = amplitude * np.sin(inputs - phase)
  np.testing.assert_allclose(np.mean(targets**2), 4.26, atol=0.06)
  best = targets.mean(axis=(0, 1), keepdims=True)
  np.testing.assert_allclose(np.mean((targets - best) ** 2), 3.01, atol=0.06)


def test_different_keys_give_different_tasks():
  episodes = draw(TASKS, 100)
  assert len(set(np.asarray(episodes.task.phase).tolist())) == 100


def test_the_oracle_is_told_the_task():
  plain, told = draw(TASKS, 5), draw(reveal_task(TASKS), 5)
  assert told.support.inputs.shape == (5, 3, 3)
  np.testing.assert_array_equal(told.query.inputs[..., :1], plain.query.inputs)
  np.testing.assert_array_equal(told.query.targets, plain.query.targets)
  for i, number in enumerate(plain.task, start=1):
    np.testing.assert_array_equal(
      told.query.inputs[..., i], np.repeat(number[:, None], 4, axis=1)
    )
