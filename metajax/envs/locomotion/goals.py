"""Legged bodies that are to run: where to, which way, how fast is the task."""

from collections.abc import Callable, Mapping
import dataclasses

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp

from metajax.core.validation import check_choice, check_count
from metajax.envs.environment import (
  Env,
  EnvState,
  PyTree,
  checked,
  first_state,
)
from metajax.envs.locomotion.bodies import (
  LeggedBody,
  ant_body,
  effort_reward,
  half_cheetah_body,
  mass_velocity,
  noisy_start,
  running_metrics,
  spec_of,
)
from metajax.envs.physics import Measurement

_GOALS = ('velocity', 'direction', 'position', 'sparse_position')
_SPARSE_RADIUS_M = 0.8
_POSITION_BONUS = 4.0
_CHEETAH_MAX_VELOCITY_M_PER_S = 2.0
_CHEETAH_GOAL_DISTANCES_M = (1.0, 2.0)
_ANT_MAX_VELOCITY_M_PER_S = 3.0
# Keeps the ant from ending an episode whose every step costs it something.
_ANT_VELOCITY_BONUS = 1.0
_ANT_GOAL_DISTANCE_M = 2.0


@struct.dataclass
class LocomotionTask:
  """What to do, and the body and ground to do it with."""

  # [] float32: m/s; -1 and +1 for backward and forward; the half-cheetah's x,
  # m. [2] float32: the ant's x and y, m.
  goal: Array
  # Arrays of the model by name, of this task alone; {}: the model as it is.
  model_fields: Mapping[str, Array] = dataclasses.field(default_factory=dict)


def half_cheetah(
  goal: str = 'velocity', horizon: int = 200, *, physics: str = 'mjx'
) -> Env:
  """Builds the half-cheetah (Finn 2018, section 4.6.3; Duan et al. 2016).

  With `v` the x-velocity (m/s) and `x` the x-position (m) of the body's centre
  of mass after the step, and `a` the action, clipped to [-1, 1]:

    velocity:   `r = -|v - goal| - 0.05 ||a||^2`,  `goal ~ U[0, 2]` m/s
    direction:  `r = goal v - 0.05 ||a||^2`,       `goal` -1 or +1, equiprobable
    position:   `r = 4 - |x - goal| - 0.05 ||a||^2`,  `|goal| ~ U[1, 2]` m, on
      either side with the same probability
    sparse_position:  the same within 0.8 m of the goal; else the distance is
      that at the episode's start

  The last two are the ant's of Mendonca et al. (2019), on a line.

  Control and physics run at 100 Hz. An episode never ends before its horizon.
  It starts in the standing pose with noise N(0, 0.01^2) on positions and
  N(0, 0.1^2) on velocities. `v` is computed from the bodies' velocities, not
  from differences of positions.

  The observation [20] is the positions without x (8: m, then rad), the
  velocities (9), the centre of mass (3, m). It does not tell the goal.

  Metrics: `forward_velocity_m_per_s`, `forward_position_m`; with a goal
  position `distance_m` and `success`, within 0.8 m.

  Args:
    goal: `velocity`, `direction`, `position` or `sparse_position`.
    horizon: control steps in an episode.
    physics: name of the engine, `mjx` or `c`.

  Returns:
    The environment; its tasks are `LocomotionTask`, whose `model_fields` may
    change the body (`actuator_gear`) and the ground (`pair_friction`).

  Raises:
    InputError: if an argument is out of its range.
  """
  check_choice('goal', goal, _GOALS)

  def sample_place(key: Array) -> Array:
    side_key, distance_key = jax.random.split(key)
    nearest, farthest = _CHEETAH_GOAL_DISTANCES_M
    distance = jax.random.uniform(distance_key, minval=nearest, maxval=farthest)
    return jax.random.rademacher(side_key, (), jnp.float32) * distance

  return _running_env(
    half_cheetah_body(physics),
    goal,
    horizon,
    _goal_sampler(goal, _CHEETAH_MAX_VELOCITY_M_PER_S, sample_place),
    velocity_bonus=0.0,
  )


def ant(
  goal: str = 'velocity', horizon: int = 200, *, physics: str = 'mjx'
) -> Env:
  """Builds the ant (Finn 2018, section 4.6.3; Mendonca et al. 2019).

  A ball on four legs of two joints each. With `v` the x-velocity (m/s) and `x`
  the x- and y-position (m) of the body's centre of mass after the step, and
  `a` the action, clipped to [-1, 1] (motors of 150 N m):

    velocity:   `r = 1 - |v - goal| + e`,  `goal ~ U[0, 3]` m/s
    direction:  `r = goal v + e`,          `goal` -1 or +1, equiprobable
    position:   `r = 4 - ||x - goal||_1 + e`,  the goal lies 2 m away at an
      angle from U[0, 90] degrees
    sparse_position:  the same within 0.8 m of the goal (Euclidean); else the
      distance is that at the episode's start

  with `e = 0.05 - 0.005 ||a||^2`. Control runs at 50 Hz, two time steps each.
  An episode ends when the torso's height leaves [0.2, 1.0] m. It starts with
  noise N(0, 0.01^2) on positions and N(0, 0.1^2) on velocities.

  The observation [41] is the positions (15), the velocities (14), the torso's
  rotation matrix (9), the centre of mass (3, m). It does not tell the goal.
  The published observation also has 84 clipped contact forces, and the reward
  a cost of 0.0005 on their squares: both are left out, for contact forces are
  not what engines agree on. All goals share one body; the published ant of
  the position goals has motors of 30 N m, 100 Hz and episodes half as long in
  time.

  Metrics: `forward_velocity_m_per_s`, `forward_position_m`; with a goal
  position `distance_m` and `success`, within 0.8 m.

  Args:
    goal: `velocity`, `direction`, `position` or `sparse_position`.
    horizon: control steps in an episode.
    physics: name of the engine, `mjx` or `c`.

  Returns:
    The environment; its tasks are `LocomotionTask`.

  Raises:
    InputError: if an argument is out of its range.
  """
  check_choice('goal', goal, _GOALS)

  def sample_place(key: Array) -> Array:
    angle = jax.random.uniform(key, maxval=jnp.pi / 2)
    return _ANT_GOAL_DISTANCE_M * jnp.stack([jnp.cos(angle), jnp.sin(angle)])

  return _running_env(
    ant_body(physics),
    goal,
    horizon,
    _goal_sampler(goal, _ANT_MAX_VELOCITY_M_PER_S, sample_place),
    velocity_bonus=_ANT_VELOCITY_BONUS,
  )


def _goal_sampler(
  goal: str,
  max_velocity: float,
  sample_place: Callable[[Array], Array],
) -> Callable[[Array], Array]:
  """Returns `(key) -> goal` of one kind of goal.

  Args:
    goal: the kind.
    max_velocity: m/s, the greatest goal velocity; the least is 0.
    sample_place: `(key) -> place`, m, where a goal position may be.
  """
  if goal == 'velocity':
    return lambda key: jax.random.uniform(key, maxval=max_velocity)
  if goal == 'direction':
    return lambda key: jax.random.rademacher(key, (), jnp.float32)
  return sample_place


def _running_env(
  body: LeggedBody,
  goal: str,
  horizon: int,
  sample_goal: Callable[[Array], Array],
  *,
  velocity_bonus: float,
) -> Env:
  """Builds the environment of one body and one kind of goal."""
  check_count('horizon', horizon)
  has_place = goal in ('position', 'sparse_position')

  def offset_to(task: LocomotionTask, measured: Measurement) -> Array:
    place = jnp.ravel(task.goal)
    return measured.subtree_com[1, : place.shape[0]] - place

  def metrics_of(
    task: LocomotionTask, measured: Measurement
  ) -> Mapping[str, Array]:
    metrics = dict(running_metrics(body, measured, task.model_fields))
    if has_place:
      distance = jnp.linalg.norm(offset_to(task, measured))
      metrics['distance_m'] = distance
      metrics['success'] = jnp.float32(distance <= _SPARSE_RADIUS_M)
    return metrics

  def progress(
    task: LocomotionTask, measured: Measurement, first_distance: PyTree
  ) -> Array:
    velocity = mass_velocity(body, measured, task.model_fields)[0]
    if goal == 'velocity':
      return velocity_bonus - jnp.abs(velocity - task.goal)
    if goal == 'direction':
      return task.goal * velocity
    offset = offset_to(task, measured)
    distance = jnp.sum(jnp.abs(offset))
    if goal == 'sparse_position':
      is_near = jnp.linalg.norm(offset) <= _SPARSE_RADIUS_M
      distance = jnp.where(is_near, distance, first_distance)
    return _POSITION_BONUS - distance

  def reset(task: LocomotionTask, key: Array) -> EnvState:
    state = noisy_start(body, key)
    measured = body.world.measure(state, model_fields=task.model_fields)
    return first_state(
      task,
      state,
      body.observe(state, measured),
      metrics=metrics_of(task, measured),
      # The distance at the start, m.
      memory=jnp.sum(jnp.abs(offset_to(task, measured))) if has_place else (),
    )

  def step(state: EnvState, action: Array) -> EnvState:
    task = state.task
    action = jnp.clip(action, -1.0, 1.0)
    next_physics, measured = body.world.step(
      state.physics,
      action,
      num_substeps=body.num_substeps,
      model_fields=task.model_fields,
    )
    return dataclasses.replace(
      state,
      physics=next_physics,
      observation=body.observe(next_physics, measured),
      reward=progress(task, measured, state.memory)
      + effort_reward(body, action),
      done=body.has_fallen(measured),
      metrics=metrics_of(task, measured),
    )

  env = Env(
    spec=spec_of(body, f'{body.name}_{goal}', horizon),
    sample_task=lambda key: LocomotionTask(goal=sample_goal(key)),
    reset=reset,
    step=step,
    model=body.model,
    holds_physics=body.world.needs_options,
  )
  return checked(env)
