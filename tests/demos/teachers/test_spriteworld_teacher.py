"""Experts of SpriteWorld go to the goal and around the obstacles."""

import jax
import numpy as np
import pytest

from metajax.core.validation import InputError
from metajax.demos.teachers.spriteworld import spriteworld_teacher
from metajax.demos.teachers.teacher import run_teacher
from metajax.envs.spriteworld.tabular import expected_visits, soft_values
from metajax.envs.spriteworld.world import build_spriteworld


@pytest.fixture(scope='module')
def world():
  return build_spriteworld()


@pytest.mark.parametrize('plan', ['soft', 'hard'])
def test_experts_reach_the_goal_around_obstacles(world, plan):
  teacher = spriteworld_teacher(world, plan)

  def show(key):
    task_key, episode_key = jax.random.split(key)
    task = world.sample(task_key, 'train')
    return run_teacher(world.env, teacher, task, episode_key).states.metrics

  metrics = jax.jit(jax.vmap(show))(jax.random.split(jax.random.key(0), 100))
  assert np.mean(metrics['success'].max(axis=1)) >= 0.95
  assert np.mean(metrics['obstacle'][:, 1:]) < 0.01


def test_the_soft_expert_is_where_the_table_says(world):
  """Visits of 1000 episodes against the forward pass."""
  task = world.sample(jax.random.key(2), 'train')
  teacher = spriteworld_teacher(world)
  keys = jax.random.split(jax.random.key(3), 1000)
  states = jax.jit(
    jax.vmap(lambda key: run_teacher(world.env, teacher, task, key).states)
  )(keys)
  on_goal = np.mean(np.asarray(states.metrics['success']), axis=0)
  rewards = world.rewards(task)
  _, policy = soft_values(world.model, rewards, world.env.spec.horizon)
  visits = expected_visits(world.model, policy, world.start(task))
  expected = np.asarray(visits)[:, np.asarray(rewards) == 5.0].sum(axis=1)
  np.testing.assert_allclose(on_goal, expected, atol=0.07)


def test_unknown_plans_are_named(world):
  with pytest.raises(InputError, match='plan: .*soft'):
    spriteworld_teacher(world, 'random')
