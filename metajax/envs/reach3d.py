"""A free-flying hand that reaches for a point in space."""

from collections.abc import Mapping
import dataclasses

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp

from metajax.envs.engines import load_model, make_physics
from metajax.envs.environment import (
  Env,
  EnvSpec,
  EnvState,
  checked,
  first_state,
)
from metajax.envs.physics import PhysicsState
from metajax.envs.planar.arm import (
  CONTROL_PERIOD_S,
  HORIZON,
  NUM_SUBSTEPS,
  spread_points,
)

MAX_SPEED_M_PER_S = 0.1

_GOAL_RANGE_M = 0.15
_START_DISTANCE_M = (0.05, 0.1)
_WORKSPACE_M = 0.25
_REACHED_M = 0.02


@struct.dataclass
class Reach3dTask:
  """Where the hand is to go."""

  goal: Array  # [3] float32, m, from the hand's home
  # Arrays of the model by name, of this task alone; {}: the model as it is.
  model_fields: Mapping[str, Array] = dataclasses.field(default_factory=dict)


def reach3d(*, physics: str = 'mjx') -> Env:
  """Builds Reach3D: a hand goes to an unseen point in space.

  The hand's position `P`, m from its home, moves with the commanded velocity:
  the action [3] is that velocity (1: 0.1 m/s). With the goal `G`,

    `r = -|G - P|`

  and success, `|G - P| < 20` mm, ends the episode. Of 50 goals spread over the
  cube of 0.3 m around home, 40 are for training and 10 are held out. An
  episode begins 50 to 100 mm from the goal, at rest. The hand stays within
  0.25 m of home along each axis.

  The observation [4] is `(P, 1)`, so that it and the action are as long as
  those of the planar families; it does not tell the goal. The control period is
  0.2 s, the horizon 60 steps (PERIL, submitted to ICLR 2021, whose robot arm is
  replaced by the hand alone; goals, speed and success are chosen).

  Metrics: `success`; `sparse_reward`, 1 at the goal and 0 elsewhere;
  `goal_distance_m`.

  Args:
    physics: name of the engine, `mjx` or `c`.

  Returns:
    The environment; its tasks are `Reach3dTask`.

  Raises:
    InputError: if there is no such engine.
  """
  model = load_model('reach3d.xml')
  world = make_physics(model, physics)
  home = jnp.asarray(model.body('hand').pos, jnp.float32)
  corner = [_GOAL_RANGE_M] * 3
  train, test = spread_points([-x for x in corner], corner)

  def build_task(points: Array, key: Array) -> Reach3dTask:
    return Reach3dTask(goal=jax.random.choice(key, points))

  def observe(state: PhysicsState) -> Array:
    return jnp.concatenate([state.qpos, jnp.ones((1,))])

  def measure(task: Reach3dTask, state: PhysicsState) -> dict[str, Array]:
    distance = jnp.linalg.norm(task.goal - state.qpos)
    success = (distance < _REACHED_M).astype(jnp.float32)
    return {
      'success': success,
      'sparse_reward': success,
      'goal_distance_m': distance,
    }

  def reset(task: Reach3dTask, key: Array) -> EnvState:
    distance_key, direction_key = jax.random.split(key)
    low, high = _START_DISTANCE_M
    distance = jax.random.uniform(distance_key, minval=low, maxval=high)
    way = jax.random.normal(direction_key, (3,))
    start = task.goal + distance * way / jnp.linalg.norm(way)
    state = world.reset(start, mocap_pos=(home + task.goal)[None])
    return first_state(task, state, observe(state), measure(task, state))

  def step(state: EnvState, action: Array) -> EnvState:
    task, before = state.task, state.physics
    # Slower where a step at that speed would leave the workspace.
    velocity = jnp.clip(
      MAX_SPEED_M_PER_S * jnp.clip(action, -1.0, 1.0),
      (-_WORKSPACE_M - before.qpos) / CONTROL_PERIOD_S,
      (_WORKSPACE_M - before.qpos) / CONTROL_PERIOD_S,
    )
    after, _ = world.step(
      before,
      velocity,
      num_substeps=NUM_SUBSTEPS,
      model_fields=task.model_fields,
    )
    metrics = measure(task, after)
    return dataclasses.replace(
      state,
      physics=after,
      observation=observe(after),
      reward=-metrics['goal_distance_m'],
      done=metrics['success'] > 0,
      metrics=metrics,
    )

  env = Env(
    spec=EnvSpec(
      name='reach3d',
      observation_size=4,
      action_size=3,
      horizon=HORIZON,
      control_period_s=CONTROL_PERIOD_S,
    ),
    sample_task=lambda key: build_task(train, key),
    sample_test_task=lambda key: build_task(test, key),
    reset=reset,
    step=step,
    model=model,
    holds_physics=world.needs_options,
  )
  return checked(env)
