"""Shows how the Jaco reaches for a block, lifts it, stacks it."""

from collections.abc import Callable
import dataclasses

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp

from metajax.core.validation import check_choice
from metajax.demos.teachers.jaco_scene import (
  Scene,
  hand_orientation,
  scene_reader,
  turn_to_target,
)
from metajax.demos.teachers.jaco_styles import JacoStyle, Phase
from metajax.demos.teachers.teacher import Teacher
from metajax.envs.engines import make_physics
from metajax.envs.environment import Env, EnvState
from metajax.envs.jaco.stacking import STAGES
from metajax.envs.kinematics import (
  chain_to,
  damped_least_squares,
  jacobian,
  rotate,
  rotation_between,
)

_LAST_PHASES = {
  'reach': Phase.DESCEND,
  'lift': Phase.LIFT,
  'stack': Phase.REST,
}

_TURN_GAIN_PER_S = 5.0
_DAMPING = 0.03
_GRASP_HEIGHT_M = 0.008  # of the hand over the block's centre...
_GRASP_DEPTH_M = 0.014  # ...less this for a tilted one, of which a tip is high
_LOST_M = 0.045  # a block farther from the hand than this is not held
_ARRIVED_M = 0.006
_PASSED_M = 0.03  # of a point on the way
_ARRIVED_RAD = 0.08
_PLACED_M = 0.004
_PATIENCE_S = 8.0
_LOWERING_S = 6.0

_TREMOR_TIME_S = 1.0
_MISS_M = 0.05  # how much too high a failed grasp closes
_HOVERING_S = 0.6
_DETOUR_HEIGHT_M = 0.06  # over what is hovered over or nudged
_BESIDE_M = 0.1  # of a block, where a nudge begins
_NUDGE_M = 0.07
_LOW_M = 0.03  # over the table
_ASIDE_M = 0.15  # of the stack, where the hand rests
_ASIDE_HEIGHT_M = 0.11
_CENTRE_M = (0.45, 0.0, 0.0)  # of the table's part with the blocks


@struct.dataclass
class JacoMemory:
  """What the teacher remembers from one control step to the next."""

  style: JacoStyle  # of this episode
  phase: Array  # [] int32
  time: Array  # [] int32, control steps in this phase
  pauses_s: Array  # [16] float32, s, those that are still to come, by phase
  misses: Array  # [] int32, grasps that are still to fail
  yaw: Array  # [] float32, rad, of the hand over the table
  lean: Array  # [] float32, rad, of the hand in its work
  anchor: Array  # [3] float32, m, where the hand was when the phase began
  beside: Array  # [3] float32, m, where a nudge begins
  nudge: Array  # [3] float32, of length 1, its direction
  tremor: Array  # [3] float32, m, added to where the hand is to be


def plain_style(key: Array) -> JacoStyle:
  """Returns the style of who has none, whatever the key."""
  del key
  return JacoStyle()


def jaco_teacher(
  env: Env,
  stage: str = 'stack',
  draw_style: Callable[[Array], JacoStyle] = plain_style,
) -> Teacher:
  """Handles the blocks as a state machine with inverse kinematics.

  It goes above the target block, down, closes, lifts, carries the block over
  the other one, lowers it until it rests, opens and retreats. The hand is
  turned so that the tips meet two faces of the block and have room beside the
  other one; a wanted velocity of the hand becomes joint velocities by damped
  least squares. Whatever it loses, it approaches again. A style may begin with
  a detour, pause before any phase, let the first grasp fail, and shake the
  hand. It reads the whole state.

  Args:
    env: a `metajax.envs.jaco.stacking.jaco`.
    stage: `reach`, `lift` or `stack`, where it stops.
    draw_style: `(key) -> style`, how it moves in an episode.

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
  period_s = env.spec.control_period_s
  read = scene_reader(model, world)

  def first_memory(state: EnvState, key: Array) -> JacoMemory:
    style = jax.tree.map(jnp.asarray, draw_style(key))
    scene = read(state, world.measure(state.physics))
    yaw, lean = turn_to_target(scene, style.tilt_rad, style.side)
    beside, nudge = _plan_nudge(scene)
    misses = style.num_misses * (last_phase >= Phase.CLOSE)
    return JacoMemory(
      style=style,
      phase=style.first_phase.astype(jnp.int32),
      time=jnp.zeros((), jnp.int32),
      pauses_s=jnp.broadcast_to(style.pauses_s, (len(Phase),)),
      misses=misses,
      yaw=yaw,
      lean=lean,
      anchor=scene.hand,
      beside=beside,
      nudge=nudge,
      tremor=jnp.zeros((3,)),
    )

  def act(
    state: EnvState, memory: JacoMemory, key: Array
  ) -> tuple[Array, JacoMemory]:
    measured = world.measure(state.physics)
    scene = read(state, measured)
    memory = _advance(memory, scene, last_phase, memory.time * period_s)
    velocity = _hand_velocity(memory, scene, memory.time * period_s)
    rates = damped_least_squares(
      jacobian(chain, measured, scene.hand), velocity, _DAMPING
    )
    # All slower by the same factor, so that the hand keeps its way.
    arm = rates / speeds[:6]
    arm = arm / jnp.maximum(1.0, jnp.max(jnp.abs(arm)))
    arm = jnp.where(memory.phase == Phase.REST, jnp.zeros_like(arm), arm)
    fingers = _finger_velocities(memory, scene, memory.time * period_s)
    limit = env.spec.action_limit
    action = jnp.clip(jnp.concatenate([arm, fingers]), -limit, limit)
    return action, dataclasses.replace(
      memory, time=memory.time + 1, tremor=_shaken(memory, period_s, key)
    )

  return Teacher(name='jaco_teacher', first_memory=first_memory, act=act)


def _plan_nudge(scene: Scene) -> tuple[Array, Array]:
  """Returns where a nudge of the other block begins [3], m, and its way [3].

  Across the line between the blocks, to the middle of where blocks may be.
  """
  beside = scene.other - scene.target
  way = jnp.stack([-beside[1], beside[0], jnp.zeros(())])
  way = way / (jnp.linalg.norm(way) + 1e-6)
  is_outward = jnp.dot(way, jnp.array(_CENTRE_M) - scene.other) < 0
  way = jnp.where(is_outward, -way, way)
  return (scene.other - _BESIDE_M * way).at[2].set(_LOW_M), way


def _shaken(memory: JacoMemory, period_s: float, key: Array) -> Array:
  """Moves the tremor [3], m, on: an Ornstein-Uhlenbeck process.

  The hand follows it as a low pass of gain `g` that leaves a share
  `g T / (1 + g T)` of its variance, `T` its correlation time.
  """
  style = memory.style
  variance = jnp.square(style.tremor_m)
  variance *= 1.0 + 1.0 / (style.gain_per_s * _TREMOR_TIME_S)
  decay = jnp.exp(-period_s / _TREMOR_TIME_S)
  spread = jnp.sqrt(variance * (1.0 - jnp.square(decay)))
  return decay * memory.tremor + spread * jax.random.normal(key, (3,))


def _advance(
  memory: JacoMemory, scene: Scene, last_phase: Phase, seconds: Array
) -> JacoMemory:
  """Goes on to the next phase, or back to the approach."""
  style, phase = memory.style, memory.phase
  seconds = seconds - memory.pauses_s[phase]
  distance = jnp.linalg.norm(_wanted_place(memory, scene) - scene.hand)
  turn = rotation_between(scene.hand_quaternion, _wanted_orientation(memory))
  has_arrived = (distance < _ARRIVED_M) & (jnp.linalg.norm(turn) < _ARRIVED_RAD)
  has_arrived |= seconds > _PATIENCE_S
  rests = jnp.abs(scene.gap) < _PLACED_M
  over = [has_arrived] * len(Phase)
  over[Phase.HOVER] = has_arrived & (seconds > _HOVERING_S)
  over[Phase.CLOSE] = seconds > style.grasp_s
  over[Phase.VIA] = (distance < _PASSED_M) | (seconds > _PATIENCE_S)
  over[Phase.LOWER] = rests | (seconds > _LOWERING_S)
  over[Phase.OPEN] = seconds > style.release_s
  over[Phase.REST] = jnp.zeros((), bool)
  is_over = jnp.stack(over)[phase] & (seconds >= 0.0)

  is_held = jnp.linalg.norm(scene.target - scene.hand) < _LOST_M
  holds = (phase >= Phase.LIFT) & (phase <= Phase.LOWER)
  is_stacked = (scene.offset < 0.02) & rests
  fails = (holds & ~is_held) | ((phase >= Phase.RETREAT) & ~is_stacked)
  following = jnp.where(is_over, _following(phase, style), phase)
  following = jnp.where(
    fails, Phase.APPROACH, jnp.minimum(following, last_phase)
  ).astype(jnp.int32)
  is_new = following != phase
  approaches = is_new & (following == Phase.APPROACH)
  yaw, lean = turn_to_target(scene, style.tilt_rad, style.side)
  has_failed = fails & (memory.misses > 0)
  return dataclasses.replace(
    memory,
    phase=following,
    time=jnp.where(is_new, 0, memory.time),
    pauses_s=jnp.where(
      is_new, memory.pauses_s.at[phase].set(0.0), memory.pauses_s
    ),
    misses=memory.misses - has_failed,
    yaw=jnp.where(approaches, yaw, memory.yaw),
    lean=jnp.where(approaches, lean, memory.lean),
    anchor=jnp.where(is_new, scene.hand - memory.tremor, memory.anchor),
  )


def _following(phase: Array, style: JacoStyle) -> Array:
  """Returns the phase after a phase, without those that the style skips."""
  following = phase + 1
  for last, has_more, otherwise in (
    (Phase.LIFT, style.arc_m > 0, Phase.CARRY),
    (Phase.RETREAT, style.rests_beside, Phase.REST),
  ):
    is_skipped = (phase == last) & ~has_more
    following = jnp.where(is_skipped, otherwise, following)
  return following


def _wanted_place(memory: JacoMemory, scene: Scene) -> Array:
  """Returns [3] m, where the hand is to be in this phase, tremor included."""
  style, anchor = memory.style, memory.anchor
  up = jnp.array([0.0, 0.0, 1.0])
  back = rotate(hand_orientation(memory.yaw, memory.lean), up)
  depth = _GRASP_DEPTH_M * jnp.sin(style.tilt_rad)
  above = scene.target + (_GRASP_HEIGHT_M - depth) * up
  above = above + jnp.where(memory.misses > 0, _MISS_M, 0.0) * back
  stacked = scene.other + scene.rest_height * up
  # The block goes where it is to be, however it lies in the hand.
  in_hand = scene.hand - scene.target
  over_stack = stacked + (style.lift_m - 0.04) * up + in_hand
  towards_middle = jnp.where(scene.other[1] > 0, -1.0, 1.0)
  aside = jnp.stack([jnp.zeros(()), towards_middle, jnp.zeros(())])
  places = {
    Phase.HOVER: scene.other + (_DETOUR_HEIGHT_M + _LOW_M) * up,
    Phase.BESIDE: memory.beside + _DETOUR_HEIGHT_M * up,
    Phase.DOWN: memory.beside,
    Phase.NUDGE: anchor + _NUDGE_M * memory.nudge,
    Phase.RISE: anchor + _DETOUR_HEIGHT_M * up,
    Phase.APPROACH: above + style.hover_m * back,
    Phase.DESCEND: above,
    Phase.CLOSE: anchor,
    Phase.LIFT: anchor + style.lift_m * up,
    Phase.VIA: _via(anchor, over_stack, style.arc_m),
    Phase.CARRY: over_stack,
    Phase.LOWER: stacked - 0.004 * up + in_hand,
    Phase.OPEN: anchor,
    Phase.RETREAT: anchor + style.hover_m * back,
    Phase.ASIDE: (scene.other + _ASIDE_M * aside).at[2].set(_ASIDE_HEIGHT_M),
    Phase.REST: scene.hand,
  }
  return jnp.stack([places[phase] for phase in Phase])[memory.phase] + (
    memory.tremor
  )


def _via(start: Array, end: Array, arc_m: float | Array) -> Array:
  """Returns [3] m, beside the middle of a way, towards the table's middle."""
  way = end - start
  across = jnp.stack([-way[1], way[0], jnp.zeros(())])
  across = across / (jnp.linalg.norm(across) + 1e-6)
  middle = 0.5 * (start + end)
  is_outward = jnp.dot(across, jnp.array(_CENTRE_M) - middle) < 0
  return middle + jnp.where(is_outward, -arc_m, arc_m) * across


def _wanted_orientation(memory: JacoMemory) -> Array:
  """Returns the hand's quaternion [4]; outside of its work it points down."""
  works = memory.phase >= Phase.APPROACH
  return hand_orientation(memory.yaw, jnp.where(works, memory.lean, 0.0))


def _hand_velocity(memory: JacoMemory, scene: Scene, seconds: Array) -> Array:
  """Returns [6], m/s and rad/s, that bring the hand to where it is to be."""
  style = memory.style
  is_paused = seconds < memory.pauses_s[memory.phase]
  wanted = jnp.where(
    is_paused, memory.anchor + memory.tremor, _wanted_place(memory, scene)
  )
  turn = rotation_between(scene.hand_quaternion, _wanted_orientation(memory))
  turning = jnp.where(is_paused, 0.0, _TURN_GAIN_PER_S) * turn
  linear = style.gain_per_s * (wanted - scene.hand)
  return jnp.concatenate(
    [
      _limited(linear, style.speed_m_per_s),
      _limited(turning, style.turn_rad_per_s),
    ]
  )


def _finger_velocities(
  memory: JacoMemory, scene: Scene, seconds: Array
) -> Array:
  """Returns [3] in [-1, 1]: closes, or keeps the fingers open."""
  is_paused = seconds < memory.pauses_s[memory.phase]
  # A pause before closing or opening is spent as in the phase before.
  phase = memory.phase - is_paused
  is_closing = (phase >= Phase.CLOSE) & (phase <= Phase.LOWER)
  opening = memory.style.opening_rad - scene.fingers
  opening = jnp.clip(4.0 * opening, -1.0, 1.0)
  return jnp.where(is_closing, jnp.ones((3,)), opening)


def _limited(vector: Array, limit: float | Array) -> Array:
  """Shortens a vector to a length."""
  length = jnp.sqrt(jnp.sum(jnp.square(vector)) + 1e-12)
  return vector * jnp.minimum(1.0, limit / length)
