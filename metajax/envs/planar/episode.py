"""An episode in a planar scene: how it begins, goes on, and is judged."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from jax import Array
import jax.numpy as jnp

from metajax.envs.environment import (
  Env,
  EnvSpec,
  EnvState,
  PyTree,
  checked,
  first_state,
)
from metajax.envs.physics import ModelFields, Physics, PhysicsState
from metajax.envs.planar import arm as planar_arm
from metajax.envs.planar.arm import PlanarScene, PlanarTask


class Verdict(NamedTuple):
  """What a family says of one moment."""

  success: Array  # [] bool, ends the episode
  cost: Array | float = 0.0  # [] float32, beside that of the distance
  metrics: Mapping[str, Array] = {}  # beside those of all families
  memory: PyTree = ()  # what it keeps of the episode


def planar_env(
  scene: PlanarScene,
  world: Physics,
  build_task: Callable[[Array, Array], PlanarTask],
  begin: Callable[[PlanarTask, Array], PhysicsState],
  judge: Callable[[PlanarTask, PhysicsState, PyTree], Verdict],
  *,
  first_memory: PyTree = (),
  model_fields: Callable[[PlanarTask, PyTree], ModelFields] = (
    lambda task, memory: task.model_fields
  ),
) -> Env:
  """Builds the environment of a planar family.

  With the goal `G`, the tip `P` and `omega` the size of the workspace, the
  reward is `-(2 |(G - P) / omega| + cost)`.

  Args:
    scene: the scene's numbers.
    world: the physics of the effector and what it meets.
    build_task: `(points [n, 2], key) -> task` at one of the points.
    begin: `(task, start [3]) -> state`, all things in place, the effector at x,
      y (m) and angle (rad).
    judge: `(task, state, memory) -> verdict`, `memory` of a step earlier.
    first_memory: `memory` before an episode.
    model_fields: `(task, memory) -> arrays of the model` by name.

  Returns:
    The environment.
  """
  train, held_out = planar_arm.spread_points(scene.goal_low, scene.goal_high)

  def moment(task: PlanarTask, state: PhysicsState, memory: PyTree) -> EnvState:
    goal, tip = task.goal[:2], state.qpos[:2]
    verdict = judge(task, state, memory)
    success = verdict.success.astype(jnp.float32)
    away = planar_arm.normalised_distance(goal, tip)
    return EnvState(
      task=task,
      physics=state,
      observation=planar_arm.observe(scene, state),
      reward=-(2.0 * away + verdict.cost),
      done=verdict.success,
      metrics={
        'success': success,
        'sparse_reward': success,
        'goal_distance_m': jnp.linalg.norm(goal - tip),
        **verdict.metrics,
      },
      memory=verdict.memory,
    )

  def reset(task: PlanarTask, key: Array) -> EnvState:
    state = begin(task, planar_arm.sample_start(scene, task, key))
    state = planar_arm.place_links(scene, state)
    now = moment(task, state, first_memory)
    return first_state(task, state, now.observation, now.metrics, now.memory)

  def step(state: EnvState, action: Array) -> EnvState:
    task, memory = state.task, state.memory
    after = planar_arm.move(
      world, scene, state.physics, action, model_fields(task, memory)
    )
    return moment(task, after, memory)

  env = Env(
    spec=EnvSpec(
      name=scene.name,
      observation_size=4,
      action_size=3,
      horizon=planar_arm.HORIZON,
      control_period_s=planar_arm.CONTROL_PERIOD_S,
    ),
    sample_task=lambda key: build_task(train, key),
    sample_test_task=lambda key: build_task(held_out, key),
    reset=reset,
    step=step,
    model=world.model,
    holds_physics=world.needs_options,
  )
  return checked(env)
