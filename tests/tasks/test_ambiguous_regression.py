"""Lines and sinusoids against the numbers that their distribution implies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.core.validation import InputError
from metajax.tasks.ambiguous_regression import (
  LineOrSinusoid,
  goodness_of_fit,
  line_or_sinusoid,
  lines_and_sinusoids,
)


def draw(num_tasks, **settings):
  family = lines_and_sinusoids(shots=3, query_shots=4, **settings)
  keys = jax.random.split(jax.random.key(0), num_tasks)
  return jax.jit(jax.vmap(family.sample, in_axes=(None, 0)))((), keys)


@pytest.fixture(name='episodes', scope='module')
def fixture_episodes():
  return draw(4000)


def truth_by_numpy(task, inputs):
  is_line, amplitude, phase, slope, intercept = (
    np.asarray(leaf)[:, None, None] for leaf in task
  )
  return np.where(
    is_line, slope * inputs + intercept, amplitude * np.sin(inputs - phase)
  )


def test_a_function_is_what_numpy_computes():
  inputs = np.linspace(-5, 5, 11, dtype=np.float32)[:, None]
  numbers = map(jnp.float32, (2.0, 0.5, -1.5, 0.25))
  task = LineOrSinusoid(jnp.array(True), *numbers)
  np.testing.assert_allclose(
    line_or_sinusoid(task, inputs), -1.5 * inputs + 0.25, atol=1e-5
  )
  np.testing.assert_allclose(
    line_or_sinusoid(task._replace(is_line=jnp.array(False)), inputs),
    2.0 * np.sin(inputs - 0.5),
    atol=1e-5,
  )


def test_half_are_lines_and_numbers_are_uniform(episodes):
  share = np.mean(episodes.task.is_line)
  assert abs(share - 0.5) < 5 * 0.5 / np.sqrt(4000)
  ranges = [
    (episodes.task.amplitude, 0.1, 5.0),
    (episodes.task.phase, 0.0, np.pi),
    (episodes.task.slope, -3.0, 3.0),
    (episodes.task.intercept, -3.0, 3.0),
    (episodes.query.inputs, -5.0, 5.0),
  ]
  for values, low, high in ranges:
    values = np.asarray(values).ravel()
    assert low <= values.min() < values.max() <= high
    error = 5 * (high - low) / np.sqrt(12 * values.size)
    np.testing.assert_allclose(values.mean(), (low + high) / 2, atol=error)
    np.testing.assert_allclose(
      values.std(), (high - low) / np.sqrt(12), rtol=0.05
    )


def test_all_labels_are_noisy_by_default(episodes):
  for examples in (episodes.support, episodes.query):
    noise = examples.targets - truth_by_numpy(episodes.task, examples.inputs)
    np.testing.assert_allclose(noise.std(), 0.3, rtol=0.05)
    np.testing.assert_allclose(noise.mean(), 0.0, atol=0.015)


def test_the_query_may_be_the_function_itself():
  episodes = draw(50, query_noise_std=0.0)
  np.testing.assert_allclose(
    episodes.query.targets,
    truth_by_numpy(episodes.task, episodes.query.inputs),
    atol=1e-4,
  )
  noise = episodes.support.targets - truth_by_numpy(
    episodes.task, episodes.support.inputs
  )
  assert np.std(noise) > 0.2


def test_goodness_of_fit_is_that_of_numpys_least_squares():
  random = np.random.default_rng(0)
  inputs = np.sort(random.uniform(-5, 5, 60))
  functions = {
    'line': 2.0 * inputs - 1.0,
    'sinusoid': 3.0 * np.sin(inputs - 0.7),
    'neither': np.abs(inputs) + random.normal(size=60),
  }
  designs = (
    np.stack([inputs, np.ones(60)], axis=1),
    np.stack([np.sin(inputs), np.cos(inputs)], axis=1),
  )
  for name, outputs in functions.items():
    got = goodness_of_fit(jnp.float32(inputs), jnp.float32(outputs))
    for value, design in zip(got, designs, strict=True):
      weights = np.linalg.lstsq(design, outputs, rcond=None)[0]
      residual = outputs - design @ weights
      expected = 1 - np.sum(residual**2) / np.sum(
        (outputs - outputs.mean()) ** 2
      )
      np.testing.assert_allclose(value, expected, atol=1e-4)
    is_good = [bool(value > 0.95) for value in got]
    assert is_good == [name == 'line', name == 'sinusoid']


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'shots': 0}, 'shots: expected an integer >= 1, got 0'),
    ({'noise_std': -0.1}, 'noise_std: expected a number in .*, got -0.1'),
    ({'query_noise_std': float('nan')}, 'query_noise_std: expected'),
  ],
)
def test_what_cannot_be_is_said(settings, message):
  with pytest.raises(InputError, match=message):
    lines_and_sinusoids(**{'shots': 1, 'query_shots': 1} | settings)
