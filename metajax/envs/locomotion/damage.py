"""Legged bodies that lose a joint or a leg, before an episode or within it."""

from collections.abc import Callable, Mapping
import dataclasses

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp

from metajax.core.validation import InputError, check_count
from metajax.envs.environment import Env
from metajax.envs.locomotion.bodies import (
  LeggedBody,
  ant_body,
  half_cheetah_body,
)
from metajax.envs.locomotion.forward_running import forward_running_env
from metajax.envs.physics import ModelFields, field_of

_MAX_CHANGES = 4
_NUM_JOINTS = 6
_HELD_OUT_JOINT = 0
# In the order of the ant's motors.
_LEGS = ('front_left', 'back_left', 'back_right', 'front_right')
_HELD_OUT_LEG = 3
_SHRUNK = 0.5


@struct.dataclass
class DisabledJointTask:
  """Which motors of the half-cheetah are dead, one after the other."""

  # [4] int32, in 0..5: back thigh, shin, foot, front thigh, shin, foot.
  joints: Array
  # [] int32, control steps until the next joint's turn; the last one stays.
  switch_period: Array
  # Arrays of the model by name, of this task alone; {}: the model as it is.
  model_fields: Mapping[str, Array] = dataclasses.field(default_factory=dict)


@struct.dataclass
class CrippledLegTask:
  """Which leg of the ant fails, when, and how."""

  leg: Array  # [] int32: front left, back left, back right, front right
  switch_time: Array  # [] int32, control step at which it fails
  size_factor: Array  # [] float32, what its size is then multiplied by
  # Arrays of the model by name, of this task alone; {}: the model as it is.
  model_fields: Mapping[str, Array] = dataclasses.field(default_factory=dict)


def half_cheetah_disabled_joint(
  horizon: int = 1000,
  switch_period: int | None = None,
  *,
  physics: str = 'mjx',
) -> Env:
  """Builds the half-cheetah with a dead motor (Finn 2018, section 5.5).

  It is to run forward: with `x` the forward coordinate of the centre of mass
  and `a` the action, clipped to [-1, 1],

    `r = (x_{t+1} - x_t) / 0.01 - 0.05 ||a||^2`

  The torque of one joint is zero; the joint itself moves, with its spring.
  Training tasks draw it from joints 1 to 5, held-out tasks have joint 0, the
  back thigh. With a `switch_period` another joint fails every so many control
  steps, and the one before works again: four joints, no two in a row the
  same, the last for the rest of the episode. Held-out tasks then have joint 0
  first and third.

  Control and physics run at 100 Hz; an episode never ends before its horizon.
  It starts in the standing pose with noise N(0, 0.01^2) on positions and
  N(0, 0.1^2) on velocities. The observation [20] is the positions without x
  (8: m, then rad), the velocities (9), the centre of mass (3, m); it tells
  neither the joint nor the time.

  Metrics: `forward_velocity_m_per_s`, `forward_position_m`.

  Args:
    horizon: control steps in an episode.
    switch_period: control steps until another joint fails (500 or 250 for
      the changing tasks); None: one joint all the time.
    physics: name of the engine, `mjx` or `c`.

  Returns:
    The environment; its tasks are `DisabledJointTask`.

  Raises:
    InputError: if an argument is out of its range.
  """
  check_count('horizon', horizon)
  if switch_period is not None:
    check_count('switch_period', switch_period)
  body = half_cheetah_body(physics)
  period = jnp.asarray(switch_period or horizon, jnp.int32)

  def sample_task(key: Array) -> DisabledJointTask:
    if switch_period is None:
      joint = jax.random.randint(key, (), 1, _NUM_JOINTS)
      joints = jnp.full((_MAX_CHANGES,), joint)
    else:
      first_key, step_key = jax.random.split(key)
      first = jax.random.randint(first_key, (), 0, _NUM_JOINTS - 1)
      # Each is one to four places on from the last: never the same.
      steps = jax.random.randint(
        step_key, (_MAX_CHANGES - 1,), 1, _NUM_JOINTS - 1
      )
      places = jnp.concatenate([jnp.zeros((1,), jnp.int32), jnp.cumsum(steps)])
      joints = 1 + (first + places) % (_NUM_JOINTS - 1)
    return DisabledJointTask(joints=joints, switch_period=period)

  def sample_test_task(key: Array) -> DisabledJointTask:
    task = sample_task(key)
    is_held_out = jnp.ones((_MAX_CHANGES,), bool)
    if switch_period is not None:
      is_held_out = jnp.arange(_MAX_CHANGES) % 2 == 0
    return dataclasses.replace(
      task, joints=jnp.where(is_held_out, _HELD_OUT_JOINT, task.joints)
    )

  def damage(task: DisabledJointTask, time: Array) -> tuple[Array, ModelFields]:
    turn = jnp.minimum(time // task.switch_period, _MAX_CHANGES - 1)
    dead = jnp.arange(_NUM_JOINTS) == task.joints[turn]
    return jnp.where(dead, 0.0, 1.0), task.model_fields

  name = 'half_cheetah_disabled_joint'
  return forward_running_env(
    body,
    name if switch_period is None else f'{name}_changing',
    horizon,
    sample_task,
    sample_test_task,
    damage,
  )


def ant_crippled_leg(
  horizon: int = 500,
  switch_time: int = 0,
  *,
  shrink_in_training: bool = True,
  physics: str = 'mjx',
) -> Env:
  """Builds the ant with a crippled leg (Finn 2018, section 5.5).

  It is to run forward: with `x` the forward coordinate of the centre of mass
  and `a` the action, clipped to [-1, 1],

    `r = (x_{t+1} - x_t) / 0.02 - 0.005 ||a||^2 + 0.05`

  Both torques of one leg are zero, and both its capsules shrink to half their
  radius and length, the lower one drawn up to the knee, so that the leg no
  longer bears the body; its mass stays. Training tasks draw one of the first
  three legs (front left, back left, back right), held-out tasks have the
  fourth (front right), always shrunk. With a `switch_time` the leg fails at
  that control step.

  Control runs at 50 Hz, two time steps each; no episode ends before its
  horizon. It starts with noise N(0, 0.01^2) on positions and N(0, 0.1^2) on
  velocities. The observation [41] is the positions (15), the velocities (14),
  the torso's rotation matrix (9), the centre of mass (3, m).

  Metrics: `forward_velocity_m_per_s`, `forward_position_m`.

  Args:
    horizon: control steps in an episode.
    switch_time: control step at which the leg fails: 0, or half the horizon
      for the changing tasks.
    shrink_in_training: whether legs shrink in training tasks too.
    physics: name of the engine, `mjx` or `c`.

  Returns:
    The environment; its tasks are `CrippledLegTask`.

  Raises:
    InputError: if an argument is out of its range.
  """
  check_count('horizon', horizon)
  check_count('switch_time', switch_time, minimum=0)
  if switch_time >= horizon:
    raise InputError(
      f'switch_time: expected less than the horizon ({horizon}), got'
      f' {switch_time}'
    )
  body = ant_body(physics)
  shrink = _leg_shrinker(body)

  def sample_task(key: Array) -> CrippledLegTask:
    return CrippledLegTask(
      leg=jax.random.randint(key, (), 0, _HELD_OUT_LEG),
      switch_time=jnp.asarray(switch_time, jnp.int32),
      size_factor=jnp.asarray(_SHRUNK if shrink_in_training else 1.0),
    )

  def sample_test_task(key: Array) -> CrippledLegTask:
    return dataclasses.replace(
      sample_task(key),
      leg=jnp.asarray(_HELD_OUT_LEG, jnp.int32),
      size_factor=jnp.asarray(_SHRUNK),
    )

  def damage(task: CrippledLegTask, time: Array) -> tuple[Array, ModelFields]:
    has_failed = time >= task.switch_time
    of_leg = jnp.arange(2 * len(_LEGS)) // 2 == task.leg
    strengths = jnp.where(of_leg & has_failed, 0.0, 1.0)
    factor = jnp.where(has_failed, task.size_factor, 1.0)
    return strengths, {
      **task.model_fields,
      **shrink(task.leg, factor, task.model_fields),
    }

  name = 'ant_crippled_leg'
  return forward_running_env(
    body,
    f'{name}_changing' if switch_time else name,
    horizon,
    sample_task,
    sample_test_task,
    damage,
  )


def _leg_shrinker(
  body: LeggedBody,
) -> Callable[[Array, Array, ModelFields], ModelFields]:
  """Returns `(leg, factor, model_fields) -> model_fields` of a smaller leg."""
  model = body.model
  uppers = jnp.array([int(model.geom(f'{leg}_upper').id) for leg in _LEGS])
  lowers = jnp.array([int(model.geom(f'{leg}_lower').id) for leg in _LEGS])

  def shrink(
    leg: Array, factor: Array, model_fields: ModelFields
  ) -> ModelFields:
    sizes = field_of(body.world, 'geom_size', model_fields)
    places = field_of(body.world, 'geom_pos', model_fields)
    upper, lower = uppers[leg], lowers[leg]
    # The lower capsule begins at its body's origin, so that scaling its
    # centre keeps it at the knee.
    return {
      'geom_size': sizes.at[upper].multiply(factor).at[lower].multiply(factor),
      'geom_pos': places.at[lower].multiply(factor),
    }

  return shrink
