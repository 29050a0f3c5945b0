"""Terrain made of tiles that say which other tiles may lie beside them."""

import itertools
from typing import NamedTuple

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

# In this order, neighbours apart by one only: there is a shore of grass
# between all water and all dirt.
CATEGORIES = ('water', 'grass', 'dirt')
_COLOURS = ((52, 96, 168), (88, 140, 62), (150, 112, 70))
_CELL_PIXELS = 4
# How much likelier a tile of one category is than one of two.
_PREFERENCE = 14.0


class TileSet(NamedTuple):
  """Tiles, their neighbours, and what they look like.

  Attributes:
    categories: [n] int32, the category that most of a tile belongs to.
    to_the_right: [n, n] bool, whether the second tile may lie to the right of
      the first.
    below: [n, n] bool, whether the second tile may lie below the first.
    weights: [n] float32, how often a permitted tile is taken.
    pixels: [n, 4, 4] int32, the category of each pixel of a tile.
    textures: [number of categories, size, size, 3] float32, in [0, 255], what
      each category looks like at each pixel of a picture.
  """

  categories: Array
  to_the_right: Array
  below: Array
  weights: Array
  pixels: Array
  textures: Array


def make_tiles(num_cells: int, seed: int = 0) -> TileSet:
  """Makes the tiles of water, grass and dirt, and of all their shores.

  A tile is the categories of its four corners. Tiles fit where they agree in
  the two corners that they share, so that a map has no seams.

  Args:
    num_cells: width and height of the maps, for the textures.
    seed: decides on the shores' and the textures' details.

  Returns:
    The tiles: all 35 whose neighbouring corners differ by one category at
    most.
  """
  generator = np.random.default_rng(seed)
  # North-west, north-east, south-east, south-west.
  corners = np.array(
    [
      c
      for c in itertools.product(range(len(CATEGORIES)), repeat=4)
      if all(abs(c[i] - c[i - 1]) <= 1 for i in range(4))
    ]
  )
  west, east = corners[:, [0, 3]], corners[:, [1, 2]]
  north, south = corners[:, [0, 1]], corners[:, [3, 2]]
  counts = np.stack(
    [(corners == c).sum(axis=1) for c in range(len(CATEGORIES))], axis=1
  )
  # Two against two: the shore counts as the grass that it has.
  counts = counts + np.array([0.0, 0.5, 0.0])
  is_plain = (corners == corners[:, :1]).all(axis=1)
  return TileSet(
    categories=jnp.asarray(counts.argmax(axis=1), jnp.int32),
    to_the_right=jnp.asarray((east[:, None] == west[None]).all(axis=-1)),
    below=jnp.asarray((south[:, None] == north[None]).all(axis=-1)),
    weights=jnp.asarray(np.where(is_plain, _PREFERENCE, 1.0), jnp.float32),
    pixels=jnp.asarray(_blend(corners, generator), jnp.int32),
    textures=jnp.asarray(
      _paint_textures(num_cells * _CELL_PIXELS, generator), jnp.float32
    ),
  )


def grow_terrain(tiles: TileSet, num_cells: int, key: Array) -> Array:
  """Grows a map without seams, cell by cell from the north-west.

  Each cell takes one of the tiles that both its western and its northern
  neighbour permit, at random by the tiles' weights. There always is one.

  Args:
    tiles: the tiles.
    num_cells: width and height of the map.
    key: key of the map.

  Returns:
    [num_cells, num_cells] int32, indices of tiles, north first.
  """
  num_tiles = tiles.weights.shape[0]
  noise = jax.random.gumbel(key, (num_cells**2, num_tiles))
  noise += jnp.log(tiles.weights)[None]

  def place(placed: Array, cell_and_noise) -> tuple[Array, None]:
    cell, scores = cell_and_noise
    row, column = jnp.divmod(cell, num_cells)
    fits_west = tiles.to_the_right[placed[cell - 1]] | (column == 0)
    fits_north = tiles.below[placed[cell - num_cells]] | (row == 0)
    tile = jnp.argmax(jnp.where(fits_west & fits_north, scores, -jnp.inf))
    return placed.at[cell].set(tile), None

  cells = jnp.arange(num_cells**2)
  empty = jnp.zeros((num_cells**2,), jnp.int32)
  placed, _ = jax.lax.scan(place, empty, (cells, noise))
  return placed.reshape(num_cells, num_cells)


def draw_terrain(tiles: TileSet, terrain: Array) -> Array:
  """Draws a map.

  Args:
    tiles: the tiles.
    terrain: [n, n] int32, indices of tiles.

  Returns:
    [4 n, 4 n, 3] float32, red, green, blue in [0, 255].
  """
  size = terrain.shape[0] * _CELL_PIXELS
  pixels = tiles.pixels[terrain]  # [n, n, 4, 4]
  categories = jnp.swapaxes(pixels, 1, 2).reshape(size, size)
  rows, columns = jnp.indices((size, size))
  return tiles.textures[categories, rows, columns]


def _blend(corners: np.ndarray, generator: np.random.Generator) -> np.ndarray:
  """Returns [n, 4, 4], the category of each pixel between four corners."""
  along = (np.arange(_CELL_PIXELS) + 0.5) / _CELL_PIXELS
  down, right = along[None, :, None], along[None, None, :]
  nw, ne, se, sw = (corners[:, i, None, None] for i in range(4))
  values = (1 - down) * ((1 - right) * nw + right * ne) + down * (
    (1 - right) * sw + right * se
  )
  is_shore = (corners != corners[:, :1]).any(axis=1)[:, None, None]
  raggedness = generator.uniform(-0.2, 0.2, values.shape)
  return np.rint(values + np.where(is_shore, raggedness, 0.0)).astype(int)


def _paint_textures(size: int, generator: np.random.Generator) -> np.ndarray:
  """Returns [categories, size, size, 3] in [0, 255]."""
  down = np.arange(size)[:, None]
  right = np.arange(size)[None, :]
  waves = 10.0 * np.sin(0.9 * down + 2.0 * np.sin(0.25 * right))
  blades = np.where(generator.random((size, size)) < 0.2, -16.0, 0.0)
  pebbles = np.where(generator.random((size, size)) < 0.08, 26.0, 0.0)
  grain = generator.normal(0.0, 4.0, (3, size, size))
  shades = np.stack([waves, blades, pebbles]) + grain
  colours = np.array(_COLOURS, float)[:, None, None, :]
  return np.clip(colours + shades[..., None], 0.0, 255.0)
