"""Rays against shapes, held to where points lie and to MuJoCo's own rays."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.envs.ray_casting import MEET, Vector, normal_at

SIZES = {
  'plane': (0.0, 0.0, 0.0),
  'sphere': (0.5, 0.0, 0.0),
  'capsule': (0.3, 0.6, 0.0),
  'ellipsoid': (0.3, 0.5, 0.7),
  'cylinder': (0.4, 0.5, 0.0),
  'box': (0.3, 0.4, 0.5),
}


def rays(number):
  """Rays from around the origin, most of them towards it."""
  generator = np.random.default_rng(0)
  origins = generator.normal(size=(number, 3)) * 1.2
  targets = generator.normal(size=(number, 3)) * 0.35
  directions = targets - origins
  directions /= np.linalg.norm(directions, axis=1, keepdims=True)
  return origins, directions


def is_outside(kind, size, point):
  side, height = np.hypot(point[0], point[1]), abs(point[2])
  match kind:
    case 'plane':
      return True
    case 'sphere':
      return np.linalg.norm(point) > size[0]
    case 'capsule':
      return np.hypot(side, max(height - size[1], 0.0)) > size[0]
    case 'ellipsoid':
      return np.linalg.norm(point / np.array(size)) > 1.0
    case 'cylinder':
      return side > size[0] or height > size[1]
    case 'box':
      return (np.abs(point) > size).any()


def vectors(rows):
  return Vector(*jnp.asarray(rows, jnp.float32).T)


@pytest.mark.parametrize('kind', MEET)
def test_rays_meet_a_shape_where_mujoco_says(kind):
  mujoco = importlib.import_module('mujoco')
  size = SIZES[kind]
  text = ' '.join(map(str, size if kind != 'plane' else (0, 0, 1)))
  model = mujoco.MjModel.from_xml_string(
    f'<mujoco><worldbody><geom type="{kind}" size="{text}"/></worldbody>'
    '</mujoco>'
  )
  data = mujoco.MjData(model)
  mujoco.mj_forward(model, data)
  origins, directions = rays(400)
  geom = np.zeros(1, np.int32)
  expected = np.array(
    [
      mujoco.mj_ray(model, data, origin, direction, None, 1, -1, geom)
      for origin, direction in zip(origins, directions, strict=True)
    ]
  )
  found = np.asarray(
    jax.vmap(MEET[kind], in_axes=(0, 0, None))(
      vectors(origins), vectors(directions), Vector(*map(jnp.float32, size))
    )
  )
  # MuJoCo's rays meet a shape that they begin in from within.
  outside = np.array([is_outside(kind, size, origin) for origin in origins])
  expected[~outside] = -1
  met = expected >= 0
  assert 50 < met.sum() < 400
  # A grazing ray may fall on either side of the edge.
  assert (np.isfinite(found) != met).sum() <= 1
  both = met & np.isfinite(found)
  np.testing.assert_allclose(found[both], expected[both], atol=2e-4)


@pytest.mark.parametrize('kind', [kind for kind in MEET if kind != 'plane'])
def test_a_step_along_the_normal_leaves_the_shape(kind):
  """What is a little outside is met at once, straight back."""
  size = Vector(*map(jnp.float32, SIZES[kind]))
  origins, directions = map(vectors, rays(300))
  place = jnp.int32(list(MEET).index(kind))

  def check(origin, direction):
    distance = MEET[kind](origin, direction, size)
    point = origin.plus(direction, jnp.where(distance < 9.0, distance, 0.0))
    normal = normal_at(place, point, size)
    outside = point.plus(normal, 0.01)
    back = Vector(-normal.x, -normal.y, -normal.z)
    return distance, normal.dot(normal), MEET[kind](outside, back, size)

  distances, lengths, returns = jax.vmap(check)(origins, directions)
  met = np.isfinite(distances)
  assert met.sum() > 50
  np.testing.assert_allclose(lengths[met], 1.0, atol=1e-5)
  np.testing.assert_allclose(returns[met], 0.01, atol=2e-3)
