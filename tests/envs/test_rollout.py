"""Rollouts against cases worked by hand."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.core.validation import InputError
from metajax.envs.environment import Env, EnvSpec, EnvState
from metajax.envs.navigation import NavigationTask, navigation
from metajax.envs.rollout import (
  Trajectory,
  episode_return,
  is_last_step,
  record_episode,
  rollout,
  whole_episodes,
)


def counter(horizon=6):
  """Counts its steps and pays the count; ends when it comes to its task."""

  def state_at(task, count, reward):
    return EnvState(
      task=task,
      physics=count,
      observation=count[None],
      reward=reward,
      done=count >= task,
    )

  def step(state, action):
    count = state.physics + action[0]
    return state_at(state.task, count, count)

  return Env(
    spec=EnvSpec('counter', 1, 1, horizon, 0.0),
    sample_task=lambda key: jax.random.randint(key, (), 1, 9) * 1.0,
    reset=lambda task, key: state_at(
      task, jnp.zeros(()), jnp.zeros(())
    ).replace(done=jnp.zeros((), bool)),
    step=step,
  )


def count_one(observation, memory, key):
  return jnp.ones((1,)), memory


def test_rows_after_the_end_are_masked():
  trajectory = rollout(counter(), count_one, jnp.array(3.0), jax.random.key(0))
  np.testing.assert_array_equal(
    trajectory.observations[:, 0], [0, 1, 2, 3, 3, 3]
  )
  np.testing.assert_array_equal(trajectory.rewards, [1, 2, 3, 0, 0, 0])
  np.testing.assert_array_equal(trajectory.terminals, [0, 0, 1, 0, 0, 0])
  np.testing.assert_array_equal(trajectory.valid, [1, 1, 1, 0, 0, 0])
  np.testing.assert_array_equal(trajectory.times, np.arange(6))
  assert episode_return(trajectory) == 6.0


def test_running_out_of_time_is_not_terminal():
  trajectory = rollout(counter(), count_one, jnp.array(9.0), jax.random.key(0))
  assert trajectory.valid.all()
  assert not trajectory.terminals.any()
  assert episode_return(trajectory) == 21.0


def test_fresh_episodes_after_terminal_states():
  trajectory = rollout(
    counter(),
    count_one,
    jnp.array(3.0),
    jax.random.key(0),
    num_steps=8,
    auto_reset=True,
  )
  np.testing.assert_array_equal(
    trajectory.observations[:, 0], [0, 1, 2, 0, 1, 2, 0, 1]
  )
  np.testing.assert_array_equal(trajectory.rewards, [1, 2, 3, 1, 2, 3, 1, 2])
  np.testing.assert_array_equal(trajectory.terminals, [0, 0, 1, 0, 0, 1, 0, 0])
  np.testing.assert_array_equal(trajectory.times, [0, 1, 2, 0, 1, 2, 0, 1])
  assert trajectory.valid.all()


def test_fresh_episodes_after_the_horizon():
  trajectory = rollout(
    counter(horizon=2),
    count_one,
    jnp.array(9.0),
    jax.random.key(0),
    num_steps=5,
    auto_reset=True,
  )
  np.testing.assert_array_equal(trajectory.rewards, [1, 2, 1, 2, 1])
  np.testing.assert_array_equal(trajectory.times, [0, 1, 0, 1, 0])
  assert not trajectory.terminals.any()


@pytest.mark.parametrize('auto_reset', [False, True])
def test_what_is_not_finite_ends_the_episode(auto_reset):
  def policy(observation, memory, key):
    return jnp.where(observation == 2, jnp.nan, 1.0), memory

  trajectory = rollout(
    counter(),
    policy,
    jnp.array(9.0),
    jax.random.key(0),
    auto_reset=auto_reset,
  )
  np.testing.assert_array_equal(trajectory.terminals[:3], [0, 0, 1])
  np.testing.assert_array_equal(trajectory.rewards[:3], [1, 2, 0])
  assert jnp.isfinite(trajectory.observations).all()
  if auto_reset:
    np.testing.assert_array_equal(
      trajectory.observations[:, 0], [0, 1, 2, 0, 1, 2]
    )
    assert trajectory.valid.all()
  else:
    np.testing.assert_array_equal(trajectory.valid, [1, 1, 1, 0, 0, 0])


def test_memory_and_keys_go_from_step_to_step():
  def policy(observation, memory, key):
    return jnp.ones((1,)) * memory, memory + 1

  trajectory = rollout(
    counter(), policy, jnp.array(99.0), jax.random.key(0), memory=jnp.array(0.0)
  )
  np.testing.assert_array_equal(trajectory.actions[:, 0], np.arange(6))

  def draw(observation, memory, key):
    return jax.random.uniform(key, (1,)), memory

  actions = rollout(
    counter(), draw, jnp.array(99.0), jax.random.key(0)
  ).actions[:, 0]
  assert all(a != b for a, b in itertools.combinations(actions.tolist(), 2))


def test_batches_equal_single_rollouts():
  env = navigation(horizon=30)

  def policy(observation, memory, key):
    return jax.random.uniform(key, (2,), minval=-1.0), memory

  def one(goal, seed):
    return rollout(env, policy, NavigationTask(goal), jax.random.key(seed))

  goals = jax.random.uniform(jax.random.key(0), (3, 2), minval=-0.3)
  seeds = jnp.arange(12).reshape(3, 4)
  batch = jax.vmap(jax.vmap(one, (None, 0)))(goals, seeds)
  for i, j in ((0, 0), (1, 3), (2, 1)):
    single = one(goals[i], seeds[i, j])
    jax.tree.map(
      lambda a, b, i=i, j=j: np.testing.assert_allclose(
        a[i, j], b, rtol=1e-5, atol=1e-6
      ),
      batch,
      single,
    )


def test_steps_past_the_horizon_are_refused():
  with pytest.raises(InputError, match='num_steps: expected at most .* got 7'):
    rollout(
      counter(), count_one, jnp.array(3.0), jax.random.key(0), num_steps=7
    )


def rows(**arrays):
  length = len(arrays['times'])
  return Trajectory(
    observations=jnp.zeros((length, 1)),
    actions=jnp.zeros((length, 1)),
    rewards=jnp.arange(1.0, length + 1),
    terminals=jnp.array(arrays['terminals'], bool),
    valid=jnp.array(arrays.get('valid', [1] * length), bool),
    times=jnp.array(arrays['times'], jnp.int32),
  )


def test_the_return_is_that_of_the_first_episode():
  trajectory = rows(times=[0, 1, 2, 0, 1], terminals=[0, 0, 1, 0, 0])
  assert episode_return(trajectory) == 1 + 2 + 3
  out_of_time = rows(times=[0, 1, 0, 1, 0], terminals=[0] * 5)
  assert episode_return(out_of_time) == 1 + 2
  masked = rows(times=[0, 1, 2, 3], terminals=[0, 1, 0, 0], valid=[1, 1, 0, 0])
  assert episode_return(masked) == 1 + 2


def test_last_steps_and_whole_episodes():
  trajectory = rows(times=[0, 1, 2, 0, 1], terminals=[0, 0, 1, 0, 0])
  np.testing.assert_array_equal(is_last_step(trajectory), [0, 0, 1, 0, 1])
  np.testing.assert_array_equal(
    whole_episodes(trajectory, horizon=9).valid, [1, 1, 1, 0, 0]
  )
  # Cut by its own horizon, the last episode is whole.
  np.testing.assert_array_equal(
    whole_episodes(trajectory, horizon=2).valid, [1] * 5
  )


def test_recorded_episodes_keep_every_state():
  states = jax.vmap(
    lambda task, seed: record_episode(
      counter(), count_one, task, jax.random.key(seed)
    )
  )(jnp.array([3.0, 9.0]), jnp.arange(2))
  np.testing.assert_array_equal(
    states.physics, [[0, 1, 2, 3, 3, 3, 3], [0, 1, 2, 3, 4, 5, 6]]
  )
