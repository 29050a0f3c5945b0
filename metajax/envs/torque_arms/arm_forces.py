"""Carrying a box to a goal while a force that nobody sees pulls it down."""

from collections.abc import Callable, Mapping
import dataclasses

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp

from metajax.core.validation import (
  InputError,
  check_choice,
  check_count,
  check_range,
)
from metajax.envs.engines import load_model, make_physics
from metajax.envs.environment import (
  Env,
  EnvSpec,
  EnvState,
  checked,
  first_state,
)
from metajax.envs.physics import Measurement, PhysicsState

_NUM_JOINTS = 7
_START_ANGLE_RAD = 0.5
_REWARDS = ('neg_squared_distance', 'neg_distance')
_ACTION_COST = 0.005
# Control steps for which one pull lasts.
SEGMENT_STEPS = 50
_TEST_PULL_FACTOR = 3.0
_SUCCESS_DISTANCE_M = 0.05
_GOAL_LOW_M, _GOAL_HIGH_M = (-0.1, -0.2, -0.5), (0.4, 0.2, 0.5)
_MAX_REACH_M = 0.9


@struct.dataclass
class ArmForcesTask:
  """How hard the box is pulled down, over time, and where it is to go."""

  # [segments] float32, m/s^2, one for every 50 steps: the force over the mass.
  pulls: Array
  goal: Array | None = None  # [3] float32, m; None: the model's own goal
  # Arrays of the model by name, of this task alone; {}: the model as it is.
  model_fields: Mapping[str, Array] = dataclasses.field(default_factory=dict)


def arm_forces(
  pull_range: tuple[float, float] = (0.1, 2.0),
  horizon: int = 500,
  *,
  redraw_pulls: bool = False,
  random_goals: bool = False,
  reward: str = 'neg_squared_distance',
  physics: str = 'mjx',
) -> Env:
  """Builds the arm under force perturbations (Nagabandi, Clavera et al. 2018).

  A seven-joint torque arm holds a box of 0.5 kg rigidly and is to bring it to
  a goal, while a downward force `f = 0.5 kg * g'` acts at the box's centre;
  there is no other gravity. With `p` the box's centre, which is the arm's end,
  `g` the goal and `a` the action in [-1, 1]:

    neg_squared_distance:   `r = -||p - g||^2`
    neg_distance:           `r = -||p - g|| - 0.005 ||a||^2`

  Training draws `g' ~ U(pull_range)` m/s^2 for a whole rollout or, with
  `redraw_pulls`, anew every 50 steps; held-out tasks pull with three times the
  largest of training (extrapolation: 3 N, where training reaches 1 N).

  The step is a success where the box is within 0.05 m of the goal. Control and
  physics run at 50 Hz; torques are `4 a` N m in the shoulder's pan and lift,
  `2 a` N m else. Every episode begins at rest with 0.5 rad in all joints and
  lasts to its horizon; a reset draws nothing.

  Observation [23]: joint angles (7, rad), goal (3, m), joint velocities (7,
  rad/s), the goal's own velocity (3, m/s, zero), box minus goal (3, m).

  Args:
    pull_range: least and largest `g'` of training, m/s^2.
    horizon: control steps in an episode.
    redraw_pulls: whether `g'` changes every 50 steps.
    random_goals: False: the goal is (0.3, 0.15, 0); True: uniform in x [-0.1,
      0.4], y [-0.2, 0.2], z [-0.5, 0.5], drawn in to 0.9 m from the shoulder.
      The shoulder stands at (0, -0.6, 0).
    reward: `neg_squared_distance` or `neg_distance`.
    physics: name of the engine, `mjx` or `c`.

  Returns:
    The environment; its tasks are `ArmForcesTask`. It tells `success` and
    `goal_distance_m`.

  Raises:
    InputError: if an argument is out of its range.
  """
  check_choice('reward', reward, _REWARDS)
  check_count('horizon', horizon)
  check_range('pull_range', pull_range, minimum=0.0, maximum=100.0)
  if len(pull_range) != 2 or pull_range[0] > pull_range[1]:
    raise InputError(f'pull_range: expected (least, largest), got {pull_range}')
  model = load_model('arm_forces.xml')
  world = make_physics(model, physics)
  box, end = model.body('held').id, model.site('tip').id
  box_mass = float(model.body('held').mass[0])
  own_goal = jnp.asarray(model.body('goal').pos, jnp.float32)
  shoulder = jnp.asarray(model.body('mount').pos, jnp.float32)
  num_segments = -(-horizon // SEGMENT_STEPS)

  def goal_of(task: ArmForcesTask) -> Array:
    return own_goal if task.goal is None else task.goal

  def observe(
    task: ArmForcesTask, state: PhysicsState, measured: Measurement
  ) -> Array:
    goal = goal_of(task)
    return jnp.concatenate(
      [
        state.qpos,
        goal,
        state.qvel,
        jnp.zeros((3,)),
        measured.site_xpos[end] - goal,
      ]
    )

  def metrics_of(task: ArmForcesTask, measured: Measurement):
    offset = measured.site_xpos[end] - goal_of(task)
    distance = jnp.linalg.norm(offset)
    return {
      'success': (distance < _SUCCESS_DISTANCE_M).astype(jnp.float32),
      'goal_distance_m': distance,
    }

  def sampler(low: float, high: float) -> Callable[[Array], ArmForcesTask]:
    def sample_task(key: Array) -> ArmForcesTask:
      pull_key, goal_key = jax.random.split(key)
      num_drawn = num_segments if redraw_pulls else 1
      pulls = jax.random.uniform(
        pull_key, (num_drawn,), minval=low, maxval=high
      )
      return ArmForcesTask(
        pulls=jnp.broadcast_to(pulls, (num_segments,)),
        goal=_sample_goal(goal_key, shoulder) if random_goals else None,
      )

    return sample_task

  def reset(task: ArmForcesTask, key: Array) -> EnvState:
    del key  # Every episode of a task begins alike.
    state = world.reset(
      jnp.full((_NUM_JOINTS,), _START_ANGLE_RAD),
      mocap_pos=goal_of(task)[None],
    )
    measured = world.measure(state, model_fields=task.model_fields)
    return first_state(
      task,
      state,
      observe(task, state, measured),
      metrics_of(task, measured),
      memory=jnp.zeros((), jnp.int32),
    )

  def observed_reward(obs_tm1: Array, action: Array, obs_t: Array) -> Array:
    del obs_tm1
    squared_distance = jnp.sum(jnp.square(obs_t[-3:]))
    if reward == 'neg_squared_distance':
      return -squared_distance
    action = jnp.clip(action, -1.0, 1.0)
    cost = _ACTION_COST * jnp.sum(jnp.square(action))
    return -jnp.sqrt(squared_distance) - cost

  def step(state: EnvState, action: Array) -> EnvState:
    task, time = state.task, state.memory
    action = jnp.clip(action, -1.0, 1.0)
    segment = jnp.minimum(time // SEGMENT_STEPS, num_segments - 1)
    forces = jnp.zeros((model.nbody, 6))
    next_physics, measured = world.step(
      state.physics,
      action,
      model_fields=task.model_fields,
      body_forces=forces.at[box, 2].set(-box_mass * task.pulls[segment]),
    )
    observation = observe(task, next_physics, measured)
    return dataclasses.replace(
      state,
      physics=next_physics,
      observation=observation,
      reward=observed_reward(state.observation, action, observation),
      metrics=metrics_of(task, measured),
      memory=time + 1,
    )

  strongest = _TEST_PULL_FACTOR * pull_range[1]
  env = Env(
    spec=EnvSpec(
      name='arm_forces',
      observation_size=2 * (_NUM_JOINTS + 3) + 3,
      action_size=model.nu,
      horizon=horizon,
      control_period_s=world.time_step_s,
    ),
    sample_task=sampler(*pull_range),
    reset=reset,
    step=step,
    model=model,
    holds_physics=world.needs_options,
    sample_test_task=sampler(strongest, strongest),
    observed_reward=observed_reward,
  )
  return checked(env)


def _sample_goal(key: Array, shoulder: Array) -> Array:
  """Draws a goal; the box's corners out of reach are drawn in."""
  goal = jax.random.uniform(
    key,
    (3,),
    minval=jnp.array(_GOAL_LOW_M),
    maxval=jnp.array(_GOAL_HIGH_M),
  )
  offset = goal - shoulder
  shrink = _MAX_REACH_M / jnp.maximum(jnp.linalg.norm(offset), _MAX_REACH_M)
  return shoulder + shrink * offset
