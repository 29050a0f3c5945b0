"""The teacher of the table makes the relations it is asked for."""

import jax
import numpy as np
import pytest

from metajax.demos.teachers.table import table_teacher
from metajax.demos.teachers.teacher import run_teacher
from metajax.envs.environment import held_out
from metajax.envs.table.arrangement import table


@pytest.mark.parametrize(
  ('num_relations', 'is_held_out'), [(1, True), (2, False)]
)
def test_the_teacher_succeeds(num_relations, is_held_out):
  env = table(num_relations, physics='c')
  env = held_out(env) if is_held_out else env
  teacher = table_teacher(env)

  def show(key):
    task_key, episode_key = jax.random.split(key)
    task = env.sample_task(task_key)
    return run_teacher(env, teacher, task, episode_key).states.metrics

  metrics = jax.jit(jax.vmap(show))(jax.random.split(jax.random.key(0), 8))
  assert np.mean(metrics['success'][:, 0]) == 0
  assert np.sum(metrics['success'][:, -1]) >= 7
  assert np.mean(metrics['stage'][:, -1]) >= num_relations * 7 / 8
