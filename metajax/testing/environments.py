"""The contract that every environment keeps, for a user's own one too."""

from collections.abc import Callable, Sequence

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from metajax.core.compilation import compile_hot
from metajax.core.learner import PyTree
from metajax.core.validation import check_count
from metajax.envs.environment import Env, EnvState
from metajax.envs.rollout import Trajectory, rollout


def check_environment(
  env: Env,
  *,
  num_envs: int = 64,
  num_steps: int = 20,
  tolerance: float = 1e-4,
  silent_fields: Sequence[str] = (),
) -> None:
  """Checks that `env` keeps the contract of an environment.

  Under random actions: shapes and types are those of its `spec`; all numbers
  are finite; one compiled program serves all tasks and keys; a batch computes
  what one environment computes; equal tasks and keys give equal bits; every
  field of a task changes what happens; an environment that diverges ends its
  episode and begins anew alone, and no other one's bits change; and where the
  reward is told of observations, it is told right.

  Args:
    env: the environment.
    num_envs: how many to batch, each with its own task; at least 2.
    num_steps: control steps of each, at most the environment's horizon.
    tolerance: allowed difference, absolute and relative, between a step of
      one environment alone and the same step in a batch.
    silent_fields: leaves of the task that change nothing that is simulated,
      as `jax.tree_util.keystr` writes them: `.colour`. An `appearance` never
      does.

  Raises:
    AssertionError: if the contract is broken; the message says where.
    InputError: if `num_envs` or `num_steps` is out of its range.
  """
  check_count('num_envs', num_envs, minimum=2)
  check_count('num_steps', num_steps, minimum=2)
  num_steps = min(num_steps, env.spec.horizon)
  env, count_traces = _counting(env)
  task_keys = jax.random.split(jax.random.key(0), num_envs)
  tasks = jax.vmap(env.sample_task)(task_keys)
  seeds = jnp.arange(num_envs)
  nowhere = jnp.full((num_envs,), -1, jnp.int32)

  def episodes(task, seed, diverge_at):
    return rollout(
      env,
      _random_policy(env),
      task,
      jax.random.key(seed),
      memory=(diverge_at, jnp.zeros((), jnp.int32)),
      num_steps=num_steps,
      auto_reset=True,
    )

  def compiled(function):
    return compile_hot(function, holds_physics=env.holds_physics)

  batch = compiled(jax.vmap(episodes))
  trajectories = batch(tasks, seeds, nowhere)
  num_traces = count_traces()

  _check_layout(env, trajectories, (num_envs, num_steps))
  _check_observed_reward(env, trajectories, tolerance)
  _check_equal_bits(
    'equal tasks and keys', trajectories, batch(tasks, seeds, nowhere)
  )
  _check_fields_matter(
    lambda tasks: batch(tasks, seeds, nowhere), tasks, silent_fields
  )
  _check_diverges_alone(trajectories, batch(tasks, seeds, nowhere.at[0].set(1)))
  assert count_traces() == num_traces, (
    f'env.step was traced {count_traces() - num_traces} more times for new'
    ' values of the same shapes'
  )

  reset = compiled(
    jax.vmap(lambda task, seed: env.reset(task, jax.random.key(seed)))
  )
  _check_steps(
    reset(tasks, seeds),
    compiled(jax.vmap(env.step)),
    compiled(env.step),
    jnp.swapaxes(trajectories.actions, 0, 1),
    tolerance,
  )


def check_stays_finite(
  env: Env, *, num_envs: int = 64, num_steps: int = 1000
) -> None:
  """Checks that random actions never drive `env` to what is not finite.

  Episodes begin anew where they end, in a terminal state or at the horizon.
  Nothing guards the environment here, as `rollout` would.

  Args:
    env: the environment.
    num_envs: how many to batch, each with its own task.
    num_steps: control steps of each.

  Raises:
    AssertionError: naming the first step at which one of them was not finite.
    InputError: if `num_envs` or `num_steps` is not a count.
  """
  check_count('num_envs', num_envs)
  check_count('num_steps', num_steps)
  size, limit = env.spec.action_size, env.spec.action_limit

  def finite_steps(key_data: Array) -> Array:
    task_key, first_key, loop_key = jax.random.split(
      jax.random.wrap_key_data(key_data), 3
    )
    task = env.sample_task(task_key)

    def step(carry, step_key):
      state, time = carry
      action_key, reset_key = jax.random.split(
        jax.random.wrap_key_data(step_key)
      )
      action = jax.random.uniform(
        action_key, (size,), minval=-limit, maxval=limit
      )
      state = env.step(state, action)
      numbers = (state.observation, state.reward, state.metrics)
      is_finite = jnp.stack(
        [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(numbers)]
      )
      is_over = state.done | (time + 1 >= env.spec.horizon)
      state = jax.tree.map(
        lambda fresh, old: jnp.where(is_over, fresh, old),
        env.reset(task, reset_key),
        state,
      )
      return (state, jnp.where(is_over, 0, time + 1)), jnp.all(is_finite)

    keys = jax.random.key_data(jax.random.split(loop_key, num_steps))
    first = (env.reset(task, first_key), jnp.zeros((), jnp.int32))
    return jax.lax.scan(step, first, keys)[1]

  keys = jax.random.key_data(jax.random.split(jax.random.key(0), num_envs))
  is_finite = np.asarray(
    compile_hot(jax.vmap(finite_steps), holds_physics=env.holds_physics)(keys)
  )
  bad = np.argwhere(~is_finite.T)
  assert not len(bad), (
    f'{env.spec.name}: not finite at step {bad[0][0]} of environment'
    f' {bad[0][1]}, and in {len(bad)} of {is_finite.size} steps'
  )


def _counting(env: Env):
  """Returns `env` and a function that tells how often it was traced."""
  count = 0

  def step(state, action):
    nonlocal count
    count += 1
    return env.step(state, action)

  return env._replace(step=step), lambda: count


def _random_policy(env: Env):
  """Returns a policy of random actions that once answers with no number.

  Its memory is (the step at which that happens, steps made).
  """
  size, limit = env.spec.action_size, env.spec.action_limit

  def policy(observation: Array, memory: PyTree, key: Array):
    del observation
    diverge_at, time = memory
    action = jax.random.uniform(key, (size,), minval=-limit, maxval=limit)
    action = jnp.where(time == diverge_at, jnp.nan, action)
    return action, (diverge_at, time + 1)

  return policy


def _check_layout(
  env: Env, trajectories: Trajectory, axes: tuple[int, int]
) -> None:
  expected = {
    'observations': ((*axes, env.spec.observation_size), jnp.float32),
    'actions': ((*axes, env.spec.action_size), jnp.float32),
    'rewards': (axes, jnp.float32),
    'terminals': (axes, jnp.bool_),
    'valid': (axes, jnp.bool_),
    'times': (axes, jnp.int32),
  }
  arrays = trajectories._asdict()
  for name, array in arrays.pop('metrics').items():
    arrays[f'metrics[{name!r}]'] = array
    expected[f'metrics[{name!r}]'] = (axes, jnp.float32)
  for name, array in arrays.items():
    shape, dtype = expected[name]
    assert (array.shape, array.dtype) == (shape, dtype), (
      f'{name}: expected {dtype.__name__}{list(shape)}, got'
      f' {array.dtype}{list(array.shape)}'
    )


def _check_observed_reward(
  env: Env, trajectories: Trajectory, tolerance: float
) -> None:
  if env.observed_reward is None:
    return
  of_steps = jax.vmap(jax.vmap(env.observed_reward))
  told = of_steps(
    trajectories.observations[:, :-1],
    trajectories.actions[:, :-1],
    trajectories.observations[:, 1:],
  )
  # The observation after an episode's last step is not in the trajectory.
  within = trajectories.times[:, 1:] > trajectories.times[:, :-1]
  np.testing.assert_allclose(
    np.where(within, told, 0.0),
    np.where(within, trajectories.rewards[:, :-1], 0.0),
    rtol=tolerance,
    # A velocity told by two places: their rounding over a control period.
    atol=max(tolerance, 1e-6 / (env.spec.control_period_s or 1.0)),
    err_msg='env.observed_reward is not the reward',
  )


def _check_equal_bits(what: str, one: PyTree, other: PyTree) -> None:
  for (path, a), b in zip(
    jax.tree.leaves_with_path(one), jax.tree.leaves(other), strict=True
  ):
    assert np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True), (
      f'{what}: {jax.tree_util.keystr(path)} differs'
    )


def _check_fields_matter(
  roll_out: Callable[[PyTree], Trajectory],
  tasks: PyTree,
  silent_fields: Sequence[str],
) -> None:
  """Gives each environment its neighbour's value of one field at a time.

  The arrays of the model are one field: some only follow from others.
  """
  before = roll_out(tasks)
  leaves, structure = jax.tree.flatten(tasks)
  paths = [path for path, _ in jax.tree.leaves_with_path(tasks)]
  fields: dict[str, list[int]] = {}
  for i, path in enumerate(paths):
    name = jax.tree_util.keystr(path)
    name = '.model_fields' if name.startswith('.model_fields') else name
    fields.setdefault(name, []).append(i)
  for name, places in fields.items():
    if name in silent_fields or name.startswith(('.appearance', '.cameras')):
      continue
    changed = [
      jnp.roll(leaf, 1, axis=0) if i in places else leaf
      for i, leaf in enumerate(leaves)
    ]
    after = roll_out(structure.unflatten(changed))
    told = [
      jax.tree.leaves((x.rewards, x.observations, x.metrics))
      for x in (before, after)
    ]
    same = all(np.array_equal(a, b) for a, b in zip(*told, strict=True))
    assert not same, f'task{name}: changes no observation, reward or metric'


def _check_diverges_alone(before: Trajectory, after: Trajectory) -> None:
  """Checks the batch whose environment 0 diverged in row 1."""
  others = [
    jax.tree.map(lambda x: x[1:], trajectories)
    for trajectories in (before, after)
  ]
  _check_equal_bits('beside a diverged environment', *others)
  one = jax.tree.map(lambda x: np.asarray(x[0]), after)
  assert one.terminals[1], 'a diverged environment: its episode did not end'
  assert one.rewards[1] == 0.0, 'a diverged environment: its reward is not 0'
  for name in ('observations', 'rewards'):
    assert np.isfinite(getattr(one, name)).all(), (
      f'a diverged environment: its {name} are not finite'
    )
  assert (one.times[2:3] == 0).all(), (
    'a diverged environment: no fresh episode began after it'
  )


def _check_steps(
  states: EnvState,
  step_batch: Callable[[EnvState, Array], EnvState],
  step_one: Callable[[EnvState, Array], EnvState],
  actions: Array,
  tolerance: float,
) -> None:
  """Steps without a guard: finite, and alone as in a batch.

  The two are compared from equal states, for rounding grows in contact.
  """
  for actions_t in actions:
    first, first_action = jax.tree.map(lambda x: x[0], (states, actions_t))
    states = step_batch(states, actions_t)
    for name in ('observation', 'reward'):
      in_batch = np.asarray(getattr(states, name))
      assert np.isfinite(in_batch).all(), f'{name}: not finite'
      np.testing.assert_allclose(
        in_batch[0],
        getattr(step_one(first, first_action), name),
        rtol=tolerance,
        atol=tolerance,
        err_msg=f'{name}: differs between one environment and a batch',
      )
