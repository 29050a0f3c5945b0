"""Every environment keeps the contract; the contract catches what breaks it."""

import jax
import jax.numpy as jnp
import pytest

from metajax.envs.locomotion.goals import half_cheetah
from metajax.envs.navigation import navigation
from metajax.testing.environments import (
  check_environment,
  check_stays_finite,
)


@pytest.mark.parametrize('reward', ['neg_distance', 'neg_squared_distance'])
def test_navigation_keeps_the_contract(reward):
  check_environment(navigation(reward), num_envs=8)


@pytest.mark.slow
@pytest.mark.parametrize('goal', ['velocity', 'direction'])
def test_half_cheetah_keeps_the_contract(goal):
  check_environment(half_cheetah(goal), num_envs=16)


def deaf(env):
  """Ignores its task."""

  def step(state, action):
    blank = jax.tree.map(jnp.zeros_like, state.task)
    return env.step(state.replace(task=blank), action).replace(task=state.task)

  return env._replace(step=step)


def misshapen(env):
  """Tells less than its spec says."""
  return env._replace(spec=env.spec._replace(observation_size=3))


def explosive(env):
  """Is not finite once it has moved far enough."""

  def step(state, action):
    state = env.step(state, action)
    has_left = jnp.abs(state.observation[0]) > 0.05
    return state.replace(reward=jnp.where(has_left, jnp.nan, state.reward))

  return env._replace(step=step)


def test_the_long_run_catches_what_explodes():
  check_stays_finite(navigation(), num_envs=4, num_steps=50)
  with pytest.raises(AssertionError, match='navigation: not finite at step'):
    check_stays_finite(explosive(navigation()), num_envs=4, num_steps=50)


@pytest.mark.parametrize(
  ('break_it', 'message'),
  [
    (deaf, 'changes no observation'),
    (misshapen, 'observations: expected'),
    (explosive, 'reward: not finite'),
  ],
)
def test_the_contract_catches_a_broken_environment(break_it, message):
  with pytest.raises(AssertionError, match=message):
    check_environment(break_it(navigation()), num_envs=4)
