"""The pusher's teacher: behind the target, down, and on to the disc."""

from collections.abc import Callable
from typing import Any

from jax import Array
import jax.numpy as jnp

from metajax.core.learner import PyTree
from metajax.demos.teachers.joint_torques import velocity_controller
from metajax.demos.teachers.teacher import Teacher
from metajax.envs.engines import make_physics
from metajax.envs.environment import Env, EnvState
from metajax.envs.kinematics import (
  chain_to,
  damped_least_squares,
  jacobian,
  rotate,
)
from metajax.envs.torque_arms.pusher import PushingTask, object_geoms

_FINGER_RADIUS_M = 0.02
_CLEARANCE_M = 0.03
# Heights of the tip over the table.
_LOW_M, _HIGH_M = 0.028, 0.17
_MAX_SPEED_M_PER_S = 0.6
_MAX_PACE_M_PER_S = 0.4
_POSTURE = (-0.5, 0.8, -0.9, 1.8, 0.5, -0.6, 0.0)


def pusher_teacher(env: Env, *, physics: str = 'mjx') -> Teacher:
  """Builds a controller that pushes the target onto the disc.

  With `u` the direction from the disc to the target, it moves the finger to
  the side of the target that faces `u`, above the objects; lowers it there;
  and moves it against `u`, as fast as the target is far from the disc. The
  finger's velocity becomes joint velocities by damped least squares, with the
  finger kept upright, and these torques
  (`metajax.demos.teachers.joint_torques`).

  Args:
    env: `metajax.envs.torque_arms.pusher.pusher`.
    physics: name of the engine that tells where the arm is.

  Returns:
    The teacher; its memory is whether the finger is down.
  """
  model = env.model
  world = make_physics(model, physics)
  tip = model.site('tip').id
  table_m = float(model.body('object_0').pos[2])
  goal = jnp.asarray(model.body('table_disc').pos[:2], jnp.float32)
  bodies = jnp.array([model.body(f'object_{slot}').id for slot in (0, 1)])
  move_tip = _tip_mover(model, env.spec.control_period_s)

  def first_memory(state: EnvState, key: Array) -> PyTree:
    del state, key
    return jnp.zeros((), bool)

  def act(state: EnvState, memory: PyTree, key: Array) -> tuple[Array, PyTree]:
    del key
    task: PushingTask = state.task
    measured = world.measure(state.physics, model_fields=task.model_fields)
    finger = measured.site_xpos[tip]
    target = measured.xpos[bodies[task.target_slot], :2]
    offset = target - goal
    distance = jnp.linalg.norm(offset) + 1e-6
    outward = offset / distance
    surface = target + support(model, task, outward)
    behind = surface + (_FINGER_RADIUS_M + _CLEARANCE_M) * outward

    height = finger[2] - table_m
    to_behind = behind - finger[:2]
    is_there = jnp.linalg.norm(to_behind) < 0.03
    is_down = (memory & (jnp.linalg.norm(to_behind) < 0.15)) | (
      is_there & (height < _LOW_M + 0.02)
    )
    lower = is_down | is_there
    # Where it would coast too far, it must not get fast.
    coasting = task.damping[task.target_slot] / task.masses[task.target_slot]
    pace = jnp.minimum(
      1.2 * distance + 0.02, jnp.maximum(0.16, 2.0 * coasting * distance)
    )
    contact = surface + _FINGER_RADIUS_M * outward - finger[:2]
    aside = contact - jnp.dot(contact, outward) * outward
    pushing = 3.0 * aside - jnp.minimum(pace, _MAX_PACE_M_PER_S) * outward
    # Up before along.
    may_travel = lower | (height > _HIGH_M - 0.08)
    approaching = jnp.where(may_travel, 3.0, 0.3) * to_behind
    wanted_height = jnp.where(lower, _LOW_M, _HIGH_M)
    velocity = jnp.concatenate(
      [
        jnp.where(is_down, pushing, approaching),
        4.0 * (wanted_height - height)[None],
      ]
    )
    speed = jnp.linalg.norm(velocity) + 1e-6
    velocity = velocity * jnp.minimum(1.0, _MAX_SPEED_M_PER_S / speed)
    return move_tip(state.physics, measured, velocity), is_down

  return Teacher(name='pusher', first_memory=first_memory, act=act)


def support(model: Any, task: PushingTask, direction: Array) -> Array:
  """Returns the point of the target that is farthest along a direction.

  Args:
    model: the pusher's `mujoco.MjModel`.
    task: the task.
    direction: [2] float32, unit length.

  Returns:
    [2] float32, m, from the target's centre. On a side that lies across the
    direction it is the middle.
  """
  geoms = jnp.asarray(object_geoms(model))[task.target_slot]
  sizes = task.model_fields['geom_size'][geoms]
  centres = task.model_fields['geom_pos'][geoms, :2]
  upright = jnp.broadcast_to(jnp.array([[0.0, 0.0, 1.0]]), (len(geoms), 3))
  axes = rotate(task.model_fields['geom_quat'][geoms], upright)[:, :2]
  along = axes @ direction
  ends = jnp.tanh(along / 0.15)[:, None] * sizes[:, 1:2] * axes
  reach = centres @ direction + sizes[:, 1] * jnp.abs(along) + sizes[:, 0]
  best = jnp.argmax(reach)
  return centres[best] + ends[best] + sizes[best, 0] * direction


def _tip_mover(model: Any, period_s: float) -> Callable[..., Array]:
  """Returns `(state, measurement, tip velocity [3]) -> action`."""
  chain = chain_to(model, 'hand')
  hand, tip = model.body('hand').id, model.site('tip').id
  control = velocity_controller(model, 'hand', period_s=period_s)
  posture = jnp.array(_POSTURE)

  def move(state, measured, velocity: Array) -> Array:
    angles = state.qpos[: len(_POSTURE)]
    rows = jacobian(chain, measured, measured.site_xpos[tip])
    up = jnp.array([0.0, 0.0, 1.0])
    own_up = rotate(measured.xquat[hand][None], up[None])[0]
    tilt = jnp.cross(own_up, up)[:2]
    task_rows = rows[:5]
    wanted = jnp.concatenate([velocity, 3.0 * tilt])
    # Tilting matters less than the tip's place.
    weights = jnp.array([1.0, 1.0, 1.0, 0.15, 0.15])
    weighted = weights[:, None] * task_rows
    joints = damped_least_squares(weighted, weights * wanted, 0.03)
    rest = 1.0 * (posture - angles)
    rest = rest - damped_least_squares(weighted, weighted @ rest, 0.03)
    return control(state, measured, joints + rest, jnp.zeros((7,)))

  return move
