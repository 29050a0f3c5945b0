"""Controllers for reaching, and for the planar scenes: in, and turn the key."""

from jax import Array
import jax.numpy as jnp
import numpy as np

from metajax.core.learner import PyTree
from metajax.demos.teachers.teacher import Teacher
from metajax.envs.environment import EnvState
from metajax.envs.planar.arm import CONTROL_PERIOD_S, MAX_VELOCITY, direction
from metajax.envs.planar.key import GOAL_ANGLE_RAD
from metajax.envs.reach3d import MAX_SPEED_M_PER_S

_AHEAD_M = 0.04  # of the entry, where the effector lines up
_LINED_UP_M = 0.004
_LINED_UP_RAD = 0.06
_PUSH_M = 0.02  # past the goal, so that contact does not stop it short
_SHARE = 0.8  # of an error that one control step is to take away


def reach_teacher() -> Teacher:
  """Goes straight to the goal of `reach2d`."""

  def act(state: EnvState, memory: PyTree, key: Array):
    del key
    wanted = jnp.concatenate([state.task.goal, state.physics.qpos[2:3]])
    return _towards(state, wanted), memory

  return Teacher('reach2d', _no_memory, act)


def reach3d_teacher() -> Teacher:
  """Goes straight to the goal of `reach3d`."""

  def act(state: EnvState, memory: PyTree, key: Array):
    del key
    error = state.task.goal - state.physics.qpos
    velocity = _SHARE * error / CONTROL_PERIOD_S
    return jnp.clip(velocity / MAX_SPEED_M_PER_S, -1.0, 1.0), memory

  return Teacher('reach3d', _no_memory, act)


def insertion_teacher() -> Teacher:
  """Lines up before the entry, then goes in; for `peg2d`, `stick2d`.

  While it is not inside, and too far beside the way in or turned too far, it
  stays 40 mm before the entry.
  """

  def act(state: EnvState, memory: PyTree, key: Array):
    del key
    return _towards(state, _way_in(state)), memory

  return Teacher('planar_insertion', _no_memory, act)


def key_teacher() -> Teacher:
  """Goes into the socket of `key2d`, then turns with it."""

  def act(state: EnvState, memory: PyTree, key: Array):
    del key
    task, qpos = state.task, state.physics.qpos
    angle = task.goal[2] if task.goal.shape[0] > 2 else GOAL_ANGLE_RAD
    # The effector is up to 0.1 rad ahead of the socket that it turns, so the
    # socket's own angle is what counts.
    turned = qpos[2] + (angle - qpos[5]) + _LINED_UP_RAD
    is_in = state.metrics['goal_distance_m'] < 0.015
    turning = jnp.concatenate(
      [task.goal[:2] + _PUSH_M / 4 * direction(qpos[5]), turned[None]]
    )
    return _towards(state, jnp.where(is_in, turning, _way_in(state))), memory

  return Teacher('key2d', _no_memory, act)


def _no_memory(state: EnvState, key: Array) -> PyTree:
  del state, key
  return ()


def _way_in(state: EnvState) -> Array:
  """Returns the pose [3] to go to next on the way from outside to the goal."""
  entry, goal = state.task.entry, state.task.goal[:2]
  tip, angle = state.physics.qpos[:2], state.physics.qpos[2]
  way = (goal - entry) / jnp.linalg.norm(goal - entry)
  along = jnp.dot(tip - entry, way)
  across = way[0] * (tip - entry)[1] - way[1] * (tip - entry)[0]
  upright = jnp.arctan2(way[1], way[0])
  is_off = (jnp.abs(across) > _LINED_UP_M) | (
    jnp.abs(angle - upright) > _LINED_UP_RAD
  )
  waits = is_off & (along < 0.0)
  target = jnp.where(waits, entry - _AHEAD_M * way, goal + _PUSH_M * way)
  # No farther ahead than a step goes, so that what is wrong beside counts.
  step_m = CONTROL_PERIOD_S * MAX_VELOCITY[0]
  ahead = jnp.clip(
    jnp.dot(target - tip, way), -step_m / _SHARE, step_m / _SHARE
  )
  position = tip + ahead * way + across * jnp.stack([way[1], -way[0]])
  return jnp.concatenate([position, upright[None]])


def _towards(state: EnvState, pose: Array) -> Array:
  """Returns the action [3] that takes most of the way to a pose in one step.

  Where that is too far the tip is slower, but keeps its direction.
  """
  error = pose - state.physics.qpos[:3]
  velocity = _SHARE * error / CONTROL_PERIOD_S
  action = velocity / np.asarray(MAX_VELOCITY, np.float32)
  straight = action[:2] / jnp.maximum(jnp.max(jnp.abs(action[:2])), 1.0)
  return jnp.concatenate([straight, jnp.clip(action[2:], -1.0, 1.0)])
