"""The rope's shapes can be reached by who plans through the simulator."""

import jax
import numpy as np

from metajax.demos.teachers.rope import rope_teacher
from metajax.demos.teachers.teacher import run_teacher
from metajax.envs.rope import rope


def test_a_teacher_reaches_the_shape():
  env = rope(3, physics='c')
  teacher = rope_teacher(env, num_samples=32, num_elites=6)
  tasks = jax.vmap(env.sample_task)(jax.random.split(jax.random.key(0), 4))
  keys = jax.random.split(jax.random.key(1), 4)
  states = jax.jit(
    jax.vmap(lambda task, key: run_teacher(env, teacher, task, key).states)
  )(tasks, keys)
  distances = np.asarray(states.metrics['shape_distance_m'])
  assert (distances[:, 0] > 0.1).all()
  assert (distances[:, -1] < 0.1).all()
