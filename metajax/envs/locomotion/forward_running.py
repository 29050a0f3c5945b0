"""Running forward with a body, or on a ground, that is not always the same."""

from collections.abc import Callable
import dataclasses
import functools

from jax import Array
import jax.numpy as jnp

from metajax.envs.environment import Env, EnvState, Task, checked, first_state
from metajax.envs.locomotion.bodies import (
  LeggedBody,
  forward_reward,
  noisy_start,
  running_metrics,
  spec_of,
)
from metajax.envs.physics import ModelFields


def forward_running_env(
  body: LeggedBody,
  name: str,
  horizon: int,
  sample_task: Callable[[Array], Task],
  sample_test_task: Callable[[Array], Task],
  changes: Callable[..., tuple[Array, ModelFields]],
) -> Env:
  """Builds the environment of a body that runs forward while it changes.

  Args:
    body: the body.
    name: of the environment.
    horizon: control steps in an episode.
    sample_task: `(key) -> task`.
    sample_test_task: the same for held-out tasks.
    changes: `(task, time) -> (strengths, model_fields)`: what the torques are
      multiplied by at that control step, and the arrays of the model.

  Returns:
    The environment; its memory is the control steps since the start.
  """

  def reset(task: Task, key: Array) -> EnvState:
    state = noisy_start(body, key)
    time = jnp.zeros((), jnp.int32)
    _, model_fields = changes(task, time)
    measured = body.world.measure(state, model_fields=model_fields)
    return first_state(
      task,
      state,
      body.observe(state, measured),
      metrics=running_metrics(body, measured, model_fields),
      memory=time,  # control steps since the start
    )

  def step(state: EnvState, action: Array) -> EnvState:
    action = jnp.clip(action, -1.0, 1.0)
    strengths, model_fields = changes(state.task, state.memory)
    next_physics, measured = body.world.step(
      state.physics,
      strengths * action,
      num_substeps=body.num_substeps,
      model_fields=model_fields,
    )
    observation = body.observe(next_physics, measured)
    return dataclasses.replace(
      state,
      physics=next_physics,
      observation=observation,
      reward=forward_reward(body, state.observation, action, observation),
      metrics=running_metrics(body, measured, model_fields),
      memory=state.memory + 1,
    )

  env = Env(
    spec=spec_of(body, name, horizon),
    sample_task=sample_task,
    sample_test_task=sample_test_task,
    reset=reset,
    step=step,
    model=body.model,
    holds_physics=body.world.needs_options,
    observed_reward=functools.partial(forward_reward, body),
    scene_fields=lambda state: changes(state.task, state.memory)[1],
  )
  return checked(env)
