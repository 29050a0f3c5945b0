"""The Sawyer's pushing and door opening of guided meta-policy search."""

from collections.abc import Mapping
import dataclasses

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from metajax.core.validation import check_count
from metajax.envs.appearance import Appearance, painted, plain
from metajax.envs.environment import (
  Env,
  EnvSpec,
  EnvState,
  checked,
  first_state,
)
from metajax.envs.sawyer.hand import (
  NUM_SUBSTEPS,
  Layout,
  Reading,
  Sawyer,
  SawyerMemory,
  marker_at,
  mechanism_point,
  sawyer_in,
)

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
_SEEDS = (1, 10_000)


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
  check_count('horizon', horizon)
  sawyer = sawyer_in('cube', physics)

  def sample_task(key: Array) -> PushGoal:
    goal_key, colour_key = jax.random.split(key)
    return PushGoal(
      goal=jax.random.uniform(
        goal_key,
        (2,),
        minval=jnp.array(_GOAL_LOW),
        maxval=jnp.array(_GOAL_HIGH),
      ),
      appearance=_painted_object(sawyer, colour_key),
    )

  def distances(reading: Reading, goal: Array) -> tuple[Array, Array]:
    return (
      jnp.linalg.norm(reading.object[:2] - goal),
      jnp.linalg.norm(reading.object - reading.tool),
    )

  def metrics_of(to_goal: Array, to_object: Array) -> Mapping[str, Array]:
    return {
      'success': (to_goal <= _PUSH_SUCCESS_M).astype(jnp.float32),
      'object_to_goal_m': to_goal,
      'hand_to_object_m': to_object,
    }

  def reset(task: PushGoal, key: Array) -> EnvState:
    del key  # Every episode begins alike.
    goal = jnp.append(task.goal, _BLOCK[2])
    state, memory = _begin(
      sawyer, task, _PUSH_HAND, jnp.array(_BLOCK), goal, opening=0.0
    )
    to_goal, to_object = distances(memory.reading, task.goal)
    return first_state(
      task,
      state,
      _observe(memory.reading),
      metrics_of(to_goal, to_object),
      dataclasses.replace(memory, first_distance=to_goal),
    )

  def step(state: EnvState, action: Array) -> EnvState:
    physics_state, memory = _advance(sawyer, state, jnp.append(action, 1.0))
    to_goal, to_object = distances(memory.reading, state.task.goal)
    progress = jnp.maximum(0.0, memory.first_distance - to_goal)
    return dataclasses.replace(
      state,
      physics=physics_state,
      observation=_observe(memory.reading),
      reward=-to_object + 100.0 * progress,
      metrics=metrics_of(to_goal, to_object),
      memory=memory,
    )

  return _finish('guided_push', 3, horizon, sawyer, sample_task, reset, step)


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
  check_count('horizon', horizon)
  sawyer = sawyer_in('door', physics)
  model = sawyer.world.model
  closed = mechanism_point(model, 0.0)

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
      appearance=_painted_object(sawyer, colour_key),
    )

  def judge(
    task: DoorAngle, angle: Array, reading: Reading
  ) -> tuple[Array, Mapping[str, Array]]:
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

  def reset(task: DoorAngle, key: Array) -> EnvState:
    del key  # Every episode begins alike.
    state, memory = _begin(
      sawyer, task, _DOOR_HAND, jnp.array(_DOOR), handle_at(task.angle)
    )
    metrics = judge(task, state.qpos[-1], memory.reading)[1]
    return first_state(task, state, _observe(memory.reading), metrics, memory)

  def step(state: EnvState, action: Array) -> EnvState:
    physics_state, memory = _advance(sawyer, state, action)
    reward, metrics = judge(state.task, physics_state.qpos[-1], memory.reading)
    return dataclasses.replace(
      state,
      physics=physics_state,
      observation=_observe(memory.reading),
      reward=reward,
      metrics=metrics,
      memory=memory,
    )

  return _finish('guided_door', 4, horizon, sawyer, sample_task, reset, step)


def _begin(
  sawyer: Sawyer,
  task: PushGoal | DoorAngle,
  hand: tuple[float, float, float],
  place: Array,
  goal: Array,
  opening: float = 1.0,
):
  """Returns the first physics and memory; `place` is block or hinge."""
  layout = Layout(
    fixture=place,
    object=place,
    joint=jnp.zeros(()),
    marker=marker_at(goal, hide_goal=True),
  )
  state = sawyer.start(jnp.array(hand), layout, opening)
  measured = sawyer.measure(state, place, task.model_fields)
  return state, SawyerMemory(
    setpoint=jnp.array(hand),
    reading=sawyer.read(state, measured),
    fixture=place,
    goal=goal,
    first_distance=jnp.zeros(()),
  )


def _advance(sawyer: Sawyer, state: EnvState, action: Array):
  """Returns physics and memory one control step later."""
  memory = state.memory
  physics_state, measured, setpoint = sawyer.move(
    state.physics,
    memory.setpoint,
    action,
    memory.fixture,
    state.task.model_fields,
  )
  reading = sawyer.read(physics_state, measured)
  return physics_state, dataclasses.replace(
    memory, setpoint=setpoint, reading=reading
  )


def _observe(reading: Reading) -> Array:
  return jnp.concatenate([reading.hand, reading.grasp])


def _painted_object(sawyer: Sawyer, key: Array) -> Appearance:
  model = sawyer.world.model
  body = model.body('object').id
  geoms = jnp.asarray(np.flatnonzero(model.geom_bodyid == body))
  return painted(plain(model), geoms, key, seed_range=_SEEDS)


def _finish(
  name: str,
  action_size: int,
  horizon: int,
  sawyer: Sawyer,
  sample_task,
  reset,
  step,
) -> Env:
  return checked(
    Env(
      spec=EnvSpec(
        name=f'sawyer_{name}',
        observation_size=6,
        action_size=action_size,
        horizon=horizon,
        control_period_s=NUM_SUBSTEPS * sawyer.world.time_step_s,
      ),
      sample_task=sample_task,
      reset=reset,
      step=step,
      model=sawyer.world.model,
      holds_physics=sawyer.world.needs_options,
      scene_fields=lambda state: sawyer.fields(
        state.memory.fixture, getattr(state.task, 'model_fields', {})
      ),
    )
  )
