"""Teachers of placing, pick-and-place and pushing, with either body."""

import functools

import jax
import numpy as np
import pytest

from metajax.core.compilation import compile_hot
from metajax.demos.teachers.hand import (
  hand_placing_teacher,
  hand_pushing_teacher,
)
from metajax.demos.teachers.placing import placing_teacher
from metajax.demos.teachers.pushing import pushing_teacher
from metajax.demos.teachers.teacher import run_teacher
from metajax.envs.environment import held_out
from metajax.envs.gripper_arm.demonstrator_hand import demonstrator_hand
from metajax.envs.gripper_arm.placing import pick_and_place, placing
from metajax.envs.gripper_arm.pushing import gripper_pushing

CASES = {
  'placing': (placing, placing_teacher, {'is_held': True, 'noise': 0.1}),
  'pick_and_place': (
    pick_and_place,
    placing_teacher,
    {'is_held': False, 'noise': 0.1},
  ),
  'gripper_pushing': (gripper_pushing, pushing_teacher, {'noise': 0.1}),
  'hand_placing': (
    functools.partial(demonstrator_hand, 'placing'),
    hand_placing_teacher,
    {'is_held': True},
  ),
  'hand_pick_and_place': (
    functools.partial(demonstrator_hand, 'pick_and_place'),
    hand_placing_teacher,
    {'is_held': False},
  ),
  'hand_gripper_pushing': (
    functools.partial(demonstrator_hand, 'gripper_pushing'),
    hand_pushing_teacher,
    {},
  ),
}


# One of each robot; the others are slow only together.
@pytest.mark.parametrize(
  'name',
  [
    name
    if name == 'gripper_pushing'
    else pytest.param(name, marks=pytest.mark.slow)
    for name in CASES
  ],
)
def test_teachers_succeed_on_held_out_things(name):
  make, teach, arguments = CASES[name]
  env = held_out(make(physics='c'))
  teacher = teach(env, **arguments)

  def show(seed):
    task_key, key = jax.random.split(jax.random.key(seed))
    return run_teacher(env, teacher, env.sample_task(task_key), key).states

  states = compile_hot(jax.vmap(show))(np.arange(24))
  # It succeeds, and is still successful when the episode ends.
  successes = np.asarray(states.metrics['success'])
  assert not successes[:, 0].any()
  assert successes[:, -1].mean() >= 0.95
  assert np.asarray(states.metrics['nearest_is_target'])[:, -1].all()
