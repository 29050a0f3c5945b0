"""Shows how the Jaco reaches for a block, lifts it, stacks it."""

import dataclasses
from typing import Any, NamedTuple

from flax import struct
from jax import Array
import jax.numpy as jnp

from metajax.core.validation import check_choice
from metajax.demos.teacher import Teacher
from metajax.envs.engines import make_physics
from metajax.envs.environment import Env, EnvState
from metajax.envs.jaco.stacking import BLOCKS, STAGES
from metajax.envs.kinematics import (
  Chain,
  chain_to,
  damped_least_squares,
  jacobian,
  rotate,
  rotation_between,
)
from metajax.envs.physics import Measurement, field_of

# What it does, in this order; a block that slips away sends it back to the
# first.
APPROACH, DESCEND, CLOSE, LIFT, CARRY, LOWER, OPEN, RETREAT, REST = range(9)
_LAST_PHASES = {'reach': DESCEND, 'lift': LIFT, 'stack': REST}

_GAIN_PER_S = 5.0
_DAMPING = 0.03
_GRASP_HEIGHT_M = 0.008  # of the hand over the block's centre
_LOST_M = 0.045  # a block farther from the hand than this is not held
_CROWDED_M = 0.16  # blocks nearer than this may stand in a finger's way
_ARRIVED_M = 0.006
_ARRIVED_RAD = 0.08
_PLACED_M = 0.004


class JacoStyle(NamedTuple):
  """How it moves: numbers or arrays [], so that styles can be drawn.

  Attributes:
    speed_m_per_s: the hand's speed limit.
    turn_rad_per_s: its limit of turning.
    hover_m: how far above a block its approach ends and its retreat goes.
    lift_m: how far a block is lifted to be carried, above where it rests.
    opening_rad: the fingers' angle when open.
    grasp_s: seconds for closing the hand.
    release_s: seconds for opening it.
  """

  speed_m_per_s: float | Array = 0.2
  turn_rad_per_s: float | Array = 1.2
  hover_m: float | Array = 0.09
  lift_m: float | Array = 0.1
  opening_rad: float | Array = 0.35
  grasp_s: float | Array = 0.8
  release_s: float | Array = 0.6


@struct.dataclass
class JacoMemory:
  """What the teacher remembers from one control step to the next."""

  phase: Array  # [] int32
  time: Array  # [] int32, control steps in this phase
  yaw: Array  # [] float32, rad, of the hand over the table
  anchor: Array  # [3] float32, m, where the hand was when the phase began


def jaco_teacher(
  env: Env,
  stage: str = 'stack',
  style: JacoStyle = JacoStyle(),  # noqa: B008
) -> Teacher:
  """Handles the blocks as a state machine with inverse kinematics.

  It goes above the target block, down, closes, lifts, carries the block over
  the other one, lowers it until it rests, opens and retreats. The hand points
  down, turned so that the tips meet two faces of the block and have room
  beside the other one; a wanted velocity of the hand becomes joint velocities
  by damped least squares. It reads the whole state.

  Args:
    env: a `metajax.envs.jaco.stacking.jaco`.
    stage: `reach`, `lift` or `stack`, where it stops.
    style: how it moves.

  Returns:
    The teacher.

  Raises:
    InputError: if there is no such stage.
  """
  check_choice('stage', stage, STAGES)
  model = env.model
  world = make_physics(model, 'mjx' if env.holds_physics else 'c')
  chain = chain_to(model, 'jaco_hand')
  last_phase = _LAST_PHASES[stage]
  speeds = jnp.asarray(model.actuator_ctrlrange[:, 1], jnp.float32)
  steps_per_s = 1.0 / env.spec.control_period_s
  geoms = jnp.asarray([model.geom(name).id for name in BLOCKS])

  def first_memory(state: EnvState) -> JacoMemory:
    scene = _scene_of(model, state, world.measure(state.physics), geoms, world)
    return JacoMemory(
      phase=jnp.zeros((), jnp.int32),
      time=jnp.zeros((), jnp.int32),
      yaw=_best_yaw(scene),
      anchor=scene.hand,
    )

  def act(
    state: EnvState, memory: JacoMemory, key: Array
  ) -> tuple[Array, JacoMemory]:
    del key
    measured = world.measure(state.physics)
    scene = _scene_of(model, state, measured, geoms, world)
    memory = _advance(
      memory, scene, style, last_phase, memory.time / steps_per_s
    )
    wanted = _wanted_place(memory, scene, style)
    arm = _arm_velocities(
      chain, measured, scene, wanted, memory.yaw, style, speeds
    )
    arm = jnp.where(memory.phase == REST, jnp.zeros_like(arm), arm)
    fingers = _finger_velocities(memory, scene, style)
    action = jnp.concatenate([arm / speeds[: arm.size], fingers])
    limit = env.spec.action_limit
    return jnp.clip(action, -limit, limit), dataclasses.replace(
      memory, time=memory.time + 1
    )

  return Teacher(name='jaco_teacher', first_memory=first_memory, act=act)


class _Scene(NamedTuple):
  """What the teacher looks at.

  Attributes:
    hand: [3] m, between the finger tips.
    hand_quaternion: [4].
    fingers: [3] rad.
    target: [3] m, centre of the block to be handled.
    target_quaternion: [4].
    other: [3] m.
    rest_height: [] m, between the centres of stacked blocks.
    gap: [] m, of the target over where it would rest on the other.
    offset: [] m, between the centres, horizontally.
  """

  hand: Array
  hand_quaternion: Array
  fingers: Array
  target: Array
  target_quaternion: Array
  other: Array
  rest_height: Array
  gap: Array
  offset: Array


def _scene_of(
  model: Any, state: EnvState, measured: Measurement, geoms: Array, world: Any
) -> _Scene:
  bodies = jnp.asarray([model.body(name).id for name in BLOCKS])
  target = bodies[state.task.target]
  sizes = field_of(world, 'geom_size', state.task.model_fields)
  return _Scene(
    hand=measured.site_xpos[model.site('jaco_grasp').id],
    hand_quaternion=measured.xquat[model.body('jaco_hand').id],
    fingers=state.physics.qpos[6:9],
    target=measured.xpos[target],
    target_quaternion=measured.xquat[target],
    other=measured.xpos[bodies[1 - state.task.target]],
    rest_height=jnp.sum(sizes[geoms, 2]),
    gap=state.metrics['stack_gap_m'],
    offset=state.metrics['stack_offset_m'],
  )


def _best_yaw(scene: _Scene) -> Array:
  """Turns the hand to two faces of the target, with room for the fingers.

  Of the four ways, the one that needs least turning, unless a finger would
  come down on the other block.
  """
  axes = rotate(jnp.broadcast_to(scene.target_quaternion, (3, 4)), jnp.eye(3))
  flat = axes[jnp.argmin(jnp.abs(axes[:, 2]))]
  ways = jnp.arctan2(flat[1], flat[0]) + jnp.arange(4) * jnp.pi / 2
  along = rotate(scene.hand_quaternion, jnp.array([1.0, 0.0, 0.0]))
  turns = _wrapped(ways - jnp.arctan2(along[1], along[0]))
  beside = scene.other[:2] - scene.target[:2]
  distance = jnp.linalg.norm(beside) + 1e-6
  # The fingers close along the hand's y axis.
  closing = jnp.stack([-jnp.sin(ways), jnp.cos(ways)], axis=-1)
  is_blocked = jnp.abs(closing @ beside) / distance > 0.7
  cost = jnp.abs(turns) + 3.0 * (is_blocked & (distance < _CROWDED_M))
  return _wrapped(ways[jnp.argmin(cost)])


def _wrapped(angles: Array) -> Array:
  """Brings angles into [-pi, pi)."""
  return jnp.mod(angles + jnp.pi, 2 * jnp.pi) - jnp.pi


def _advance(
  memory: JacoMemory,
  scene: _Scene,
  style: JacoStyle,
  last_phase: int,
  seconds: Array,
) -> JacoMemory:
  """Goes on to the next phase, or back to the first."""
  wanted = _wanted_place(memory, scene, style)
  turn = rotation_between(scene.hand_quaternion, _pointing_down(memory.yaw))
  has_arrived = (jnp.linalg.norm(wanted - scene.hand) < _ARRIVED_M) & (
    jnp.linalg.norm(turn) < _ARRIVED_RAD
  )
  rests = jnp.abs(scene.gap) < _PLACED_M
  is_over = jnp.stack(
    [
      has_arrived,
      has_arrived,
      seconds > style.grasp_s,
      has_arrived,
      has_arrived,
      rests | (seconds > 3.0),
      seconds > style.release_s,
      has_arrived,
      jnp.zeros((), bool),
    ]
  )[memory.phase]
  is_held = jnp.linalg.norm(scene.target - scene.hand) < _LOST_M
  holds = (memory.phase >= LIFT) & (memory.phase <= LOWER)
  is_stacked = (scene.offset < 0.02) & rests
  fails = (holds & ~is_held) | ((memory.phase >= RETREAT) & ~is_stacked)
  phase = jnp.where(
    fails, APPROACH, jnp.minimum(memory.phase + is_over, last_phase)
  ).astype(jnp.int32)
  is_new = phase != memory.phase
  return JacoMemory(
    phase=phase,
    time=jnp.where(is_new, 0, memory.time),
    yaw=jnp.where(fails, _best_yaw(scene), memory.yaw),
    anchor=jnp.where(is_new, scene.hand, memory.anchor),
  )


def _wanted_place(memory: JacoMemory, scene: _Scene, style: JacoStyle) -> Array:
  """Returns [3] m, where the hand is to be in this phase."""
  up = jnp.array([0.0, 0.0, 1.0])
  above = scene.target + _GRASP_HEIGHT_M * up
  stacked = scene.other + scene.rest_height * up
  # The block goes where it is to be, however it lies in the hand.
  in_hand = scene.hand - scene.target
  places = jnp.stack(
    [
      above + style.hover_m * up,
      above,
      memory.anchor,
      memory.anchor + style.lift_m * up,
      stacked + (style.lift_m - 0.04) * up + in_hand,
      stacked - 0.004 * up + in_hand,
      memory.anchor,
      memory.anchor + style.hover_m * up,
      scene.hand,
    ]
  )
  return places[memory.phase]


def _pointing_down(yaw: Array) -> Array:
  """Returns the quaternion of a hand that points down, turned by `yaw`."""
  zero = jnp.zeros_like(yaw)
  return jnp.stack([jnp.cos(yaw / 2), zero, zero, jnp.sin(yaw / 2)])


def _arm_velocities(
  chain: Chain,
  measured: Measurement,
  scene: _Scene,
  wanted: Array,
  yaw: Array,
  style: JacoStyle,
  speeds: Array,
) -> Array:
  """Returns [6] rad/s that bring the hand to a place, pointing down."""
  turn = rotation_between(scene.hand_quaternion, _pointing_down(yaw))
  velocity = jnp.concatenate(
    [
      _limited(_GAIN_PER_S * (wanted - scene.hand), style.speed_m_per_s),
      _limited(_GAIN_PER_S * turn, style.turn_rad_per_s),
    ]
  )
  rates = damped_least_squares(
    jacobian(chain, measured, scene.hand), velocity, _DAMPING
  )
  # All slower by the same factor, so that the hand keeps its way.
  return rates / jnp.maximum(1.0, jnp.max(jnp.abs(rates) / speeds[:6]))


def _finger_velocities(
  memory: JacoMemory, scene: _Scene, style: JacoStyle
) -> Array:
  """Returns [3] in [-1, 1]: closes, or keeps the fingers open."""
  is_closing = (memory.phase >= CLOSE) & (memory.phase <= LOWER)
  opening = jnp.clip(4.0 * (style.opening_rad - scene.fingers), -1.0, 1.0)
  return jnp.where(is_closing, jnp.ones((3,)), opening)


def _limited(vector: Array, limit: float | Array) -> Array:
  """Shortens a vector to a length."""
  length = jnp.sqrt(jnp.sum(jnp.square(vector)) + 1e-12)
  return vector * jnp.minimum(1.0, limit / length)
