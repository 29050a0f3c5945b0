"""Legged bodies that are to run: which way, or how fast, is the task."""

from collections.abc import Mapping
import dataclasses

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp

from metajax.core.validation import check_choice, check_count
from metajax.envs.engines import load_model, make_physics
from metajax.envs.environment import (
  Env,
  EnvSpec,
  EnvState,
  checked,
  first_state,
)
from metajax.envs.physics import (
  Measurement,
  PhysicsState,
  field_of,
  tree_velocity,
)

_GOALS = ('direction', 'velocity')
_MAX_GOAL_VELOCITY_M_PER_S = 2.0
_POSITION_NOISE = 0.01
_VELOCITY_NOISE = 0.1
_CONTROL_COST = 0.05


@struct.dataclass
class LocomotionTask:
  """What to do, and the body and ground to do it with."""

  goal: Array  # [] float32, m/s; or -1 and +1 for backward and forward
  # Arrays of the model by name, of this task alone; {}: the model as it is.
  model_fields: Mapping[str, Array] = dataclasses.field(default_factory=dict)


def half_cheetah(
  goal: str = 'velocity', horizon: int = 200, *, physics: str = 'mjx'
) -> Env:
  """Builds the half-cheetah (Finn 2018, section 4.6.3; Duan et al. 2016).

  With `v` the x-velocity of the body's centre of mass after the step, m/s, and
  `a` the action, clipped to [-1, 1]:

    velocity:   `r = -|v - goal| - 0.05 ||a||^2`,  `goal ~ U[0, 2]` m/s
    direction:  `r = goal v - 0.05 ||a||^2`,       `goal` -1 or +1, equiprobable

  Control and physics run at 100 Hz. An episode never ends before its horizon.
  It starts in the standing pose with noise N(0, 0.01^2) on positions and
  N(0, 0.1^2) on velocities. `v` is computed from the bodies' velocities, not
  from differences of positions.

  The observation [20] is the positions without x (8: m, then rad), the
  velocities (9), the centre of mass (3, m). It does not tell the goal.

  Args:
    goal: `velocity` or `direction`.
    horizon: control steps in an episode.
    physics: name of the engine, `mjx` or `c`.

  Returns:
    The environment; its tasks are `LocomotionTask`, whose `model_fields` may
    change the body (`actuator_gear`) and the ground (`pair_friction`).

  Raises:
    InputError: if an argument is out of its range.
  """
  check_choice('goal', goal, _GOALS)
  check_count('horizon', horizon)
  model = load_model('half_cheetah.xml')
  world = make_physics(model, physics)
  initial_qpos = jnp.asarray(model.qpos0, jnp.float32)

  def observe(state: PhysicsState, measured: Measurement) -> Array:
    return jnp.concatenate(
      [state.qpos[1:], state.qvel, measured.subtree_com[1]]
    )

  def sample_task(key: Array) -> LocomotionTask:
    if goal == 'velocity':
      return LocomotionTask(
        goal=jax.random.uniform(key, maxval=_MAX_GOAL_VELOCITY_M_PER_S)
      )
    return LocomotionTask(goal=jax.random.rademacher(key, (), jnp.float32))

  def reset(task: LocomotionTask, key: Array) -> EnvState:
    position_key, velocity_key = jax.random.split(key)
    noise = _POSITION_NOISE * jax.random.normal(position_key, (model.nq,))
    state = world.reset(
      initial_qpos + noise,
      _VELOCITY_NOISE * jax.random.normal(velocity_key, (model.nv,)),
    )
    measured = world.measure(state, model_fields=task.model_fields)
    return first_state(task, state, observe(state, measured))

  def step(state: EnvState, action: Array) -> EnvState:
    task = state.task
    action = jnp.clip(action, -1.0, 1.0)
    next_physics, measured = world.step(
      state.physics, action, model_fields=task.model_fields
    )
    masses = field_of(world, 'body_mass', task.model_fields)
    velocity = tree_velocity(measured, masses)[0]
    if goal == 'velocity':
      progress = -jnp.abs(velocity - task.goal)
    else:
      progress = task.goal * velocity
    return state.replace(
      physics=next_physics,
      observation=observe(next_physics, measured),
      reward=progress - _CONTROL_COST * jnp.sum(jnp.square(action)),
    )

  env = Env(
    spec=EnvSpec(
      name=f'half_cheetah_{goal}',
      observation_size=model.nq - 1 + model.nv + 3,
      action_size=model.nu,
      horizon=horizon,
      control_period_s=world.time_step_s,
    ),
    sample_task=sample_task,
    reset=reset,
    step=step,
    model=model,
    holds_physics=world.needs_options,
  )
  return checked(env)
