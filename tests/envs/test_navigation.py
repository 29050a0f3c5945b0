"""Navigation's dynamics, rewards and end, from its published definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.core.validation import InputError
from metajax.envs.navigation import NavigationTask, navigation
from metajax.envs.rollout import episode_return, rollout


def task_at(x, y):
  return NavigationTask(goal=jnp.array([x, y]))


@pytest.mark.parametrize(
  ('reward', 'expected'),
  [('neg_distance', -0.5), ('neg_squared_distance', -0.25)],
)
def test_reward_is_of_the_new_position(reward, expected):
  env = navigation(reward)
  state = env.reset(task_at(0.4, 0.4), jax.random.key(0))
  state = env.step(state, jnp.array([1.0, 0.0]))
  np.testing.assert_allclose(state.observation, [0.1, 0.0], rtol=1e-6)
  np.testing.assert_allclose(state.reward, expected, rtol=1e-6)
  assert not state.done


def test_actions_are_rescaled_then_clipped():
  env = navigation()
  state = env.reset(task_at(0.5, 0.5), jax.random.key(0))
  state = env.step(state, jnp.array([0.5, -7.0]))
  np.testing.assert_allclose(state.observation, [0.05, -0.1], rtol=1e-6)


@pytest.mark.parametrize(
  ('distance', 'ends'), [(0.0099, True), (0.0101, False)]
)
def test_ends_inside_the_goal_circle(distance, ends):
  env = navigation()
  diagonal = distance / np.sqrt(2)
  state = env.reset(task_at(0.1 + diagonal, diagonal), jax.random.key(0))
  assert bool(env.step(state, jnp.array([1.0, 0.0])).done) == ends


def test_goals_fill_the_square():
  keys = jax.random.split(jax.random.key(0), 4000)
  goals = jax.vmap(navigation().sample_task)(keys).goal
  assert jnp.max(jnp.abs(goals)) <= 0.5
  np.testing.assert_allclose(jnp.mean(goals, axis=0), 0.0, atol=0.02)
  # The variance of a uniform number on an interval of length 1.
  np.testing.assert_allclose(jnp.var(goals, axis=0), 1 / 12, rtol=0.05)


def test_standing_still_returns_the_published_value():
  """Sheet of the paper: about -38.3 and -16.7 over 100 steps at the origin."""
  seeds = jnp.arange(2000)
  for reward, expected in (
    ('neg_distance', -38.3),
    ('neg_squared_distance', -16.7),
  ):
    env = navigation(reward)

    def stand(seed, env=env):
      task_key, key = jax.random.split(jax.random.key(seed))
      return rollout(
        env,
        lambda observation, memory, key: (jnp.zeros((2,)), memory),
        env.sample_task(task_key),
        key,
      )

    mean = jnp.mean(episode_return(jax.vmap(stand)(seeds)))
    np.testing.assert_allclose(mean, expected, rtol=0.02)


@pytest.mark.parametrize(
  'arguments',
  [{'reward': 'distance'}, {'horizon': 0}, {'goal_radius': -0.01}],
)
def test_bad_arguments_are_named(arguments):
  with pytest.raises(InputError, match=next(iter(arguments))):
    navigation(**arguments)
