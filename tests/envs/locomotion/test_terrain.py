"""Profiles are the published ones, and planes lie along them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.core.validation import InputError
from metajax.envs.locomotion.terrain import (
  PROFILES,
  constant_slope,
  height_at,
  planes_along,
  profile,
  random_ramps,
)


@pytest.mark.parametrize(
  ('name', 'x', 'expected'),
  [
    ('gentle', [0.8, 9.8, 18.8, 40.0], [0.0, 0.5, 1.0, 1.0]),
    ('steep', [0.8, 9.8, 18.8, 40.0], [0.0, 2.0, 4.0, 4.0]),
    ('hill', [0.8, 2.3, 3.8, 6.8, 40.0], [0.0, 0.3, 0.6, 0.0, 0.0]),
    ('basin', [0.8, 3.8, 6.8, 40.0], [0.0, -0.55, 0.0, 0.0]),
  ],
)
def test_held_out_profiles_are_the_published_ones(name, x, expected):
  heights = profile(name)
  assert heights.shape == (500,)
  np.testing.assert_allclose(
    height_at(heights, jnp.array(x)), expected, atol=1e-4
  )
  np.testing.assert_array_equal(heights[:251], 0.0)


def test_random_ramps_follow_their_distribution():
  keys = jax.random.split(jax.random.key(0), 500)
  heights = np.asarray(jax.vmap(random_ramps)(keys))
  totals = np.ptp(heights, axis=1)
  assert totals.min() >= 0.2 - 1e-5
  assert totals.max() <= 1.0 + 1e-5
  np.testing.assert_allclose(totals.mean(), 0.6, atol=0.05)
  rises = np.diff(heights, axis=1)
  assert (rises[:, :254] == 0).all(), 'level at the start'
  assert np.abs(rises[:, 314:]).max() < 1e-6, 'level after twelve metres'
  ramps = rises[:, 254:314].reshape(500, 6, 10)
  np.testing.assert_allclose(
    ramps, np.broadcast_to(ramps[..., :1], ramps.shape), atol=1e-5
  )
  assert (ramps[:, :2, 0] > 0).all(), 'the first two go up'
  np.testing.assert_allclose((ramps[:, 2:, 0] > 0).mean(), 0.5, atol=0.05)
  sizes = np.abs(ramps[..., 0])
  ratios = sizes.max(axis=1) / sizes.min(axis=1)
  assert ratios.max() <= 3.01


def test_planes_are_the_ground_where_the_slope_is_constant():
  heights = constant_slope(0.25)
  centres = jnp.array([-3.3, 0.0, 7.05])
  places, quaternions = planes_along(
    heights, centres, jnp.array([0.1, 0.5, 1.0])
  )
  np.testing.assert_allclose(places[:, 0], centres)
  np.testing.assert_allclose(places[:, 2], 0.25 * centres, atol=1e-5)
  half = np.arctan(0.25) / 2
  np.testing.assert_allclose(
    quaternions,
    np.broadcast_to([np.cos(half), 0, -np.sin(half), 0], (3, 4)),
    atol=1e-5,
  )


def test_planes_turn_without_a_jump_over_an_edge():
  heights = profile('steep')
  centres = jnp.linspace(0.0, 2.0, 2001)
  _, quaternions = planes_along(heights, centres, jnp.full(centres.shape, 0.15))
  slopes = np.tan(-2 * np.arcsin(np.asarray(quaternions[:, 2])))
  np.testing.assert_allclose(slopes[[0, -1]], [0.0, 4 / 18], atol=1e-4)
  assert np.abs(np.diff(slopes)).max() < 2e-3


def test_bad_names_are_named():
  assert set(PROFILES) == {'gentle', 'hill', 'basin', 'steep'}
  with pytest.raises(InputError, match='name.*gentle'):
    profile('alps')
