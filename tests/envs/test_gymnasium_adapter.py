"""Our environments behind Gymnasium's vector interface."""

import importlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.core.validation import InputError
from metajax.envs.locomotion.goals import half_cheetah
from metajax.envs.navigation import navigation

gymnasium = pytest.importorskip('gymnasium')

from metajax.envs.gymnasium_adapter import VectorEnv  # noqa: E402

HORIZON = 6


@pytest.fixture
def envs():
  return VectorEnv(navigation(horizon=HORIZON), 4)


def test_spaces_hold_what_comes(envs):
  observations, info = envs.reset(seed=0)
  assert envs.observation_space.contains(observations)
  assert info == {}
  actions = envs.action_space.sample()
  observations, rewards, terminated, truncated, _ = envs.step(actions)
  assert envs.observation_space.contains(observations)
  for array, dtype in (
    (rewards, np.floating),
    (terminated, np.bool_),
    (truncated, np.bool_),
  ):
    assert array.shape == (4,)
    assert np.issubdtype(array.dtype, dtype)


def test_gymnasiums_own_wrapper_counts_episodes(envs):
  counted = gymnasium.wrappers.vector.RecordEpisodeStatistics(envs)
  counted.reset(seed=0)
  lengths = []
  actions = np.zeros((4, 2), np.float32)
  for _ in range(2 * (HORIZON + 1)):
    info = counted.step(actions)[-1]
    if 'episode' in info:
      lengths.append(info['episode']['l'])
      # The walker stays, so every step costs the same.
      distance = np.linalg.norm(envs.tasks.goal, axis=1)
      np.testing.assert_allclose(
        info['episode']['r'], -HORIZON * distance, rtol=1e-5
      )
  np.testing.assert_array_equal(lengths, np.full((2, 4), HORIZON))


def test_truncated_episodes_begin_anew_on_the_next_step(envs):
  envs.reset(seed=0)
  goals = np.asarray(envs.tasks.goal)
  right = np.ones((4, 2), np.float32)
  for time in range(HORIZON):
    observations, _, terminated, truncated, _ = envs.step(right)
    assert not terminated.any()
    assert truncated.all() == (time == HORIZON - 1)
  assert (observations > 0.1).all()
  observations, rewards, _, truncated, _ = envs.step(right)
  np.testing.assert_array_equal(observations, 0.0)
  np.testing.assert_array_equal(rewards, 0.0)
  assert not truncated.any()
  np.testing.assert_array_equal(envs.tasks.goal, goals)


def test_only_who_arrived_is_terminated(envs):
  goals = jnp.array([[0.1, 0.0], [0.4, 0.4], [0.4, 0.4], [-0.4, 0.4]])
  task = envs.env.sample_task(jax.random.key(0))
  envs.reset(seed=0, options={'tasks': task.replace(goal=goals)})
  right = np.tile(np.array([1.0, 0.0], np.float32), (4, 1))
  np.testing.assert_array_equal(envs.step(right)[2], [True] + 3 * [False])
  observations = envs.step(right)[0]
  np.testing.assert_allclose(observations[0], 0.0)
  assert (observations[1:, 0] > 0).all()


def test_new_tasks_come_with_new_episodes():
  envs = VectorEnv(navigation(horizon=2), 3, new_tasks=True)
  envs.reset(seed=1)
  goals = [np.asarray(envs.tasks.goal)]
  for _ in range(6):
    envs.step(np.zeros((3, 2), np.float32))
    goals.append(np.asarray(envs.tasks.goal))
  np.testing.assert_array_equal(goals[2], goals[0])
  assert (goals[3] != goals[0]).all()
  assert (goals[6] != goals[3]).all()


def test_each_environment_has_its_own_seed():
  """Environment i of seed s is environment 0 of seed s + i, physics or not."""
  env = half_cheetah(horizon=5, physics='c')
  actions = np.random.default_rng(0).uniform(-1, 1, (7, 3, 6))

  def observations(seed, num_envs, columns):
    envs = VectorEnv(env, num_envs)
    rows = [envs.reset(seed=seed)[0]]
    rows += [envs.step(row[columns])[0] for row in actions]
    return np.stack(rows)

  together = observations(3, 3, [0, 1, 2])
  np.testing.assert_array_equal(together, observations(3, 3, [0, 1, 2]))
  np.testing.assert_array_equal(together, observations([3, 4, 5], 3, [0, 1, 2]))
  alone = observations(5, 1, [2])
  np.testing.assert_allclose(together[:, 2], alone[:, 0], atol=1e-5)


def test_resets_without_seeds_go_on(envs):
  envs.reset(seed=0)
  first = np.asarray(envs.tasks.goal)
  envs.reset()
  assert (np.asarray(envs.tasks.goal) != first).any()
  second = np.asarray(envs.tasks.goal)
  envs.reset(seed=0)
  np.testing.assert_array_equal(envs.tasks.goal, first)
  envs.reset()
  np.testing.assert_array_equal(envs.tasks.goal, second)


def test_metrics_are_in_the_info():
  env = navigation()

  def step(state, action):
    state = env.step(state, action)
    return state.replace(metrics={'distance_m': state.observation[0]})

  def reset(task, key):
    return env.reset(task, key).replace(metrics={'distance_m': jnp.zeros(())})

  envs = VectorEnv(env._replace(reset=reset, step=step), 2)
  envs.reset(seed=0)
  info = envs.step(np.ones((2, 2), np.float32))[-1]
  np.testing.assert_allclose(info['distance_m'], 0.1, rtol=1e-5)
  np.testing.assert_array_equal(info['_distance_m'], True)


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (lambda envs: envs.reset(seed=[1, 2]), 'seed: .*4 integers'),
    (lambda envs: envs.reset(seed=-1), 'seed: .*>= 0'),
    (lambda envs: envs.reset(options={'task': 1}), 'options: .*tasks'),
    (
      lambda envs: envs.reset(
        options={'tasks': envs.env.sample_task(jax.random.key(0))}
      ),
      r'tasks: .*\[4, ...\]',
    ),
    (lambda envs: (envs.reset(), envs.step(np.zeros((4, 3)))), 'actions: '),
  ],
)
def test_what_does_not_fit_is_named(envs, call, message):
  with pytest.raises(InputError, match=message):
    call(envs)


def test_stepping_needs_a_reset(envs):
  with pytest.raises(gymnasium.error.ResetNeeded):
    envs.step(np.zeros((4, 2), np.float32))


def test_without_gymnasium_one_line_says_so(monkeypatch):
  monkeypatch.setitem(sys.modules, 'gymnasium', None)
  monkeypatch.delitem(sys.modules, 'metajax.envs.gymnasium_adapter')
  with pytest.raises(InputError, match='pip install'):
    importlib.import_module('metajax.envs.gymnasium_adapter')
