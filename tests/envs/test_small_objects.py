"""At 64 x 64 pixels, the camera near the work hides nothing of 3 cm."""

import jax
import numpy as np
import pytest

from metajax.core.compilation import compile_hot
from metajax.envs.catalogue import FAMILIES, make_environment
from metajax.envs.views import camera_view

SMALLEST_M = 0.03
TASKS = 20
SIZE, FINER = 64, 4
# One of each robot; the others take long only together.
_FAST = ('pusher', 'gripper_pushing', 'jaco_lift', 'sawyer_push')
_NEAR = ('pusher', 'placing', 'pick_and_place', 'gripper_pushing', 'hand_')
_ARMS = [name for name in FAMILIES if name.startswith((*_NEAR, 'jaco', 'saw'))]


def places():
  return [
    name if name in _FAST else pytest.param(name, marks=pytest.mark.slow)
    for name in _ARMS
  ]


def extents_m(model, geom_sizes):
  """The least extent of each geom, [..., geoms]; a plane: none."""
  box, capsule, cylinder, sphere = 6, 3, 5, 2
  radius = 2.0 * geom_sizes[..., 0]
  least = {
    box: 2.0 * geom_sizes.min(axis=-1),
    capsule: radius,
    sphere: radius,
    cylinder: 2.0 * geom_sizes[..., :2].min(axis=-1),
  }
  return np.select(
    [model.geom_type == kind for kind in least], list(least.values())
  )


@pytest.mark.parametrize('name', places())
def test_what_is_as_large_as_3_cm_is_seen(name):
  env = make_environment(name, physics='c')
  coarse, fine = (
    camera_view(env, 'workspace', height=size, width=size, shadows=False)
    for size in (SIZE, FINER * SIZE)
  )

  def look(key):
    task_key, reset_key = jax.random.split(key)
    state = env.reset(env.sample_task(task_key), reset_key)
    fields = env.fields_in(state)
    sizes = fields.get('geom_size', env.model.geom_size)
    return coarse(state).segmentation, fine(state).segmentation, sizes

  program = compile_hot(jax.vmap(look), holds_physics=env.holds_physics)
  keys = jax.random.split(jax.random.key(0), TASKS)
  small, large, sizes = map(np.asarray, program(keys))
  geoms = np.arange(env.model.ngeom)
  pixels = (small[..., None] == geoms).sum(axis=(1, 2))
  areas = (large[..., None] == geoms).sum(axis=(1, 2)) / FINER**2
  # Of what another body hides, less than two pixels' worth may fall between
  # the rays.
  counts = (areas >= 2.0) & (extents_m(env.model, sizes) >= SMALLEST_M)
  assert counts.any()
  lost = [
    (env.model.geom(i).name, task, areas[task, i])
    for task, i in np.argwhere(counts & (pixels == 0))
  ]
  assert not lost
