"""A scripted arm that pushes the right object to the left gripper."""

from typing import NamedTuple

import jax
from jax import Array
import jax.numpy as jnp

from metajax.demos.teachers.placing import hand_pose, turn_towards
from metajax.demos.teachers.teacher import Teacher
from metajax.envs.environment import Env, EnvState

_GAIN_PER_S = 5.0
_TURN_GAIN_PER_S = 4.0
_SPEEDS = (0.3, 1.5)  # m/s and rad/s of an action of 1
_PUSH_SPEED = 0.5  # of the hand's, so that it can correct
# How far behind the object it comes down, how low, how far it pushes.
_BEHIND_M = 0.055
_CLEAR_M = 0.1
_HEIGHT_M = 0.022
_BEYOND_M = 0.02
_FIRM = 1.0


class ObjectView(NamedTuple):
  """What a pushing environment's observation says, by name; m."""

  hand: Array  # [3], the tool point
  frame: Array  # [3, 3], its axes are the columns, the first along the fingers
  line: Array  # [], where the left finger is along y
  centre: Array  # [3], of the target
  half_sizes: Array  # [3], of the target


def look_at_objects(state: EnvState, num_joints: int) -> ObjectView:
  """Reads the observation of a pushing environment.

  Args:
    state: the environment's state.
    num_joints: joints that carry the hand.

  Returns:
    The view.
  """
  seen = state.observation[2 * num_joints :]
  hand, frame = hand_pose(seen)
  target = seen[17:41].reshape(2, 12)[state.task.target]
  return ObjectView(
    hand=hand,
    frame=frame,
    line=seen[16],
    centre=target[:3],
    half_sizes=target[9:],
  )


def push_goals(view: ObjectView) -> tuple[Array, Array, Array]:
  """Returns where the tool point goes: behind the object, down, and home.

  Args:
    view: of the moment.

  Returns:
    Three times [3] float32, m.
  """
  start = view.centre[1] - view.half_sizes[1] - _BEHIND_M
  end = view.line - _BEYOND_M - view.half_sizes[1]
  x, low = view.centre[0], jnp.asarray(_HEIGHT_M)
  return (
    jnp.stack([x, start, jnp.asarray(_CLEAR_M)]),
    jnp.stack([x, start, low]),
    jnp.stack([x, end, low]),
  )


def pushing_teacher(env: Env, *, noise: float = 0.0) -> Teacher:
  """Makes a teacher of pushing with the gripper arm.

  Above the table behind the object, down, and along until the object is home,
  always behind its middle.

  Args:
    env: `metajax.envs.gripper_arm.pushing.gripper_pushing`.
    noise: standard deviation of what is added to the velocities, in units of
      the action.

  Returns:
    The teacher; its memory is the stage, [] int32.
  """
  num_joints = (env.spec.observation_size - 41) // 2

  def first_memory(state: EnvState, key: Array) -> Array:
    del state, key
    return jnp.zeros((), jnp.int32)

  def act(state: EnvState, stage: Array, key: Array) -> tuple[Array, Array]:
    view = look_at_objects(state, num_joints)
    error = jnp.stack(push_goals(view))[stage] - view.hand
    distance = jnp.sqrt(jnp.sum(jnp.square(error)) + 1e-12)
    fastest = jnp.where(stage == 2, _PUSH_SPEED, 1.0)
    linear = _GAIN_PER_S * error / _SPEEDS[0]
    linear *= jnp.minimum(
      1.0, fastest / jnp.maximum(jnp.max(jnp.abs(linear)), 1e-6)
    )
    turn = turn_towards(view.frame, jnp.array([0.0, 1.0, 0.0]))
    velocity = jnp.concatenate([linear, _TURN_GAIN_PER_S * turn / _SPEEDS[1]])
    velocity += noise * jax.random.normal(key, (6,))
    action = jnp.clip(jnp.append(velocity, _FIRM), -1.0, 1.0)
    is_there = (distance < 0.012) & (stage < 2)
    return action, stage + is_there.astype(jnp.int32)

  return Teacher(name='pushing_arm', first_memory=first_memory, act=act)
