"""The Sawyer's pushing and door opening of guided meta-policy search."""

from collections.abc import Mapping
import dataclasses

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from metajax.envs.appearance import Appearance
from metajax.envs.environment import Env
from metajax.envs.sawyer.hand import (
  Layout,
  Reading,
  mechanism_point,
  sawyer_in,
)
from metajax.envs.sawyer.splits import TRAINING, object_painter
from metajax.envs.sawyer.tabletop import Rules, tabletop

# Pushing.
_BLOCK = (0.0, 0.52, 0.02)
_PUSH_HAND = (0.0, 0.42, 0.05)
_GOAL_LOW, _GOAL_HIGH = (-0.1, 0.7), (0.1, 0.8)
_PUSH_SUCCESS_M = 0.03
# The door: its handle stands at (0, 0.92, 0.14) when it is closed.
_DOOR = (-0.25, 1.0, 0.0)
_DOOR_HAND = (0.0, 0.75, 0.2)
_MAX_ANGLE_RAD = np.pi / 3
_HANDLE_REACH_M = 0.1
_DOOR_SUCCESS_RAD = np.deg2rad(8.0)


@struct.dataclass
class PushGoal:
  """Where the block is to be pushed."""

  goal: Array  # [2] float32, m, x and y
  appearance: Appearance  # colours of the block; nothing simulated
  # Arrays of the model by name, of this task alone; {}: the model as it is.
  model_fields: Mapping[str, Array] = dataclasses.field(default_factory=dict)


@struct.dataclass
class DoorAngle:
  """How far the door is to be opened."""

  angle: Array  # [] float32, rad
  appearance: Appearance  # colours of the door; nothing simulated
  # Arrays of the model by name, of this task alone; {}: the model as it is.
  model_fields: Mapping[str, Array] = dataclasses.field(default_factory=dict)


def guided_push(horizon: int = 50, *, physics: str = 'mjx') -> Env:
  """Builds pushing to a hidden goal (Mendonca et al. 2019, appendix).

  With the tips at `x_f`, the block at `x_b` and the goal `g`, m:

    `r = -||x_b - x_f|| + 100 max(0, c - ||g - x_b||_xy)`

  where `c` is the distance of block and goal in the plane after the reset.
  The printed second term has the pusher for the block and an absolute value;
  this one is of the authors' code. The block starts at (0, 0.52),
  `g ~ U([-0.1, 0.1] x [0.7, 0.8])`. Success: within 3 cm of the goal.

  The observation [6] is hand and block (m each), nothing of the goal. The
  action [3] moves the hand's setpoint by up to 1 cm; the fingers stay closed.
  A control step is 12.5 ms; an episode never ends before its horizon.

  The block is a cube of 4 cm; hand and arm: `sawyer_in`.

  Args:
    horizon: control steps in an episode.
    physics: name of the engine, `mjx` or `c`.

  Returns:
    The environment; its tasks are `PushGoal`. Its metrics: `success`,
    `object_to_goal_m`, `hand_to_object_m`.

  Raises:
    InputError: if an argument is out of its range.
  """
  sawyer = sawyer_in('cube', physics)
  paint = object_painter(sawyer.world.model, TRAINING)

  def sample_task(key: Array) -> PushGoal:
    goal_key, colour_key = jax.random.split(key)
    low, high = jnp.array(_GOAL_LOW), jnp.array(_GOAL_HIGH)
    return PushGoal(
      goal=jax.random.uniform(goal_key, (2,), minval=low, maxval=high),
      appearance=paint(colour_key),
    )

  def layout(task: PushGoal, key: Array) -> Layout:
    del key  # Every episode begins alike.
    return Layout(
      hand=jnp.array(_PUSH_HAND),
      fixture=jnp.array(_BLOCK),
      object=jnp.array(_BLOCK),
      goal=jnp.append(task.goal, _BLOCK[2]),
    )

  def distance(task: PushGoal, reading: Reading) -> Array:
    return jnp.linalg.norm(reading.object[:2] - task.goal)

  def judge(
    task: PushGoal, reading: Reading, first_distance: Array
  ) -> tuple[Array, Mapping[str, Array]]:
    to_goal = distance(task, reading)
    to_object = jnp.linalg.norm(reading.object - reading.tool)
    progress = jnp.maximum(0.0, first_distance - to_goal)
    return -to_object + 100.0 * progress, {
      'success': (to_goal <= _PUSH_SUCCESS_M).astype(jnp.float32),
      'object_to_goal_m': to_goal,
      'hand_to_object_m': to_object,
    }

  rules = Rules(sample_task, layout, _observe, judge, first_record=distance)
  return tabletop(
    'guided_push',
    sawyer,
    rules,
    observation_size=6,
    horizon=horizon,
    hide_goal=True,
    is_closed=True,
  )


def guided_door(horizon: int = 100, *, physics: str = 'mjx') -> Env:
  """Builds opening a door to a hidden angle (Mendonca et al. 2019, appendix).

  With the door's angle `x` and the target `x*`, rad:

    `r = max(0, 10 x)` for `x <= x*`, `max(0, 10 (2 x* - x))` beyond,

  and 0 while the finger tips are 10 cm or more from the handle.
  `x* ~ U[0, 60]` degrees. The door is hinged at (-0.25, 1), its handle at
  (0, 0.92, 0.14) at first. Success: within 8 degrees of the target while the
  tips are at the handle.

  The observation [6] is hand and handle (m each), nothing of the target. The
  action [4] moves the hand's setpoint by up to 1 cm in x, y, z and closes (1)
  or opens (-1) the gripper. A control step is 12.5 ms; an episode never ends
  before its horizon.

  The door stands on the table (the paper's hangs at z = 0.3 m); hand and arm:
  `sawyer_in`.

  Args:
    horizon: control steps in an episode.
    physics: name of the engine, `mjx` or `c`.

  Returns:
    The environment; its tasks are `DoorAngle`. Its metrics: `success`,
    `angle_error_rad`, `hand_to_object_m`.

  Raises:
    InputError: if an argument is out of its range.
  """
  sawyer = sawyer_in('door', physics)
  paint = object_painter(sawyer.world.model, TRAINING)
  closed = mechanism_point(sawyer.world.model, 0.0)

  def handle_at(angle: Array) -> Array:
    """Turns the closed door's handle about -z through the hinge."""
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    x, y, z = (float(c) for c in closed)
    turned = jnp.stack([cos * x + sin * y, -sin * x + cos * y, z + 0.0 * cos])
    return jnp.array(_DOOR) + turned

  def sample_task(key: Array) -> DoorAngle:
    angle_key, colour_key = jax.random.split(key)
    return DoorAngle(
      angle=jax.random.uniform(angle_key, maxval=_MAX_ANGLE_RAD),
      appearance=paint(colour_key),
    )

  def layout(task: DoorAngle, key: Array) -> Layout:
    del key  # Every episode begins alike.
    return Layout(
      hand=jnp.array(_DOOR_HAND),
      fixture=jnp.array(_DOOR),
      object=jnp.array(_DOOR),
      goal=handle_at(task.angle),
    )

  def judge(
    task: DoorAngle, reading: Reading, record: tuple[()]
  ) -> tuple[Array, Mapping[str, Array]]:
    del record
    angle = reading.joint
    to_handle = jnp.linalg.norm(reading.tool - reading.grasp)
    is_near = to_handle < _HANDLE_REACH_M
    reward = jnp.where(
      angle <= task.angle, 10.0 * angle, 10.0 * (2.0 * task.angle - angle)
    )
    error = jnp.abs(angle - task.angle)
    success = is_near & (error <= _DOOR_SUCCESS_RAD)
    return jnp.where(is_near, jnp.maximum(0.0, reward), 0.0), {
      'success': success.astype(jnp.float32),
      'angle_error_rad': error,
      'hand_to_object_m': to_handle,
    }

  rules = Rules(sample_task, layout, _observe, judge)
  return tabletop(
    'guided_door',
    sawyer,
    rules,
    observation_size=6,
    horizon=horizon,
    hide_goal=True,
  )


def _observe(
  task: PushGoal | DoorAngle, before: Reading, now: Reading
) -> Array:
  """Returns hand and object; the goal is not told."""
  del task, before
  return jnp.concatenate([now.hand, now.grasp])
