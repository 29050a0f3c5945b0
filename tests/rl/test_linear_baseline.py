"""The linear baseline against its formula in float64."""

import jax.numpy as jnp
import numpy as np
import pytest

from metajax.rl.linear_baseline import features, fit_predict


def problem(observation_size, num_episodes=6, length=50):
  generator = np.random.default_rng(0)
  size = num_episodes * length
  times = np.tile(np.arange(length), num_episodes)
  observations = generator.normal(size=(size, observation_size))
  returns = (
    -0.3 * (length - times)
    + 2.0 * observations[:, 0]
    + generator.normal(size=size)
  )
  return observations, times, returns, np.ones(size, bool)


def predict(observations, times, returns, valid):
  return np.asarray(
    fit_predict(
      jnp.asarray(observations, jnp.float32),
      jnp.asarray(times, jnp.int32),
      jnp.asarray(returns, jnp.float32),
      jnp.asarray(valid),
    )
  )


def float64_features(observations, times):
  clipped = np.clip(observations, -10.0, 10.0)
  tau = times[:, None] / 100.0
  return np.concatenate(
    [clipped, clipped**2, tau, tau**2, tau**3, np.ones_like(tau)], axis=-1
  )


def least_squares(observations, times, returns):
  """Returns V of the formula, by its normal equations in float64."""
  psi = float64_features(observations, times)
  gram = psi.T @ psi + 1e-5 * np.eye(psi.shape[1])
  return psi @ np.linalg.solve(gram, psi.T @ returns)


def check_close(got, expected):
  assert np.max(np.abs(got - expected)) <= 1e-5 * np.max(np.abs(expected))


def test_features():
  observations = np.array([[0.5, -20.0], [3.0, 4.0]])
  times = np.array([0, 50])
  np.testing.assert_allclose(
    features(jnp.asarray(observations, jnp.float32), jnp.asarray(times)),
    [
      [0.5, -10.0, 0.25, 100.0, 0.0, 0.0, 0.0, 1.0],
      [3.0, 4.0, 9.0, 16.0, 0.5, 0.25, 0.125, 1.0],
    ],
    rtol=1e-6,
  )


@pytest.mark.parametrize('observation_size', [1, 2, 20])
def test_the_fit_is_that_of_least_squares(observation_size):
  observations, times, returns, valid = problem(observation_size)
  check_close(
    predict(observations, times, returns, valid),
    least_squares(observations, times, returns),
  )


def test_observations_of_very_unlike_size():
  observations, times, returns, valid = problem(2)
  observations = observations * np.array([1e-3, 5.0])
  check_close(
    predict(observations, times, returns, valid),
    least_squares(observations, times, returns),
  )


def test_columns_of_zeros():
  observations, times, returns, valid = problem(2)
  observations[:, 1] = 0.0
  check_close(
    predict(observations, times, returns, valid),
    least_squares(observations, times, returns),
  )


def test_equal_columns():
  observations, times, returns, valid = problem(1)
  twice = np.repeat(observations, 2, axis=1)
  check_close(
    predict(twice, times, returns, valid),
    least_squares(observations, times, returns),
  )


def test_steps_that_are_not_valid_have_no_weight():
  observations, times, returns, valid = problem(2)
  valid[::3] = False
  returns[::3] = np.nan
  observations[::3] = 7.0
  got = predict(observations, times, returns, valid)
  expected = least_squares(observations[valid], times[valid], returns[valid])
  check_close(got[valid], expected)
  np.testing.assert_array_equal(got[~valid], 0.0)


@pytest.mark.parametrize('fill', [0.0, 3.0])
def test_nothing_valid_predicts_zero(fill):
  observations, times, returns, valid = problem(2)
  np.testing.assert_array_equal(
    predict(np.full_like(observations, fill), times, returns, ~valid), 0.0
  )


def test_fewer_steps_than_columns():
  observations, times, returns, valid = (x[:3] for x in problem(5))
  check_close(predict(observations, times, returns, valid), returns)


def test_along_a_straight_path():
  """Position and time are nearly collinear there, as where a policy drifts."""
  generator = np.random.default_rng(0)
  moves = np.clip(
    np.array([0.1, 0.05]) + 0.05 * generator.normal(size=(20, 100, 2)),
    -0.1,
    0.1,
  )
  paths = np.cumsum(moves, axis=1)
  distances = np.linalg.norm(paths - np.array([-0.3, 0.4]), axis=-1)
  returns = np.zeros_like(distances)
  later = np.zeros(20)
  for t in reversed(range(100)):
    later = returns[:, t] = -distances[:, t] + 0.99 * later
  observations = (paths - moves).reshape(-1, 2)
  times, returns = np.tile(np.arange(100), 20), returns.reshape(-1)
  got = predict(observations, times, returns, np.ones(2000, bool))
  expected = least_squares(observations, times, returns)
  # What is left over is a few units; normal equations in float32 err by 0.4.
  assert np.sqrt(np.mean((got - expected) ** 2)) < 1e-3
