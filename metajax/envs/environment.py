"""The environment: a simulated body and what is asked of it, as functions."""

from collections.abc import Callable
from typing import Any, NamedTuple

from flax import struct
from jax import Array

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
