"""The environment: a simulated body and what is asked of it, as functions."""

from collections.abc import Callable
import dataclasses
from typing import Any, NamedTuple

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp

PyTree = Any
Task = PyTree


class EnvSpec(NamedTuple):
  """Sizes and times of an environment; static, the same for all its tasks.

  Attributes:
    name: what the environment is called, for messages and files.
    observation_size: length of the observation vector.
    action_size: length of the action vector.
    horizon: control steps in an episode.
    control_period_s: simulated seconds between two actions; 0.0 if the
      environment has no physical time.
    action_limit: actions act within `[-action_limit, action_limit]`, each
      element; what lies outside is clipped by the environment.
  """

  name: str
  observation_size: int
  action_size: int
  horizon: int
  control_period_s: float
  action_limit: float = 1.0


@struct.dataclass
class EnvState:
  """One environment at one moment. Carries its task.

  `done` says that the episode has ended in a terminal state (a goal reached,
  a fall). Running out of time is not a terminal state and is not told here:
  whoever rolls out counts to `spec.horizon`.
  """

  task: Task  # pytree of arrays
  physics: PyTree  # pytree of arrays, the engine's own state
  observation: Array  # [observation_size] float32
  reward: Array  # [] float32, of the step that led here; 0 after a reset
  done: Array  # [] bool


class Env(NamedTuple):
  """A simulated robot with a distribution over tasks: pure functions of ONE.

  Attributes:
    spec: sizes and times.
    sample_task: `(key) -> task`. The task is data: a pytree of arrays.
    reset: `(task, key) -> state`, at the start of an episode.
    step: `(state, action) -> state`, one control period later. `action` is
      `[action_size]` float32.
    model: the host's `mujoco.MjModel` behind the physics, for drawing; None
      for an environment without one.
    holds_physics: whether a program that steps it needs the compiler options
      for articulated bodies (`metajax.core.compilation`).
  """

  spec: EnvSpec
  sample_task: Callable[[Array], Task]
  reset: Callable[[Task, Array], EnvState]
  step: Callable[[EnvState, Array], EnvState]
  model: Any = None
  holds_physics: bool = False


def reveal_task(env: Env) -> Env:
  """Returns the environment with the task's numbers in every observation.

  A policy trained on it needs no adaptation: it is the oracle that bounds what
  adapting can reach.

  Args:
    env: the environment.

  Returns:
    An environment whose observation ends with the leaves of its task, in the
    order of `jax.tree.leaves`.
  """
  task = jax.eval_shape(env.sample_task, jax.random.key(0))
  num_numbers = sum(leaf.size for leaf in jax.tree.leaves(task))

  def reveal(state: EnvState) -> EnvState:
    numbers = [jnp.ravel(leaf) for leaf in jax.tree.leaves(state.task)]
    return dataclasses.replace(
      state, observation=jnp.concatenate([state.observation, *numbers])
    )

  def hide(state: EnvState) -> EnvState:
    size = env.spec.observation_size
    return dataclasses.replace(state, observation=state.observation[:size])

  return env._replace(
    spec=env.spec._replace(
      name=f'{env.spec.name}_revealed',
      observation_size=env.spec.observation_size + num_numbers,
    ),
    reset=lambda task, key: reveal(env.reset(task, key)),
    step=lambda state, action: reveal(env.step(hide(state), action)),
  )
