"""The environment: a simulated body and what is asked of it, as functions."""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any, NamedTuple

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from metajax.core.validation import InputError, is_traced, reject

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
    invariant: indices of observations that what follows does not depend on,
      as the way travelled over even ground. They grow without bound, so that
      models of the dynamics leave them out of what they are given.
  """

  name: str
  observation_size: int
  action_size: int
  horizon: int
  control_period_s: float
  action_limit: float = 1.0
  invariant: tuple[int, ...] = ()


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
  # Name to [] float32, what else this moment tells: `success` (1.0 or 0.0),
  # distances in m. Always the same names.
  metrics: Mapping[str, Array] = dataclasses.field(default_factory=dict)
  memory: PyTree = ()  # what the environment itself remembers from step to step


def first_state(
  task: Task,
  physics: PyTree,
  observation: Array,
  metrics: Mapping[str, Array] | None = None,
  memory: PyTree = (),
) -> EnvState:
  """Returns the state that an episode begins with: no reward yet, not done."""
  return EnvState(
    task=task,
    physics=physics,
    observation=observation,
    reward=jnp.zeros(()),
    done=jnp.zeros((), bool),
    metrics=metrics or {},
    memory=memory,
  )


class Env(NamedTuple):
  """A simulated robot with a distribution over tasks: pure functions of ONE.

  Attributes:
    spec: sizes and times.
    sample_task: `(key) -> task`. The task is data: a pytree of arrays.
    sample_test_task: `(key) -> task`, a held-out one: of shapes, joints or
      families that `sample_task` never draws. None where both would draw from
      the same distribution.
    scene_fields: `(state) -> arrays of the model` by name, as they are in that
      state, for whoever draws it. None: those of the task's `model_fields`.
    observed_reward: `(observation, action, next_observation) -> []` float32,
      the reward of a step as whoever predicts observations can tell it; None
      where observations do not tell it.
    reset: `(task, key) -> state`, at the start of an episode.
    step: `(state, action) -> state`, one control period later. `action` is
      `[action_size]` float32.
    model: the host's `mujoco.MjModel` behind the physics, for drawing; None
      for an environment without one.
    picture: `(state) -> [height, width, 3]` uint8, of an environment that is
      flat and without a model; None for any other.
    holds_physics: whether a program that steps it needs the compiler options
      for articulated bodies (`metajax.core.compilation`).
  """

  spec: EnvSpec
  sample_task: Callable[[Array], Task]
  reset: Callable[[Task, Array], EnvState]
  step: Callable[[EnvState, Array], EnvState]
  model: Any = None
  holds_physics: bool = False
  sample_test_task: Callable[[Array], Task] | None = None
  scene_fields: Callable[[EnvState], Mapping[str, Array]] | None = None
  observed_reward: Callable[[Array, Array, Array], Array] | None = None
  picture: Callable[[EnvState], Array] | None = None

  def fields_in(self, state: EnvState) -> Mapping[str, Array]:
    """Returns the arrays of the model that are this state's own."""
    if self.scene_fields is not None:
      return self.scene_fields(state)
    return getattr(state.task, 'model_fields', {})


def held_out(env: Env) -> Env:
  """Returns the environment with its held-out tasks in place of the others."""
  return env._replace(sample_task=env.sample_test_task or env.sample_task)


def checked(env: Env) -> Env:
  """Returns the environment with a door: what does not fit is named.

  Args:
    env: the environment.

  Returns:
    An environment whose `reset` raises `InputError` for a task of another
    family, and whose `step` does for an action of another size or, outside
    of any transformation, one that is not finite. Inside, an action that is
    not finite ends the episode (`metajax.envs.rollout.guarded_step`).
  """
  spec = env.spec
  like = jax.eval_shape(env.sample_task, jax.random.key(0))
  expected = _describe_task(like)

  def reset(task: Task, key: Array) -> EnvState:
    got = _describe_task(task)
    if got != expected:
      raise InputError(
        f'task: expected one of {spec.name}, {expected}, got {got}'
      )
    return env.reset(task, key)

  def step(state: EnvState, action: Array) -> EnvState:
    if jnp.shape(action) != (spec.action_size,):
      raise reject(
        'action',
        f'an array [{spec.action_size}] for {spec.name}',
        jnp.shape(action),
      )
    if not is_traced(action) and not np.isfinite(np.asarray(action)).all():
      raise reject('action', 'finite numbers', np.asarray(action).tolist())
    return env.step(state, action)

  return env._replace(reset=reset, step=step)


def _describe_task(task: Task) -> str:
  """Returns a task's type and the shapes of its leaves, in one line.

  Arrays of the model are left out: a user may add any of them to a task, and
  the physics checks them.
  """
  leaves = [
    f'{jax.tree_util.keystr(path).lstrip(".")}{list(jnp.shape(leaf))}'
    for path, leaf in jax.tree.leaves_with_path(task)
  ]
  own = [leaf for leaf in leaves if not leaf.startswith('model_fields')]
  kind = 'Array' if hasattr(task, 'shape') else type(task).__name__
  return f'{kind}({", ".join(own)})'


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
