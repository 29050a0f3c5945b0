"""One hundred and sixteen flat objects, each a compound of four capsules."""

import functools
from typing import NamedTuple

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

NUM_TRAIN_SHAPES = 105
NUM_TEST_SHAPES = 11
NUM_PARTS = 4
LONGEST_SIDE_M = 0.24
# What a model that holds a shape must be compiled with: bounding radii are
# the compiler's.
MAX_RADIUS_M, MAX_HALF_LENGTH_M = 0.06, 0.12
# Textures are told apart by seeds; held-out objects wear held-out ones.
TRAIN_TEXTURE_SEEDS = (1, 5001)
TEST_TEXTURE_SEEDS = (5001, 6001)

_SEED = 2017
_MAX_OVERLAP = 0.7
_MIN_RADIUS_M = 0.01
_GRID_SIZE = 48
_GRID_LIMIT_M = 0.75 * LONGEST_SIDE_M


class Shapes(NamedTuple):
  """Flat compounds of capsules that lie on the plane z = 0.

  Attributes:
    radii: [..., parts] float32, m.
    half_lengths: [..., parts] float32, m, of each capsule's axis; next to
      nothing for a ball.
    centres: [..., parts, 2] float32, m; the origin is the centre of the area
      that the shape covers.
    angles: [..., parts] float32, rad, of the axes in the plane.
  """

  radii: np.ndarray
  half_lengths: np.ndarray
  centres: np.ndarray
  angles: np.ndarray


class Geometry(NamedTuple):
  """Shapes as MuJoCo's capsules.

  Attributes:
    sizes: [..., parts, 3] float32, m: radius, half length, 0.
    positions: [..., parts, 3] float32, m.
    quaternions: [..., parts, 4] float32.
  """

  sizes: Array
  positions: Array
  quaternions: Array


@functools.lru_cache(maxsize=1)
def all_shapes() -> Shapes:
  """Returns all shapes, the held-out ones last: always the same.

  Each is grown by a seeded generator: a capsule or ball, and two or three
  more that begin somewhere on an earlier one, scaled so that the longer side
  of its bounding rectangle is `LONGEST_SIDE_M`. No two cover areas whose
  overlap (intersection over union) is more than 0.7.

  Returns:
    The shapes, leading axis `NUM_TRAIN_SHAPES + NUM_TEST_SHAPES`.
  """
  generator = np.random.default_rng(_SEED)
  shapes: list[Shapes] = []
  areas: list[np.ndarray] = []
  while len(shapes) < NUM_TRAIN_SHAPES + NUM_TEST_SHAPES:
    shape = _normalised(_grow(generator))
    if shape.radii.max() > MAX_RADIUS_M or shape.radii.min() < _MIN_RADIUS_M:
      continue
    area = silhouette(shape, _GRID_SIZE)
    if all(_overlap(area, other) <= _MAX_OVERLAP for other in areas):
      shapes.append(shape)
      areas.append(area)
  stacked = Shapes(*(np.stack(x) for x in zip(*shapes, strict=True)))
  return Shapes(*(x.astype(np.float32) for x in stacked))


def silhouette(shape: Shapes, grid_size: int) -> np.ndarray:
  """Returns which cells of a grid a shape covers, seen from above.

  Args:
    shape: one shape.
    grid_size: cells along a side of the square, which is centred on the
      origin and 1.5 times `LONGEST_SIDE_M` wide.

  Returns:
    [grid_size, grid_size] bool, rows along x.
  """
  axes = np.stack([np.cos(shape.angles), np.sin(shape.angles)], axis=-1)
  offsets = _grid(grid_size)[:, :, None] - shape.centres[None, None]
  along = np.einsum('ijpk,pk->ijp', offsets, axes)
  along = np.clip(along, -shape.half_lengths, shape.half_lengths)
  nearest = along[..., None] * axes[None, None]
  distances = np.linalg.norm(offsets - nearest, axis=-1)
  return (distances <= shape.radii).any(axis=-1)


def sample_pair(key: Array, *, held_out: bool) -> Array:
  """Draws two different shapes.

  Args:
    key: key of the draw.
    held_out: whether from the `NUM_TEST_SHAPES` last ones.

  Returns:
    [2] int32, indices into `all_shapes`.
  """
  first_index = NUM_TRAIN_SHAPES if held_out else 0
  num_shapes = NUM_TEST_SHAPES if held_out else NUM_TRAIN_SHAPES
  one_key, other_key = jax.random.split(key)
  one = jax.random.randint(one_key, (), 0, num_shapes)
  ahead = jax.random.randint(other_key, (), 1, num_shapes)
  return first_index + jnp.stack([one, (one + ahead) % num_shapes])


def geometry_of(indices: Array, scales: Array) -> Geometry:
  """Returns shapes as capsules that lie on the plane z = 0.

  Args:
    indices: [n] int32, indices into `all_shapes`.
    scales: [n] float32, > 0, times which all lengths are taken.

  Returns:
    The capsules, leading axes `[n, parts]`.
  """
  shapes = jax.tree.map(lambda x: jnp.asarray(x)[indices], all_shapes())
  radii = shapes.radii * scales[:, None]
  half_lengths = shapes.half_lengths * scales[:, None]
  centres = shapes.centres * scales[:, None, None]
  # A quarter turn about an axis in the plane lays the capsule's z down.
  half = jnp.full_like(radii, jnp.sqrt(0.5))
  zero = jnp.zeros_like(radii)
  across = half * jnp.sin(shapes.angles)
  along = half * jnp.cos(shapes.angles)
  return Geometry(
    sizes=jnp.stack([radii, half_lengths, zero], axis=-1),
    positions=jnp.concatenate([centres, radii[..., None]], axis=-1),
    quaternions=jnp.stack([half, -across, along, zero], axis=-1),
  )


def _grow(generator: np.random.Generator) -> Shapes:
  """Grows one shape, of no particular size or place."""
  num_parts = int(generator.integers(3, NUM_PARTS, endpoint=True))
  is_ball = generator.random(NUM_PARTS) < 0.2
  radii = generator.uniform(0.25, 0.5, NUM_PARTS)
  half_lengths = np.where(is_ball, 1e-3, generator.uniform(0.3, 1, NUM_PARTS))
  angles = generator.uniform(0, np.pi, NUM_PARTS)
  axes = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
  centres = np.zeros((NUM_PARTS, 2))
  for part in range(1, num_parts):
    base = generator.integers(part)
    along_base, along_part = generator.uniform(-1, 1, 2)
    centres[part] = (
      centres[base]
      + along_base * half_lengths[base] * axes[base]
      + along_part * half_lengths[part] * axes[part]
    )
  # What is not used hides as a ball inside the first part.
  radii[num_parts:] = 0.5 * radii[0]
  half_lengths[num_parts:] = 1e-3
  return Shapes(radii, half_lengths, centres, angles)


def _normalised(shape: Shapes) -> Shapes:
  """Scales to `LONGEST_SIDE_M` and puts the centre of area at the origin."""
  axes = np.stack([np.cos(shape.angles), np.sin(shape.angles)], axis=-1)
  reach = np.abs(axes) * shape.half_lengths[:, None] + shape.radii[:, None]
  low = (shape.centres - reach).min(axis=0)
  high = (shape.centres + reach).max(axis=0)
  scale = LONGEST_SIDE_M / (high - low).max()
  shape = Shapes(
    radii=shape.radii * scale,
    half_lengths=shape.half_lengths * scale,
    centres=(shape.centres - 0.5 * (low + high)) * scale,
    angles=shape.angles,
  )
  covered = _grid(_GRID_SIZE)[silhouette(shape, _GRID_SIZE)]
  return shape._replace(centres=shape.centres - covered.mean(axis=0))


def _grid(grid_size: int) -> np.ndarray:
  """Returns the centres of the grid's cells, [size, size, 2], m."""
  line = np.linspace(-_GRID_LIMIT_M, _GRID_LIMIT_M, grid_size)
  return np.stack(np.meshgrid(line, line, indexing='ij'), axis=-1)


def _overlap(area: np.ndarray, other: np.ndarray) -> float:
  return (area & other).sum() / (area | other).sum()
