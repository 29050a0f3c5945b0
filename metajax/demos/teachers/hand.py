"""Scripted hands that show a task along splines, each at its own speed."""

from typing import NamedTuple

from jax import Array
import jax.numpy as jnp

from metajax.demos.teachers.placing import look, turn_towards
from metajax.demos.teachers.pushing import look_at_objects, push_goals
from metajax.demos.teachers.teacher import Teacher
from metajax.envs.environment import Env, EnvState

_NUM_JOINTS = 6
# What is left of the hand's speed to correct with.
_CRUISE = 0.65
_CORRECTION_PER_S = 4.0
_TURN_SPEED = 2.0  # rad/s of an action of 1
_TURN_GAIN_PER_S = 4.0
_PINCH_S = 0.5
_SETTLE_S = 0.2
_CARRY_HEIGHT_M = 0.13
_APPROACH_M = 0.07
_GRIP_DEPTH_M = 0.016
_OPEN, _FIRM = -1.0, 1.0


class Plan(NamedTuple):
  """A spline through knots, and what the hand does on its way."""

  times: Array  # [k] float32, s, of the knots, increasing
  knots: Array  # [k, 3] float32, m
  slopes: Array  # [k, 3] float32, m/s
  grips: Array  # [k] float32, from -1 (open) to 1, until the next knot
  side: Array  # [3] float32, the object's axis to close along...
  straight: Array  # [] float32, s, ...until the hand turns straight
  time: Array  # [] float32, s


def hand_placing_teacher(env: Env, *, is_held: bool) -> Teacher:
  """Makes a demonstrator of placing or of pick-and-place.

  It plans one cubic spline when the episode begins, from where it is over the
  object to the target container, and follows it.

  Args:
    env: `metajax.envs.gripper_arm.demonstrator_hand.demonstrator_hand`.
    is_held: whether the object is held at first.

  Returns:
    The teacher; its memory is the plan.
  """

  def first_memory(state: EnvState, key: Array) -> Plan:
    del key
    view = look(state, _NUM_JOINTS)
    up = jnp.array([0.0, 0.0, 1.0])
    level = jnp.array([1.0, 1.0, 0.0])
    top = view.centre + (view.half_sizes[2] - _GRIP_DEPTH_M) * up
    carry = _CARRY_HEIGHT_M * up
    below = 2.0 * view.half_sizes[2] - _GRIP_DEPTH_M
    lowered = view.place + (view.wall_height + 0.015 + below) * up
    delivery = [
      (view.place + carry, 0.0, _FIRM),
      (lowered, 0.0, _FIRM),
      (lowered, _SETTLE_S, _OPEN),
      (lowered, _PINCH_S, _OPEN),
      (view.place + carry, 0.0, _OPEN),
    ]
    pick = [
      (top + _APPROACH_M * up, 0.0, _OPEN),
      (top, 0.0, _OPEN),
      (top, _SETTLE_S, _FIRM),
      (top, _PINCH_S, _FIRM),
      (top * level + carry, 0.0, _FIRM),
    ]
    first = [(view.hand, 0.0, _FIRM if is_held else _OPEN)]
    rows = first + ([] if is_held else pick) + delivery
    return _plan(rows, state.task.speed, view.side, 0 if is_held else len(pick))

  def act(state: EnvState, plan: Plan, key: Array) -> tuple[Array, Plan]:
    del key
    view = look(state, _NUM_JOINTS)
    return _follow(env, plan, state.task.speed, view.hand, view.frame)

  return Teacher(name='placing_hand', first_memory=first_memory, act=act)


def hand_pushing_teacher(env: Env) -> Teacher:
  """Makes a demonstrator of pushing: beside the object, then home.

  Args:
    env: `metajax.envs.gripper_arm.demonstrator_hand.demonstrator_hand`.

  Returns:
    The teacher; its memory is the plan.
  """

  def first_memory(state: EnvState, key: Array) -> Plan:
    del key
    view = look_at_objects(state, _NUM_JOINTS)
    behind, down, home = push_goals(view)
    rows = [
      (view.hand, 0.0, _FIRM),
      (behind, 0.0, _FIRM),
      (down, 0.0, _FIRM),
      (down, _SETTLE_S, _FIRM),
      (home, 0.0, _FIRM),
      (home, _SETTLE_S, _FIRM),
    ]
    left = jnp.array([0.0, 1.0, 0.0])
    return _plan(rows, state.task.speed, left, 0)

  def act(state: EnvState, plan: Plan, key: Array) -> tuple[Array, Plan]:
    del key
    view = look_at_objects(state, _NUM_JOINTS)
    # It keeps behind an object that slips aside.
    knots = plan.knots.at[4:, 0].set(view.centre[0])
    return _follow(
      env,
      plan._replace(knots=knots),
      state.task.speed,
      view.hand,
      view.frame,
    )

  return Teacher(name='pushing_hand', first_memory=first_memory, act=act)


def _plan(
  rows: list[tuple[Array, float, float]],
  speed: Array,
  side: Array,
  straight: int,
) -> Plan:
  """Makes a spline of rows (where, least seconds to get there, grip).

  From row `straight` on, the hand closes along y.
  """
  knots = jnp.stack([row[0] for row in rows])
  waits = jnp.array([row[1] for row in rows[1:]])
  steps = jnp.diff(knots, axis=0)
  lengths = jnp.sqrt(jnp.sum(jnp.square(steps), axis=1) + 1e-12)
  spans = jnp.maximum(lengths / (_CRUISE * speed), jnp.maximum(waits, 0.1))
  times = jnp.concatenate([jnp.zeros((1,)), jnp.cumsum(spans)])
  # Catmull and Rom's slopes, at rest wherever the hand waits.
  slopes = (knots[2:] - knots[:-2]) / (times[2:] - times[:-2])[:, None]
  is_waiting = (waits[1:] > 0) | (waits[:-1] > 0)
  slopes = jnp.where(is_waiting[:, None], 0.0, slopes)
  rest = jnp.zeros((1, 3))
  return Plan(
    times=times,
    knots=knots,
    slopes=jnp.concatenate([rest, slopes, rest]),
    grips=jnp.array([row[2] for row in rows]),
    side=side,
    straight=times[straight],
    time=jnp.zeros(()),
  )


def _follow(
  env: Env, plan: Plan, speed: Array, hand: Array, frame: Array
) -> tuple[Array, Plan]:
  """Returns the action that keeps to the plan, and the plan a step later."""
  period = env.spec.control_period_s
  now, later = _at(plan, plan.time), _at(plan, plan.time + period)
  velocity = (later - now) / period + _CORRECTION_PER_S * (now - hand)
  knot = _segment(plan, plan.time)
  grip = plan.grips[knot]
  is_straight = plan.time >= plan.straight
  side = jnp.where(is_straight, jnp.array([0.0, 1.0, 0.0]), plan.side)
  turn = _TURN_GAIN_PER_S * turn_towards(frame, side) / _TURN_SPEED
  action = jnp.concatenate([velocity / speed, turn, grip[None]])
  return jnp.clip(action, -1.0, 1.0), plan._replace(time=plan.time + period)


def _segment(plan: Plan, time: Array) -> Array:
  """Returns the index of the last knot that lies behind, [] int32."""
  behind = jnp.sum((plan.times <= time).astype(jnp.int32)) - 1
  return jnp.clip(behind, 0, len(plan.grips) - 1)


def _at(plan: Plan, time: Array) -> Array:
  """Evaluates Hermite's cubic spline, [3] float32, m."""
  k = jnp.minimum(_segment(plan, time), len(plan.grips) - 2)
  span = plan.times[k + 1] - plan.times[k]
  s = jnp.clip((time - plan.times[k]) / span, 0.0, 1.0)
  return (
    (1 + 2 * s) * (1 - s) ** 2 * plan.knots[k]
    + s * (1 - s) ** 2 * span * plan.slopes[k]
    + s**2 * (3 - 2 * s) * plan.knots[k + 1]
    + s**2 * (s - 1) * span * plan.slopes[k + 1]
  )
