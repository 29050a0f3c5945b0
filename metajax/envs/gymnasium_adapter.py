"""Our environments as Gymnasium's vector environments, for its many learners.

Needs Gymnasium (`pip install 'metajax[gymnasium]'`). What runs is compiled and
batched; only numpy arrays come out.
"""

from collections.abc import Sequence
from typing import Any

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from metajax.core.compilation import compile_hot
from metajax.core.learner import PyTree
from metajax.core.validation import InputError, check_count, reject
from metajax.envs.environment import Env, EnvState
from metajax.envs.rollout import guarded_step

try:
  import gymnasium
  from gymnasium.vector import utils
except ImportError:
  raise InputError(
    "gymnasium: expected it installed: pip install 'metajax[gymnasium]'"
  ) from None


class VectorEnv(gymnasium.vector.VectorEnv):
  """A batch of one family's environments, each with a task of its own.

  Episodes begin anew by themselves, on the step after their last
  (`AutoresetMode.NEXT_STEP`): that step ignores its action and has reward 0.
  An episode is terminated where the environment says `done`, truncated at its
  horizon. `info` holds the environment's metrics, `[num_envs]` each. An
  environment that diverges is terminated alone.

  Environment i depends on seed `seed + i` and its actions alone, whatever
  stands beside it.

  >>> import numpy as np
  >>> from metajax.envs.navigation import navigation
  >>> envs = VectorEnv(navigation(), 3)
  >>> observations, info = envs.reset(seed=0)
  >>> observations, rewards, *_ = envs.step(np.ones((3, 2), np.float32))
  >>> observations.shape, rewards.shape
  ((3, 2), (3,))

  Args:
    env: the environment.
    num_envs: how many.
    new_tasks: False: a task is drawn at `reset` and kept from episode to
      episode. True: every episode draws its own.

  Raises:
    InputError: if `num_envs` is not a count.
  """

  metadata = {  # noqa: RUF012
    'autoreset_mode': gymnasium.vector.AutoresetMode.NEXT_STEP,
    'render_modes': (),
  }

  def __init__(self, env: Env, num_envs: int, *, new_tasks: bool = False):
    check_count('num_envs', num_envs)
    self.env = env
    self.num_envs = num_envs
    limit = env.spec.action_limit
    self.single_observation_space = gymnasium.spaces.Box(
      -np.inf, np.inf, (env.spec.observation_size,), np.float32
    )
    self.single_action_space = gymnasium.spaces.Box(
      -limit, limit, (env.spec.action_size,), np.float32
    )
    self.observation_space = utils.batch_space(
      self.single_observation_space, num_envs
    )
    self.action_space = utils.batch_space(self.single_action_space, num_envs)
    self._batch = None  # (states, raw keys, steps made), None before a reset
    self._draw = jax.jit(
      jax.vmap(lambda raw_key: env.sample_task(_split(raw_key)[0]))
    )
    self._begin = compile_hot(
      jax.vmap(lambda task, raw_key: _begin(env, task, raw_key)),
      holds_physics=env.holds_physics,
    )
    self._advance = compile_hot(
      lambda batch, actions: _advance(env, new_tasks, batch, actions),
      holds_physics=env.holds_physics,
    )

  @property
  def tasks(self) -> PyTree:
    """The tasks of now, leaves [num_envs, ...]; None before a reset."""
    return None if self._batch is None else self._batch[0].task

  def reset(
    self,
    *,
    seed: int | Sequence[int] | None = None,
    options: dict[str, Any] | None = None,
  ) -> tuple[np.ndarray, dict[str, Any]]:
    """Begins all episodes anew.

    Args:
      seed: environment i begins from `seed + i`, or from its i-th; None: from
        seeds that go on from the last ones.
      options: `{'tasks': tasks}`, leaves [num_envs, ...], in place of drawn
        ones.

    Returns:
      The observations [num_envs, observation_size] and the metrics.

    Raises:
      InputError: if seeds, options or tasks do not fit.
    """
    unknown = set(options or ()) - {'tasks'}
    if unknown:
      raise reject('options', 'tasks alone', sorted(unknown))
    keys = self._keys(seed)
    if isinstance(seed, int | np.integer):
      super().reset(seed=int(seed))
    tasks = (options or {}).get('tasks')
    if tasks is None:
      tasks = self._draw(keys)
    sizes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(tasks)}
    if sizes - {(self.num_envs,)}:
      raise reject('tasks', f'leaves [{self.num_envs}, ...]', sorted(sizes))
    self._batch = self._begin(tasks, keys)
    states = self._batch[0]
    return np.asarray(states.observation), self._info(states)

  def step(
    self, actions: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
    """Makes one control step everywhere.

    Args:
      actions: [num_envs, action_size].

    Returns:
      Observations, rewards, terminated, truncated, metrics.

    Raises:
      InputError: if the actions have another shape.
      gymnasium.error.ResetNeeded: before the first reset.
    """
    if self._batch is None:
      raise gymnasium.error.ResetNeeded('call reset before step')
    expected = (self.num_envs, self.env.spec.action_size)
    if np.shape(actions) != expected:
      raise reject('actions', f'an array {list(expected)}', np.shape(actions))
    self._batch = self._advance(self._batch, jnp.asarray(actions, jnp.float32))
    states, _, times = self._batch
    terminated = np.asarray(states.done)
    truncated = (np.asarray(times) >= self.env.spec.horizon) & ~terminated
    return (
      np.asarray(states.observation),
      np.asarray(states.reward, np.float64),
      terminated,
      truncated,
      self._info(states),
    )

  def _keys(self, seed: int | Sequence[int] | None) -> Array:
    if seed is None:
      seed = int(self.np_random.integers(2**31))
    if isinstance(seed, int | np.integer):
      seeds = np.arange(self.num_envs) + seed
    else:
      seeds = np.asarray(seed)
    if seeds.shape != (self.num_envs,) or (seeds < 0).any():
      raise reject('seed', f'one or {self.num_envs} integers >= 0', seed)
    seeds = jnp.asarray(seeds % 2**32, jnp.uint32)
    return jax.vmap(lambda seed: jax.random.key_data(jax.random.key(seed)))(
      seeds
    )

  def _info(self, states: EnvState) -> dict[str, Any]:
    """Returns the metrics, with the masks of who has them: all."""
    info: dict[str, Any] = {}
    for name, values in states.metrics.items():
      info[name] = np.asarray(values)
      info[f'_{name}'] = np.ones((self.num_envs,), bool)
    return info


def _split(raw_key: Array) -> tuple[Array, Array, Array]:
  """Returns keys of an episode's task, of its reset, and of what follows.

  Keys are kept raw: JAX's check of key reuse takes every key that a program
  hands on for a used one.
  """
  task_key, reset_key, next_key = jax.random.split(
    jax.random.wrap_key_data(raw_key), 3
  )
  return task_key, reset_key, next_key


def _begin(
  env: Env, task: PyTree, raw_key: Array
) -> tuple[EnvState, Array, Array]:
  """Begins an episode: (state, raw key of the next one, steps made)."""
  _, reset_key, next_key = _split(raw_key)
  state = env.reset(task, reset_key)
  return state, jax.random.key_data(next_key), jnp.zeros((), jnp.int32)


def _advance(
  env: Env,
  new_tasks: bool,
  batch: tuple[EnvState, Array, Array],
  actions: Array,
) -> tuple[EnvState, Array, Array]:
  """Steps the episodes that go on, begins anew those that are over."""
  states, keys, times = batch
  is_over = states.done | (times >= env.spec.horizon)
  stepped = jax.vmap(lambda state, action: guarded_step(env, state, action))(
    states, actions
  )

  def with_fresh_ones() -> tuple[EnvState, Array, Array]:
    tasks = states.task
    if new_tasks:
      tasks = jax.vmap(lambda raw: env.sample_task(_split(raw)[0]))(keys)
    fresh = jax.vmap(lambda task, key: _begin(env, task, key))(tasks, keys)
    going_on = (stepped, keys, times + 1)
    select = jax.vmap(jnp.where)
    return jax.tree.map(
      lambda new, old: select(is_over, new, old), fresh, going_on
    )

  # A step in which nobody begins anew does not pay for it.
  return jax.lax.cond(
    jnp.any(is_over), with_fresh_ones, lambda: (stepped, keys, times + 1)
  )
