"""Planners on problems whose best plan is known, and returns by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.core.validation import InputError
from metajax.rl.planning import cross_entropy, model_returns, random_shooting

TARGET = jnp.array([[0.5, -0.3], [-1.2, 0.1], [0.0, 1.9]])
SHOOTING = dict(num_sequences=500, horizon=3, action_size=2, action_limit=2.0)
SEARCH = dict(
  num_sequences=60,
  num_elites=8,
  num_iterations=15,
  action_limit=2.0,
  min_std=0.0,
)


def closeness(sequences, target=TARGET):
  """A quadratic whose curvature differs between the elements."""
  weights = jnp.linspace(0.5, 2.0, target.size).reshape(target.shape)
  return -jnp.sum(weights[None] * (sequences - target[None]) ** 2, axis=(1, 2))


def test_random_shooting_nears_the_optimum_of_a_quadratic():
  target = TARGET[:1]
  plan = random_shooting(
    lambda sequences: closeness(sequences, target),
    jax.random.key(0),
    num_sequences=20_000,
    horizon=1,
    action_size=2,
    action_limit=2.0,
  )
  assert plan.shape == (1, 2)
  # 20 000 points in a square of area 16: the nearest is some 0.02 away.
  np.testing.assert_allclose(plan, target, atol=0.06)


def test_random_shooting_returns_the_best_that_it_tried():
  tried = []

  def score(sequences):
    tried.append(sequences)
    return closeness(sequences)

  plan = random_shooting(score, jax.random.key(1), **SHOOTING)
  (sequences,) = map(np.asarray, tried)
  np.testing.assert_array_equal(
    plan, sequences[np.argmax(np.asarray(closeness(sequences)))]
  )
  # They fill the whole box, each element alike.
  assert sequences.shape == (500, 3, 2)
  assert np.max(np.abs(sequences)) <= 2.0
  np.testing.assert_allclose(sequences.mean(axis=0), 0.0, atol=0.2)
  np.testing.assert_allclose(sequences.std(axis=0), 2 / np.sqrt(3), atol=0.1)


def test_a_score_that_is_no_number_is_never_chosen():
  def score(sequences):
    scores = closeness(sequences)
    return jnp.where(jnp.arange(scores.size) == 7, scores, jnp.nan)

  tried = []
  random_shooting(
    lambda sequences: tried.append(sequences) or closeness(sequences),
    jax.random.key(1),
    **SHOOTING,
  )
  plan = random_shooting(score, jax.random.key(1), **SHOOTING)
  np.testing.assert_array_equal(plan, tried[0][7])

  def score_half(sequences):
    return jnp.where(sequences[:, 0, 0] > 1.0, jnp.nan, sequences[:, 0, 0])

  mean, _ = cross_entropy(
    score_half, jax.random.key(2), TARGET, jnp.ones((3, 2)), **SEARCH
  )
  assert 0.9 < mean[0, 0] <= 1.0


def test_cross_entropy_finds_the_optimum_of_a_quadratic():
  mean, std = cross_entropy(
    closeness, jax.random.key(0), jnp.zeros((3, 2)), jnp.ones((3, 2)), **SEARCH
  )
  np.testing.assert_allclose(mean, TARGET, atol=0.05)
  assert (std < 0.1).all()


def test_cross_entropy_stays_in_the_box():
  mean, _ = cross_entropy(
    lambda sequences: closeness(sequences, 3.0 * TARGET),
    jax.random.key(0),
    jnp.zeros((3, 2)),
    jnp.ones((3, 2)),
    **SEARCH,
  )
  np.testing.assert_allclose(mean, jnp.clip(3.0 * TARGET, -2, 2), atol=0.1)


def test_one_iteration_of_cross_entropy_by_hand():
  tried = []

  def score(sequences):
    tried.append(sequences)
    return closeness(sequences)

  start = jnp.full((3, 2), 0.2)
  with jax.disable_jit():
    mean, std = cross_entropy(
      score,
      jax.random.key(0),
      start,
      jnp.full((3, 2), 0.7),
      **{**SEARCH, 'num_iterations': 1, 'min_std': 0.05},
    )
  (sequences,) = map(np.asarray, tried)
  np.testing.assert_array_equal(sequences[0], start)
  np.testing.assert_allclose(sequences.std(), 0.7, atol=0.1)
  elites = sequences[np.argsort(-np.asarray(closeness(sequences)))[:8]]
  np.testing.assert_allclose(mean, elites.mean(axis=0), rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(std, elites.std(axis=0) + 0.05, rtol=1e-5)


@pytest.mark.parametrize(
  'settings', [{'num_elites': 61}, {'num_iterations': 0}, {'action_limit': 0.0}]
)
def test_wrong_settings_of_cross_entropy_are_named(settings):
  with pytest.raises(InputError, match=next(iter(settings))):
    cross_entropy(
      closeness,
      jax.random.key(0),
      TARGET,
      jnp.ones((3, 2)),
      **{**SEARCH, **settings},
    )


def test_wrong_settings_of_random_shooting_are_named():
  for name in SHOOTING:
    with pytest.raises(InputError, match=name):
      random_shooting(closeness, jax.random.key(0), **{**SHOOTING, name: 0})


MATRIX = jnp.array([[0.9, 0.2], [-0.1, 0.8]])


def predict(adapted, carry, observations, actions):
  """A linear model with a bias that grows with the steps it has made."""
  following = observations @ adapted.T + jnp.tile(actions, 2) + carry['bias']
  return following, {'bias': carry['bias'] + 0.1}


def reward(observation, action, next_observation):
  gained = next_observation[0] - observation[0]
  return gained - 0.5 * action[0] ** 2 + 0.1 * observation[1]


def test_returns_by_hand():
  generator = np.random.default_rng(0)
  sequences = generator.uniform(-1, 1, size=(5, 4, 1))
  observation, bias = np.array([1.0, -2.0]), np.array([0.3, 0.5])
  expected = []
  for sequence in sequences:
    state, carry, total = observation, bias, 0.0
    for action in sequence:
      following = np.asarray(MATRIX) @ state + action + carry
      total += following[0] - state[0] - 0.5 * action[0] ** 2 + 0.1 * state[1]
      state, carry = following, carry + 0.1
    expected.append(total)
  got = model_returns(
    predict,
    reward,
    MATRIX,
    {'bias': jnp.asarray(bias, jnp.float32)},
    jnp.asarray(observation, jnp.float32),
    jnp.asarray(sequences, jnp.float32),
  )
  np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.parametrize('where', ['observation', 'reward'])
@pytest.mark.parametrize('value', [jnp.nan, jnp.inf, -jnp.inf])
def test_a_rollout_that_is_not_finite_earns_minus_infinity(where, value):
  """Though it may be finite again afterwards."""

  def bursting(adapted, time, observations, actions):
    del adapted
    bursts = (time == 1) & (actions[:, 0] > 0.5) & (where == 'observation')
    following = jnp.where(bursts[:, None], value, 0.1 * jnp.ones((3, 2)))
    return following, time + 1

  def some_reward(observation, action, next_observation):
    del observation, next_observation
    bursts = (action[0] > 0.5) & (where == 'reward')
    return jnp.where(bursts, value, 1.0)

  sequences = jnp.zeros((3, 4, 1)).at[1, 1, 0].set(1.0)
  got = model_returns(
    bursting,
    some_reward,
    (),
    jnp.zeros((), jnp.int32),
    jnp.zeros((2,)),
    sequences,
  )
  np.testing.assert_array_equal(got, [4.0, -jnp.inf, 4.0])
