"""A point that is steered to an unseen goal in the plane."""

import dataclasses
import math
from typing import NamedTuple

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp

from metajax.core.validation import check_choice, check_count, check_positive
from metajax.envs.environment import (
  Env,
  EnvSpec,
  EnvState,
  checked,
  first_state,
)

_REWARDS = ('neg_distance', 'neg_squared_distance')
# Half the side of the square that goals are drawn from.
_GOAL_LIMIT = 0.5
# The farthest that the point moves along each axis in one step.
_STEP_LIMIT = 0.1


@struct.dataclass
class NavigationTask:
  """Where to go."""

  goal: Array  # [2] float32, within [-0.5, 0.5]


class _Point(NamedTuple):
  position: Array  # [2] float32


def navigation(
  reward: str = 'neg_distance',
  horizon: int = 100,
  goal_radius: float = 0.01,
) -> Env:
  """Builds 2-D point navigation (Finn 2018, section 4.6.3; Finn 2017, 5.3).

  A point starts at the origin, sees its own position and never the goal.
  `x_{t+1} = x_t + clip(0.1 a_t, -0.1, 0.1)`, and the reward is
  `-||x_{t+1} - goal||`, of the position that the action led to. The text of
  the paper squares the distance; its published returns do not. The episode
  ends when the point is within `goal_radius` of the goal.

  A reset draws no noise: every episode of a task begins alike. Lengths have
  no physical unit.

  Args:
    reward: `neg_distance`, or `neg_squared_distance`.
    horizon: steps in an episode.
    goal_radius: distance to the goal at which the episode ends.

  Returns:
    The environment; its tasks are `NavigationTask`.

  Raises:
    InputError: if an argument is out of its range.
  """
  check_choice('reward', reward, _REWARDS)
  check_count('horizon', horizon)
  check_positive('goal_radius', goal_radius)

  def sample_task(key: Array) -> NavigationTask:
    return NavigationTask(
      goal=jax.random.uniform(
        key, (2,), minval=-_GOAL_LIMIT, maxval=_GOAL_LIMIT
      )
    )

  def reset(task: NavigationTask, key: Array) -> EnvState:
    del key  # nothing is random in a reset
    position = jnp.zeros((2,))
    return first_state(task, _Point(position=position), position)

  def step(state: EnvState, action: Array) -> EnvState:
    move = _STEP_LIMIT * jnp.clip(action, -1.0, 1.0)
    position = state.physics.position + move
    squared_distance = jnp.sum(jnp.square(position - state.task.goal))
    if reward == 'neg_distance':
      reward_t = -jnp.sqrt(squared_distance)
    else:
      reward_t = -squared_distance
    return dataclasses.replace(
      state,
      physics=_Point(position=position),
      observation=position,
      reward=reward_t,
      done=squared_distance < math.pow(goal_radius, 2),
    )

  env = Env(
    spec=EnvSpec(
      name='navigation',
      observation_size=2,
      action_size=2,
      horizon=horizon,
      control_period_s=0.0,
    ),
    sample_task=sample_task,
    reset=reset,
    step=step,
  )
  return checked(env)
