"""Rolls a policy out in an environment, and what comes of it."""

from collections.abc import Callable, Mapping
import dataclasses
from typing import NamedTuple

import jax
from jax import Array
import jax.numpy as jnp

from metajax.core.learner import PyTree
from metajax.core.validation import check_count, reject
from metajax.envs.environment import Env, EnvState, Task

# (observation, memory, key) -> (action, memory)
Policy = Callable[[Array, PyTree, Array], tuple[Array, PyTree]]


class Trajectory(NamedTuple):
  """Steps in the order of time; row t is the step that `actions[t]` made.

  Attributes:
    observations: [T, observation_size] float32, what the policy saw.
    actions: [T, action_size] float32, what the policy answered, unclipped.
    rewards: [T] float32; 0 where not valid.
    terminals: [T] bool, whether this step ended the episode in a terminal
      state. Running out of time is not terminal.
    valid: [T] bool, whether the row is a real step. The other rows repeat
      the last state and count for nothing.
    times: [T] int32, the number of the step inside its episode, from 0.
    metrics: name to [T] float32, what the environment told after the step.
  """

  observations: Array
  actions: Array
  rewards: Array
  terminals: Array
  valid: Array
  times: Array
  metrics: Mapping[str, Array] = {}  # noqa: RUF012


def rollout(
  env: Env,
  policy: Policy,
  task: Task,
  key: Array,
  *,
  memory: PyTree = (),
  num_steps: int | None = None,
  auto_reset: bool = False,
) -> Trajectory:
  """Rolls `policy` out in one environment, as one `lax.scan`.

  It is written for one; `vmap` it over keys for episodes and over tasks:

  >>> import jax
  >>> from metajax.envs.navigation import navigation
  >>> env = navigation()
  >>> walk = lambda observation, memory, key: (
  ...   jax.random.uniform(key, (2,), minval=-1.0),
  ...   memory,
  ... )
  >>> task = env.sample_task(jax.random.key(0))
  >>> keys = jax.random.split(jax.random.key(1), 5)
  >>> episodes = jax.vmap(lambda key: rollout(env, walk, task, key))(keys)
  >>> episodes.observations.shape
  (5, 100, 2)

  An environment whose state is no longer finite (diverged physics) ends its
  episode there: that step is terminal, has reward 0, and leads to the state
  before it.

  Args:
    env: the environment.
    policy: `(observation, memory, key) -> (action, memory)`.
    task: the task, a pytree of arrays.
    key: key of the whole rollout.
    memory: what the policy remembers at first. It is handed on from step to
      step, from one episode to the next too; `()` for a policy without one.
    num_steps: rows of the trajectory; `env.spec.horizon` if None.
    auto_reset: False: one episode, whose rows after its end are not valid.
      True: when an episode ends, in a terminal state or after
      `env.spec.horizon` steps, the next row begins a fresh one of the same
      task, so that all rows are valid.

  Returns:
    The trajectory, `num_steps` rows.

  Raises:
    InputError: if `num_steps` is not a count, or goes past the horizon
      without `auto_reset`.
  """
  horizon = env.spec.horizon
  num_steps = horizon if num_steps is None else num_steps
  check_count('num_steps', num_steps)
  if num_steps > horizon and not auto_reset:
    raise reject(
      'num_steps', f'at most the horizon ({horizon}), or auto_reset', num_steps
    )
  first_key, policy_key, reset_key = jax.random.split(key, 3)
  policy_keys = _split_for_scan(policy_key, num_steps)
  key_impl = jax.random.key_impl(key)
  state = env.reset(task, first_key)

  if not auto_reset:

    def step_episode(carry, key_and_time):
      state, memory = carry
      step_key, time = key_and_time
      step_key = jax.random.wrap_key_data(step_key, impl=key_impl)
      action, memory = policy(state.observation, memory, step_key)
      next_state = _select(
        state.done,
        dataclasses.replace(state, reward=jnp.zeros_like(state.reward)),
        guarded_step(env, state, action),
      )
      row = Trajectory(
        observations=state.observation,
        actions=action,
        rewards=next_state.reward,
        terminals=next_state.done & ~state.done,
        valid=~state.done,
        times=time,
        metrics=next_state.metrics,
      )
      return (next_state, memory), row

    times = jnp.arange(num_steps, dtype=jnp.int32)
    _, trajectory = jax.lax.scan(
      step_episode, (state, memory), (policy_keys, times)
    )
    return trajectory

  def step_episodes(carry, step_keys):
    state, memory, time = carry
    step_key, fresh_key = (
      jax.random.wrap_key_data(data, impl=key_impl) for data in step_keys
    )
    action, memory = policy(state.observation, memory, step_key)
    next_state = guarded_step(env, state, action)
    row = Trajectory(
      observations=state.observation,
      actions=action,
      rewards=next_state.reward,
      terminals=next_state.done,
      valid=jnp.ones((), bool),
      times=time,
      metrics=next_state.metrics,
    )
    is_over = next_state.done | (time + 1 >= horizon)
    next_state = _select(is_over, env.reset(task, fresh_key), next_state)
    return (next_state, memory, jnp.where(is_over, 0, time + 1)), row

  _, trajectory = jax.lax.scan(
    step_episodes,
    (state, memory, jnp.zeros((), jnp.int32)),
    (policy_keys, _split_for_scan(reset_key, num_steps)),
  )
  return trajectory


def record_episode(
  env: Env,
  policy: Policy,
  task: Task,
  key: Array,
  *,
  memory: PyTree = (),
) -> EnvState:
  """Rolls one episode out and keeps every state, for drawing.

  Args:
    env: the environment.
    policy: `(observation, memory, key) -> (action, memory)`.
    task: the task.
    key: key of the episode.
    memory: what the policy remembers at first.

  Returns:
    The states with a leading `[horizon + 1]` axis, the reset's first.
  """
  first_key, policy_key = jax.random.split(key)
  key_impl = jax.random.key_impl(key)
  first = env.reset(task, first_key)

  def step_episode(carry, step_key):
    state, memory = carry
    step_key = jax.random.wrap_key_data(step_key, impl=key_impl)
    action, memory = policy(state.observation, memory, step_key)
    next_state = guarded_step(env, state, action)
    next_state = _select(state.done, state, next_state)
    return (next_state, memory), next_state

  keys = _split_for_scan(policy_key, env.spec.horizon)
  _, states = jax.lax.scan(step_episode, (first, memory), keys)
  return jax.tree.map(
    lambda one, rest: jnp.concatenate([one[None], rest]), first, states
  )


def guarded_step(env: Env, state: EnvState, action: Array) -> EnvState:
  """Steps `env`; if what comes out is not finite, ends the episode instead.

  Args:
    env: the environment.
    state: its state.
    action: [action_size] float32.

  Returns:
    The next state or, where it holds a number that is not finite, `state`
    with `done` true and a reward of 0. Under `vmap` no other environment of
    the batch is touched.
  """
  next_state = env.step(state, action)
  return _select(
    _is_finite((next_state.physics, next_state.observation, next_state.reward)),
    next_state,
    dataclasses.replace(
      state,
      reward=jnp.zeros_like(state.reward),
      done=jnp.ones_like(state.done),
    ),
  )


def episode_return(trajectory: Trajectory) -> Array:
  """Sums the rewards of the first episode of each trajectory, undiscounted.

  Episodes that `auto_reset` begins later do not count: those that are over
  soon are more often among them, so that their mean would flatter a policy.

  Args:
    trajectory: rows along the last axis of its `rewards`; axes for tasks and
      episodes may stand in front.

  Returns:
    [...] float32, one sum a trajectory.
  """
  ended = jnp.cumsum(is_last_step(trajectory), axis=-1) > 0
  before = jnp.concatenate(
    [jnp.zeros_like(ended[..., :1]), ended[..., :-1]], axis=-1
  )
  counts = trajectory.valid & ~before
  return jnp.sum(jnp.where(counts, trajectory.rewards, 0.0), axis=-1)


def has_succeeded(trajectory: Trajectory, num_steps: int = 1) -> Array:
  """Says of each trajectory whether its first episode was a success.

  Args:
    trajectory: rows along the last axis of its `rewards`; axes for tasks and
      episodes may stand in front. Its environment tells `success`.
    num_steps: steps in which `success` must hold, not necessarily in a row.

  Returns:
    [...] bool.

  Raises:
    InputError: if the environment does not tell `success`.
  """
  if 'success' not in trajectory.metrics:
    raise reject('trajectory', 'the metric success', sorted(trajectory.metrics))
  successes = trajectory._replace(rewards=trajectory.metrics['success'])
  return episode_return(successes) >= num_steps


def is_last_step(trajectory: Trajectory) -> Array:
  """Says of each row whether it is the last of its episode.

  Args:
    trajectory: rows along the last axis of its `rewards`; axes for tasks and
      episodes may stand in front.

  Returns:
    [..., T] bool. The last row is always one, whether or not the episode was
    cut short there.
  """
  yes = jnp.ones_like(trajectory.valid[..., :1])
  next_begins = jnp.concatenate([trajectory.times[..., 1:] == 0, yes], axis=-1)
  next_is_empty = jnp.concatenate([~trajectory.valid[..., 1:], yes], axis=-1)
  return trajectory.terminals | next_begins | next_is_empty


def whole_episodes(trajectory: Trajectory, horizon: int) -> Trajectory:
  """Drops a last episode that the end of the trajectory cut short.

  Args:
    trajectory: rows along the last axis of its `rewards`, with `auto_reset`;
      axes for tasks and episodes may stand in front.
    horizon: steps after which an episode is whole though it did not end.

  Returns:
    The same rows; those of an episode cut short are not valid.
  """
  num_steps = trajectory.times.shape[-1]
  last_time = trajectory.times[..., -1:]
  is_cut = ~trajectory.terminals[..., -1:] & (last_time < horizon - 1)
  rows = jnp.broadcast_to(jnp.arange(num_steps), trajectory.times.shape)
  in_last = rows >= num_steps - 1 - last_time
  return trajectory._replace(valid=trajectory.valid & ~(is_cut & in_last))


def _select(condition: Array, on_true: PyTree, on_false: PyTree) -> PyTree:
  """Selects whole pytrees by one scalar condition."""
  return jax.tree.map(
    lambda a, b: jnp.where(condition, a, b), on_true, on_false
  )


def _is_finite(tree: PyTree) -> Array:
  """Returns [] bool, whether every floating-point number in `tree` is."""
  floats = [
    jnp.ravel(x)
    for x in jax.tree.leaves(tree)
    if jnp.issubdtype(x.dtype, jnp.inexact)
  ]
  return jnp.all(jnp.isfinite(jnp.concatenate(floats)))


def _split_for_scan(key: Array, num_steps: int) -> Array:
  """Splits a key into the raw data of one for each step of a scan.

  JAX's check of key reuse takes every vmapped scan over keys for a reuse.
  """
  return jax.random.key_data(jax.random.split(key, num_steps))
