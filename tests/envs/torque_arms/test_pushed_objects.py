"""The pushed objects: how many, how large, how different."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.envs.torque_arms.pushed_objects import (
  LONGEST_SIDE_M,
  MAX_HALF_LENGTH_M,
  MAX_RADIUS_M,
  NUM_TEST_SHAPES,
  NUM_TRAIN_SHAPES,
  TEST_TEXTURE_SEEDS,
  TRAIN_TEXTURE_SEEDS,
  Shapes,
  all_shapes,
  geometry_of,
  sample_pair,
  silhouette,
)


def shape(index):
  return Shapes(*(x[index] for x in all_shapes()))


def test_there_are_as_many_as_published():
  assert (NUM_TRAIN_SHAPES, NUM_TEST_SHAPES) == (105, 11)
  assert all_shapes().radii.shape == (116, 4)


def test_no_two_cover_nearly_the_same_area():
  areas = [silhouette(shape(i), 64) for i in range(116)]
  overlaps = [
    (a & b).sum() / (a | b).sum() for a, b in itertools.combinations(areas, 2)
  ]
  assert max(overlaps) < 0.75


@pytest.mark.parametrize('scale', [0.5, 1.0])
def test_the_longest_side_is_the_published_one(scale):
  """The rectangle around the capsules that the model gets, by their ends."""
  geometry = geometry_of(jnp.arange(116), jnp.full((116,), scale))
  w, x, y, z = np.moveaxis(np.asarray(geometry.quaternions), -1, 0)
  # Where the capsule's own z points.
  axes = np.stack(
    [2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x**2 + y**2)], axis=-1
  )
  np.testing.assert_allclose(axes[..., 2], 0.0, atol=1e-6)
  radii, halves = (np.asarray(geometry.sizes)[..., i] for i in (0, 1))
  reach = np.abs(axes) * halves[..., None] + radii[..., None]
  low = (geometry.positions - reach).min(axis=1)
  high = (geometry.positions + reach).max(axis=1)
  np.testing.assert_allclose(
    (high - low)[:, :2].max(axis=-1), scale * LONGEST_SIDE_M, rtol=1e-5
  )
  np.testing.assert_allclose(low[:, 2], 0.0, atol=1e-6)


def test_shapes_fit_what_models_are_compiled_with():
  assert all_shapes().radii.max() <= MAX_RADIUS_M
  assert all_shapes().half_lengths.max() <= MAX_HALF_LENGTH_M


def test_held_out_shapes_and_textures_are_apart():
  def draw(held_out):
    keys = jax.random.split(jax.random.key(0), 200)
    sample = functools.partial(sample_pair, held_out=held_out)
    return np.asarray(jax.vmap(sample)(keys))

  train, test = draw(False), draw(True)
  assert train.max() == 104
  assert (test.min(), test.max()) == (105, 115)
  for pairs in (train, test):
    assert (pairs[:, 0] != pairs[:, 1]).all()
  assert TRAIN_TEXTURE_SEEDS[0] >= 1
  assert TRAIN_TEXTURE_SEEDS[1] <= TEST_TEXTURE_SEEDS[0]
