"""Uneven ground in the plane: profiles of height, and planes along them."""

from typing import NamedTuple

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from metajax.core.validation import check_choice

NUM_COLUMNS = 500
COLUMN_WIDTH_M = 0.2
# The column at x = 0, where robots start.
START_COLUMN = 250

_FIRST_RAMP_COLUMN = 255
_NUM_RAMPS = 6
_RAMP_COLUMNS = 10
_PROFILE_RAMP_COLUMNS = 15


class _Shape(NamedTuple):
  """Ramps of equal length: up (1), down (-1) or level (0)."""

  ramps: tuple[int, ...]
  total_height_m: float


# Finn 2018, section 5.5: as released with the work (Clavera et al. 2019).
_SHAPES = {
  'gentle': _Shape((1, 1, 1, 1, 1, 1), 1.0),
  'hill': _Shape((1, -1, 0, 0, 0, 0), 0.6),
  'basin': _Shape((-1, 1, 0, 0, 0, 0), 0.55),
  'steep': _Shape((1, 1, 1, 1, 1, 1), 4.0),
}
PROFILES = tuple(_SHAPES)


def profile(name: str) -> Array:
  """Returns one of the profiles that are held out.

  All are level up to x = 0.8 m; what follows are ramps of 3 m.

  Args:
    name: `gentle` (1 m up over 18 m), `hill` (0.6 m up over 3 m, and down
      again), `basin` (0.55 m down over 3 m, and up again) or `steep` (4 m up
      over 18 m).

  Returns:
    [500] float32, m, heights on a grid of 0.2 m; the start has 0.

  Raises:
    InputError: if there is no such profile.
  """
  check_choice('name', name, PROFILES)
  ramps, total_height_m = _SHAPES[name]
  return _heights(
    jnp.array(ramps, jnp.float32),
    jnp.float32(total_height_m),
    _PROFILE_RAMP_COLUMNS,
  )


def constant_slope(gradient: float | Array) -> Array:
  """Returns ground that rises everywhere alike, through the start.

  Args:
    gradient: [] float32, metres up per metre forward.

  Returns:
    [500] float32, m.
  """
  return gradient * jnp.asarray(_grid_m(), jnp.float32)


def random_ramps(key: Array) -> Array:
  """Draws six ramps of 2 m each (Finn 2018, section 5.5).

  Increments of height are U(0.2, 0.6) with random signs, the first two up;
  then all is scaled to a total height from U(0.2, 1.0) m.

  Args:
    key: key of the profile.

  Returns:
    [500] float32, m, heights on a grid of 0.2 m; the start has 0.
  """
  size_key, sign_key, total_key = jax.random.split(key, 3)
  sizes = jax.random.uniform(size_key, (_NUM_RAMPS,), minval=0.2, maxval=0.6)
  signs = jax.random.rademacher(sign_key, (_NUM_RAMPS,), jnp.float32)
  signs = signs.at[:2].set(1.0)
  total = jax.random.uniform(total_key, minval=0.2, maxval=1.0)
  return _heights(signs * sizes, total, _RAMP_COLUMNS)


def height_at(heights: Array, x: Array) -> Array:
  """Returns the height of the ground, linear between columns.

  Args:
    heights: [500] float32, m.
    x: [...] float32, m; level beyond the first and the last column.

  Returns:
    [...] float32, m.
  """
  return jnp.interp(x, jnp.asarray(_grid_m(), jnp.float32), heights)


def planes_along(
  heights: Array, centres: Array, reach: Array
) -> tuple[Array, Array]:
  """Lays planes along the ground under points.

  Each is the chord of the profile between `centre - reach` and
  `centre + reach`. So its height and its slope change continuously as the
  centre moves, also over an edge, and where the slope is constant it is the
  ground itself.

  Args:
    heights: [500] float32, m.
    centres: [n] float32, m, x of the points.
    reach: [n] float32, m, > 0.

  Returns:
    [n, 3] float32, m, where the planes stand (in the plane y = 0), and [n, 4]
    float32, their quaternions.
  """
  behind = height_at(heights, centres - reach)
  ahead = height_at(heights, centres + reach)
  angles = jnp.arctan2(ahead - behind, 2.0 * reach)
  zeros = jnp.zeros_like(centres)
  places = jnp.stack([centres, zeros, 0.5 * (behind + ahead)], axis=-1)
  # Turning about y by a positive angle lowers what is ahead.
  half = -0.5 * angles
  quaternions = jnp.stack([jnp.cos(half), zeros, jnp.sin(half), zeros], axis=-1)
  return places, quaternions


def _grid_m() -> np.ndarray:
  return COLUMN_WIDTH_M * (np.arange(NUM_COLUMNS) - START_COLUMN)


def _heights(ramps: Array, total_height: Array, ramp_columns: int) -> Array:
  """Returns [500] heights of ramps in a row, scaled to a total height.

  Args:
    ramps: [6] float32, rise of each ramp in any unit, not all zero.
    total_height: [] float32, m, between the lowest and the highest column.
    ramp_columns: length of each ramp.
  """
  rises = jnp.repeat(ramps, ramp_columns)
  last = _FIRST_RAMP_COLUMN + len(rises)
  rows = jnp.cumsum(
    jnp.zeros((NUM_COLUMNS,)).at[_FIRST_RAMP_COLUMN:last].set(rises)
  )
  return total_height * rows / (jnp.max(rows) - jnp.min(rows))
