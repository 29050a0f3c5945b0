"""Videos from elsewhere: the same things, and all else another."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.core.compilation import compile_hot
from metajax.core.validation import InputError
from metajax.envs.environment import held_out
from metajax.envs.gripper_arm.another_room import in_another_room
from metajax.envs.gripper_arm.demonstrator_hand import demonstrator_hand
from metajax.envs.views import camera_names, camera_view
from metajax.testing.environments import check_environment

NUM_TASKS = 200


@functools.cache
def here():
  return demonstrator_hand('gripper_pushing', physics='c')


@functools.cache
def elsewhere():
  return in_another_room(here())


@functools.cache
def tasks_of(split):
  env = elsewhere() if split == 'training' else held_out(elsewhere())
  keys = jax.random.split(jax.random.key(0), NUM_TASKS)
  return jax.device_get(jax.jit(jax.vmap(env.sample_task))(keys))


@pytest.mark.slow
def test_it_keeps_the_contract():
  silent = (
    ".model_fields['dof_M0']",
    ".model_fields['dof_invweight0']",
    ".model_fields['body_invweight0']",
    ".model_fields['body_subtreemass']",
  )
  check_environment(elsewhere(), num_envs=8, num_steps=20, silent_fields=silent)


def test_equal_keys_draw_the_same_things_and_the_same_episode():
  def episode(env, key):
    task_key, reset_key = jax.random.split(key)
    task = env.sample_task(task_key)
    state = env.reset(task, reset_key)
    return task.model_fields, env.step(state, jnp.full(7, 0.3)).observation

  envs = here(), elsewhere()
  program = compile_hot(
    lambda key: [episode(env, jax.random.clone(key)) for env in envs]
  )
  one, other = program(jax.random.key(3))
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
    np.testing.assert_array_equal(a, b)


def test_held_out_tables_are_two_that_training_never_has():
  table = here().model.geom('table').id
  looks = {
    split: {
      (int(seed), *map(float, colour))
      for seed, colour in zip(
        tasks_of(split).appearance.texture_seeds[:, table],
        tasks_of(split).appearance.geom_rgba[:, table],
        strict=True,
      )
    }
    for split in ('training', 'held out')
  }
  assert len(looks['training']) == 10
  assert len(looks['held out']) == 2
  assert not looks['training'] & looks['held out']
  for split in looks:
    seeds = tasks_of(split).appearance.texture_seeds
    others = np.delete(seeds, table, axis=1)
    assert not np.isin(seeds[:, table], others).any()


def test_the_tripod_stands_aside_and_has_the_table_in_its_picture():
  tripod = tasks_of('training').cameras['tripod']
  x, y, z = tripod.position.T
  azimuths = np.degrees(np.arctan2(y, x))
  assert 15 <= np.abs(azimuths).min() < 20
  assert 45 < np.abs(azimuths).max() <= 50.001
  assert 0.3 < (azimuths > 0).mean() < 0.7
  elevations = np.degrees(np.arctan2(z, np.hypot(x, y)))
  assert 27.999 < elevations.min() < 31
  assert 57 < elevations.max() < 60.001
  angles = np.degrees(tripod.fov_y_rad)
  assert angles.max() - angles.min() > 15
  # The middle of the table is the picture's, and the robot's focal length,
  # 42 degrees, is one among others.
  toward_table = -tripod.position / np.linalg.norm(
    tripod.position, axis=1, keepdims=True
  )
  np.testing.assert_allclose(-tripod.axes[:, :, 2], toward_table, atol=1e-5)
  assert angles.min() < 38 < 46 < angles.max()


def test_its_camera_is_one_among_the_scenes():
  env = elsewhere()
  assert camera_names(env) == ('overview', 'workspace', 'tripod')
  assert camera_names(here()) == ('overview', 'workspace')
  with pytest.raises(InputError, match='camera: expected one of overview, wor'):
    camera_view(here(), 'tripod', height=8, width=8)

  hidden = [
    name
    for i in range(env.model.ngeom)
    if (name := env.model.geom(i).name) not in ('', 'table')
  ]
  view = camera_view(env, 'tripod', height=9, width=9, hidden=tuple(hidden))

  def look(key):
    task_key, reset_key = jax.random.split(key)
    task = env.sample_task(task_key)
    picture = view(env.reset(task, reset_key))
    return picture, task.cameras['tripod']

  picture, tripod = compile_hot(look)(jax.random.key(1))
  assert picture.segmentation[4, 4] == env.model.geom('table').id
  np.testing.assert_allclose(
    picture.depth_m[4, 4], np.linalg.norm(tripod.position), rtol=1e-4
  )
