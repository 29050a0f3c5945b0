"""The Sawyer's plans reach their goals, on training and held-out tasks."""

import jax
import jax.numpy as jnp
import pytest

from metajax.demos.teachers.sawyer import sawyer_teacher
from metajax.demos.teachers.sawyer_plans import AROUND_WALL, GUIDED_PLANS, PLANS
from metajax.demos.teachers.teacher import run_teacher
from metajax.envs.sawyer.around_wall import push_around_wall
from metajax.envs.sawyer.families import FAMILIES
from metajax.envs.sawyer.guided import guided_door, guided_push
from metajax.envs.sawyer.tasks import make_sawyer

NUM_TASKS = 8
# One for each kind of plan; the others are slow only together.
QUICK = ('push', 'pick_place', 'peg_insert_side', 'door_open', 'handle_pull')
ALL = [
  name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
  for name in FAMILIES
]


def successes(env, plan, sample_task):
  teacher = sawyer_teacher(env, plan)
  tasks = jax.vmap(sample_task)(jax.random.split(jax.random.key(0), NUM_TASKS))
  keys = jax.random.split(jax.random.key(1), NUM_TASKS)
  show = jax.jit(
    jax.vmap(lambda task, key: run_teacher(env, teacher, task, key).states)
  )
  return jnp.max(show(tasks, keys).metrics['success'], axis=1)


@pytest.mark.parametrize('name', ALL)
def test_every_family_can_be_done(name):
  env = make_sawyer(name, hide_goal=True, physics='c')
  assert jnp.all(successes(env, name, env.sample_test_task) == 1.0)


def test_there_is_a_plan_for_every_family():
  assert set(PLANS) == set(FAMILIES)


@pytest.mark.parametrize('make', [guided_push, guided_door])
def test_guided_tasks_can_be_done(make):
  env = make(physics='c')
  assert jnp.all(successes(env, GUIDED_PLANS[make.__name__], env.sample_task))


@pytest.mark.parametrize('split', ['sample_task', 'sample_test_task'])
def test_a_cube_is_carried_around_a_wall(split):
  env = push_around_wall(physics='c')
  assert jnp.all(successes(env, AROUND_WALL, getattr(env, split)) == 1.0)
