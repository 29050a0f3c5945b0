"""Scripted arms: they put an object into a container, or push one home."""

from typing import NamedTuple

import jax
from jax import Array
import jax.numpy as jnp

from metajax.demos.teachers.teacher import Teacher
from metajax.envs.environment import Env, EnvState
from metajax.envs.gripper_arm.control import POINT_DISTANCE_M

_GAIN_PER_S = 5.0
_TURN_GAIN_PER_S = 4.0
_SPEEDS = (0.3, 1.5)  # m/s and rad/s of an action of 1
_CARRY_HEIGHT_M = 0.13
_APPROACH_M = 0.06
_GRIP_DEPTH_M = 0.016
_CLOSE_STEPS = 4
_OPEN, _FIRM = -1.0, 1.0
ABOVE_OBJECT, DOWN, CLOSE, LIFT, ABOVE_CONTAINER, LOWER, RELEASE = range(7)


class View(NamedTuple):
  """What a placing environment's observation says, by name; m."""

  hand: Array  # [3], the tool point
  frame: Array  # [3, 3], its axes are the columns, the first along the fingers
  centre: Array  # [3], of the object
  side: Array  # [3], the object's axis that the fingers close along
  half_sizes: Array  # [3], of the object
  place: Array  # [3], of the target
  wall_height: Array  # [], of the target


def look(state: EnvState, num_joints: int) -> View:
  """Reads the observation of a placing environment.

  Args:
    state: the environment's state.
    num_joints: joints that carry the hand.

  Returns:
    The view.
  """
  seen = state.observation[2 * num_joints :]
  hand, frame = hand_pose(seen)
  container = seen[28:43].reshape(3, 5)[state.task.target]
  return View(
    hand=hand,
    frame=frame,
    centre=seen[16:19],
    side=seen[22:25],
    half_sizes=seen[25:28],
    place=jnp.concatenate([container[:2], jnp.zeros((1,))]),
    wall_height=2.0 * container[4],
  )


def hand_pose(seen: Array) -> tuple[Array, Array]:
  """Returns the tool point and the hand's axes, from what tells them.

  Args:
    seen: the observation behind the joints (`control.observe_hand`).

  Returns:
    [3] float32, m, and [3, 3] float32, the axes in the columns.
  """
  hand, first, second = seen[:9].reshape(3, 3)
  axes = [(x - hand) / POINT_DISTANCE_M for x in (first, second)]
  return hand, jnp.stack([*axes, jnp.cross(axes[0], axes[1])], axis=1)


def turn_towards(frame: Array, side: Array) -> Array:
  """Returns the rotation that points the fingers down and closes along `side`.

  Args:
    frame: [3, 3] float32, the hand's axes in the columns.
    side: [3] float32, the axis to close along.

  Returns:
    [3] float32, rad, for small angles.
  """
  down = jnp.array([0.0, 0.0, -1.0])
  level = side * jnp.array([1.0, 1.0, 0.0])
  level /= jnp.sqrt(jnp.sum(jnp.square(level)) + 1e-9)
  wanted = jnp.stack([down, level, jnp.cross(down, level)], axis=1)
  return 0.5 * jnp.sum(jnp.cross(frame, wanted, axis=0), axis=1)


def placing_teacher(env: Env, *, is_held: bool, noise: float = 0.0) -> Teacher:
  """Makes a teacher of placing or of pick-and-place with the gripper arm.

  It goes through the stages of the task by proportional velocities of the
  hand: above the object, down, close, lift, above the target, lower, release.

  Args:
    env: `metajax.envs.gripper_arm.placing.placing` or `pick_and_place`.
    is_held: whether the object is held at first.
    noise: standard deviation of what is added to the velocities, in units of
      the action.

  Returns:
    The teacher; its memory is the stage and the steps in it.
  """
  num_joints = (env.spec.observation_size - 43) // 2

  def first_memory(state: EnvState, key: Array) -> tuple[Array, Array]:
    del state, key
    stage = ABOVE_CONTAINER if is_held else ABOVE_OBJECT
    return jnp.asarray(stage, jnp.int32), jnp.zeros((), jnp.int32)

  def act(state: EnvState, memory: tuple[Array, Array], key: Array):
    stage, steps = memory
    view = look(state, num_joints)
    goal = _goals(view)[stage]
    error = goal - view.hand
    distance = jnp.sqrt(jnp.sum(jnp.square(error)) + 1e-12)
    beside = jnp.sqrt(jnp.sum(jnp.square(error[:2])) + 1e-12)
    is_carrying = stage >= LIFT
    side = jnp.where(is_carrying, jnp.array([0.0, 1.0, 0.0]), view.side)
    turn = turn_towards(view.frame, side)
    linear = _GAIN_PER_S * error / _SPEEDS[0]
    linear /= jnp.maximum(1.0, jnp.max(jnp.abs(linear)))
    velocity = jnp.concatenate([linear, _TURN_GAIN_PER_S * turn / _SPEEDS[1]])
    velocity += noise * jax.random.normal(key, (6,))
    is_closed = (stage >= CLOSE) & (stage < RELEASE)
    grip = jnp.where(is_closed, _FIRM, _OPEN)
    is_turned = jnp.max(jnp.abs(turn)) < 0.1
    is_done = jnp.stack(
      [
        (beside < 0.01) & (distance < 0.03) & is_turned,
        distance < 0.006,
        steps >= _CLOSE_STEPS,
        error[2] < 0.05,
        (beside < 0.015) & (distance < 0.03),
        (beside < 0.02) & (jnp.abs(error[2]) < 0.012),
        jnp.zeros((), bool),
      ]
    )[stage]
    memory = (
      stage + is_done.astype(jnp.int32),
      jnp.where(is_done, 0, steps + 1),
    )
    return jnp.clip(jnp.append(velocity, grip), -1.0, 1.0), memory

  return Teacher(name='placing_arm', first_memory=first_memory, act=act)


def _goals(view: View) -> Array:
  """Returns where the tool point goes in each stage, [7, 3] float32, m."""
  up = jnp.array([0.0, 0.0, 1.0])
  level = jnp.array([1.0, 1.0, 0.0])
  top = view.centre + (view.half_sizes[2] - _GRIP_DEPTH_M) * up
  # What is held may not be in the middle of the hand.
  over = view.place + level * (view.hand - view.centre)
  below = view.hand[2] - view.centre[2] + view.half_sizes[2]
  carry = _CARRY_HEIGHT_M * up
  lowered = over + (view.wall_height + 0.012 + below) * up
  return jnp.stack(
    [
      top + _APPROACH_M * up,
      top,
      top,
      view.hand * level + carry,
      over + carry,
      lowered,
      view.hand * level + carry,
    ]
  )
