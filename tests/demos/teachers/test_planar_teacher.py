"""The planar scenes can be solved by who knows them."""

import jax
import numpy as np
import pytest

from metajax.core.compilation import compile_hot
from metajax.demos.teachers.planar import (
  insertion_teacher,
  key_teacher,
  reach3d_teacher,
  reach_teacher,
)
from metajax.demos.teachers.teacher import run_teacher
from metajax.envs.environment import held_out
from metajax.envs.planar.families import (
  key2d,
  peg2d,
  reach2d,
  stick2d,
)
from metajax.envs.reach3d import reach3d


@pytest.mark.parametrize(
  ('env', 'teacher'),
  [
    (reach2d(physics='c'), reach_teacher()),
    (reach3d(physics='c'), reach3d_teacher()),
    (peg2d(physics='c'), insertion_teacher()),
    (peg2d(1.0, physics='c'), insertion_teacher()),
    (held_out(stick2d(physics='c')), insertion_teacher()),
    (key2d(draws_angle=True, physics='c'), key_teacher()),
  ],
  ids=lambda x: getattr(x, 'name', '') or x.spec.name,
)
def test_a_teacher_succeeds(env, teacher):
  assert success_rate(env, teacher, 10) >= 0.9


@pytest.mark.slow
def test_a_teacher_succeeds_in_mjx():
  assert success_rate(peg2d(), insertion_teacher(), 4) == 1.0


def success_rate(env, teacher, count):
  tasks = jax.vmap(env.sample_task)(jax.random.split(jax.random.key(0), count))
  run = compile_hot(
    jax.vmap(lambda task, key: run_teacher(env, teacher, task, key).states),
    holds_physics=env.holds_physics,
  )
  states = run(tasks, jax.random.split(jax.random.key(1), count))
  return np.asarray(states.metrics['success'])[:, -1].mean()
