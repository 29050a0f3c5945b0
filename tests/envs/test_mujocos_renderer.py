"""Pictures against those of MuJoCo's own renderer, where it can be had.

It needs OSMesa (Debian: libosmesa6), which draws without a screen.
"""

import copy
import ctypes.util
import functools
import importlib

import jax
import numpy as np
import pytest

from metajax.core.compilation import compile_hot
from metajax.envs.camera import cameras_in
from metajax.envs.catalogue import FAMILIES, make_environment
from metajax.envs.views import camera_view

pytestmark = pytest.mark.skipif(
  ctypes.util.find_library('OSMesa') is None, reason='OSMesa is not installed'
)

HEIGHT, WIDTH = 48, 64
TASKS, MOMENTS = 10, 5
# One of each kind of body; the others are slow only together.
_FAST = (
  'half_cheetah_velocity',
  'ant_velocity',
  'half_cheetah_slope',
  'half_cheetah_pier',
  'reacher',
  'pusher',
  'arm_forces',
  'placing',
  'hand_gripper_pushing',
  'jaco_stack',
  'sawyer_peg_insert_side',
  'key2d',
  'reach3d',
  'rope',
  'table',
)
_SETTLING_STEPS = 4  # between two moments, under random actions


def bodies():
  return [
    name if name in _FAST else pytest.param(name, marks=pytest.mark.slow)
    for name in FAMILIES
  ]


def states_of(env):
  """States of random tasks under random actions, [tasks, moments]."""

  def episode(key):
    task_key, reset_key, action_key = jax.random.split(key, 3)
    state = env.reset(env.sample_task(task_key), reset_key)
    limit = env.spec.action_limit
    actions = jax.random.uniform(
      action_key,
      (MOMENTS, _SETTLING_STEPS, env.spec.action_size),
      minval=-limit,
      maxval=limit,
    )

    def moment(state, actions):
      last, _ = jax.lax.scan(
        lambda state, action: (env.step(state, action), None), state, actions
      )
      return last, state

    return jax.lax.scan(moment, state, actions)[1]

  program = compile_hot(jax.vmap(episode), holds_physics=env.holds_physics)
  return jax.device_get(program(jax.random.split(jax.random.key(5), TASKS)))


@functools.cache
def drawing_options():
  """Everything that the camera sees, and nothing else."""
  mujoco = importlib.import_module('mujoco')
  options = mujoco.MjvOption()
  options.geomgroup[:] = 1
  options.sitegroup[:] = 0
  options.tendongroup[:] = 0
  options.jointgroup[:] = 0
  options.actuatorgroup[:] = 0
  return options


def mujocos_pictures(renderer, model, physics, camera):
  """Returns the geom [height, width], -1 for none, and the depth in metres."""
  mujoco = importlib.import_module('mujoco')
  data = mujoco.MjData(model)
  data.qpos[:] = physics.qpos
  data.mocap_pos[:] = physics.mocap_pos
  data.mocap_quat[:] = physics.mocap_quat
  mujoco.mj_forward(model, data)
  renderer.update_scene(data, camera, drawing_options())
  renderer.enable_segmentation_rendering()
  ids, kinds = np.moveaxis(renderer.render(), -1, 0)
  renderer.disable_segmentation_rendering()
  renderer.enable_depth_rendering()
  depth_m = renderer.render().copy()
  renderer.disable_depth_rendering()
  is_geom = kinds == int(mujoco.mjtObj.mjOBJ_GEOM)
  return np.where(is_geom, ids, -1), depth_m


@pytest.mark.parametrize('name', bodies())
def test_segmentation_and_depth_are_those_of_mujocos_renderer(name):
  env = make_environment(name, physics='c')
  if env.model is None:
    pytest.skip('it has no body')
  mujoco = importlib.import_module('mujoco')
  states = states_of(env)
  camera = cameras_in(env.model)[-1]
  view = camera_view(env, camera, height=HEIGHT, width=WIDTH, shadows=False)
  pictures = jax.device_get(compile_hot(jax.vmap(jax.vmap(view)))(states))
  model = copy.copy(env.model)
  agreements, errors = [], []
  with mujoco.Renderer(model, HEIGHT, WIDTH) as renderer:
    for index in np.ndindex(TASKS, MOMENTS):
      state, picture = jax.tree.map(lambda x, i=index: x[i], (states, pictures))
      for field, values in env.fields_in(state).items():
        getattr(model, field)[:] = np.asarray(values)
      geoms, depth_m = mujocos_pictures(renderer, model, state.physics, camera)
      agrees = geoms == picture.segmentation
      agreements.append(agrees.mean())
      seen = agrees & (geoms >= 0)
      ratio = picture.depth_m[seen] / depth_m[seen]
      errors.append((np.abs(ratio - 1.0) > 0.01).mean())
  assert np.mean(agreements) > 0.97, np.round(agreements, 3)
  # The edge of a shape that a pixel's middle just touches is steep.
  assert np.mean(errors) < 0.002, np.round(errors, 4)
