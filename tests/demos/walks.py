"""A tiny environment with a teacher, and sets of its demonstrations.

A point walks to a goal. Of tasks that `can_fail`, an episode is a success only
with luck, which its key draws.
"""

import dataclasses
from typing import NamedTuple

import jax
from jax import Array
import jax.numpy as jnp

from metajax.demos.collection import collect_set
from metajax.demos.recipe import Recipe
from metajax.demos.teachers.teacher import Teacher
from metajax.envs.environment import Env, EnvSpec, first_state

HORIZON = 5


class Walk(NamedTuple):
  goal: Array  # [2] float32
  can_fail: Array  # [] bool


class Body(NamedTuple):
  place: Array  # [2] float32
  luck: Array  # [] float32, whether this episode may succeed
  nothing: Array  # [0] float32


def walking(*, impossible=False, offset=0.0) -> Env:
  def sample_task(key):
    goal_key, fail_key = jax.random.split(key)
    goal = jax.random.uniform(goal_key, (2,), minval=-0.3, maxval=0.3)
    return Walk(goal + offset, jax.random.bernoulli(fail_key))

  def metrics_of(task, body):
    near = jnp.linalg.norm(body.place - task.goal) < 0.1
    may = (body.luck > 0.5) | ~task.can_fail
    if impossible:
      may &= ~task.can_fail
    return {'success': (near & may).astype(jnp.float32)}

  def reset(task, key):
    place_key, luck_key = jax.random.split(key)
    body = Body(
      0.1 * jax.random.normal(place_key, (2,)),
      jax.random.uniform(luck_key),
      jnp.zeros((0,)),
    )
    return first_state(
      task,
      body,
      body.place,
      metrics_of(task, body),
      memory=jnp.zeros((), jnp.int32),
    )

  def step(state, action):
    body = state.physics._replace(
      place=state.physics.place + 0.2 * jnp.clip(action, -1.0, 1.0)
    )
    return dataclasses.replace(
      state,
      physics=body,
      observation=body.place,
      reward=-jnp.linalg.norm(body.place - state.task.goal),
      done=jnp.max(jnp.abs(body.place)) > 0.5,
      metrics=metrics_of(state.task, body),
      memory=state.memory + 1,
    )

  return Env(
    spec=EnvSpec('walking', 2, 2, HORIZON, 0.0),
    sample_task=sample_task,
    reset=reset,
    step=step,
    sample_test_task=lambda key: sample_task(key)._replace(
      goal=jnp.full((2,), 0.4)
    ),
  )


def guide() -> Teacher:
  def act(state, memory, key):
    del key
    way = 3.0 * (state.task.goal - state.physics.place)
    return jnp.clip(way, -1.0, 1.0), memory

  return Teacher('guide', lambda state, key: (), act)


RECIPE = Recipe(
  family='walking',
  num_tasks=5,
  num_validation_tasks=1,
  num_held_out_tasks=2,
  demos_per_task=3,
  execution_noise=0.2,
  keep_states=True,
  episodes_per_shard=4,
)


def recipe(**changes) -> Recipe:
  return dataclasses.replace(RECIPE, **changes)


def collect(path, wanted=RECIPE, *, env=None, **kwargs):
  """Returns what came of each shard."""
  env = walking() if env is None else env
  return list(collect_set(path, env, guide(), wanted, **kwargs))


def contents(path):
  """Returns file to bytes, of all but the lock."""
  return {
    str(file.relative_to(path)): file.read_bytes()
    for file in sorted(path.rglob('*'))
    if file.is_file() and file.name != '.lock'
  }
