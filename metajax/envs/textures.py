"""Procedural textures: patterns of one seed each, told of points in space."""

import itertools

import jax
from jax import Array
import jax.numpy as jnp

from metajax.envs.ray_casting import Vector

PATTERNS = ('plain', 'noise', 'stripes', 'checks', 'wood')
_CONTRAST = 0.55  # what the darkest part of a pattern keeps of the colour
_PRIMES = (73_856_093, 19_349_663, 83_492_791)


def pattern_of(seed: Array) -> Array:
  """Returns the place in `PATTERNS` of a seed's pattern, [] int32; 0: plain."""
  return jnp.where(seed == 0, 0, 1 + (seed - 1) % (len(PATTERNS) - 1))


def shade_of(seed: Array, point: Vector) -> Array:
  """Returns what a texture multiplies a shape's colour by at a point.

  Seeds count through the patterns; each has a scale, a direction and an origin
  of its own.

  Args:
    seed: [] int32, of the texture; 0: a plain colour.
    point: in the shape's frame, m.

  Returns:
    [] float32, from 0.55 to 1.
  """
  numbers = [_hash(8 * seed + i) for i in range(7)]
  frequency = 12.0 + 28.0 * numbers[0]  # periods per metre
  # A hair off zero, so that it has a length.
  direction = Vector(*(2.0 * number - 0.999 for number in numbers[1:4]))
  direction = direction.normalised()
  origin = Vector(*numbers[4:])
  moved = origin.plus(point, frequency)
  along = moved.dot(direction)
  noise = _noise(moved, seed)
  off_axis = jnp.sqrt(jnp.maximum(moved.dot(moved) - along * along, 0.0))
  # A hair off the grid: a face that lies in it would flicker.
  cells = sum(jnp.floor(part + 1e-3) for part in moved)
  values = (
    jnp.ones_like(along),  # plain
    noise,
    jax.nn.sigmoid(8.0 * _wave(along)),  # stripes
    cells - 2.0 * jnp.floor(0.5 * cells),  # checks
    0.5 + 0.5 * _wave(off_axis + 1.5 * noise),  # wood
  )
  pattern, value = pattern_of(seed), values[0]
  for place, candidate in enumerate(values):
    value = jnp.where(pattern == place, candidate, value)
  return _CONTRAST + (1.0 - _CONTRAST) * value


def _wave(phase: Array) -> Array:
  """Returns a sine of period one."""
  return jnp.sin(2.0 * jnp.pi * phase)


def _noise(point: Vector, seed: Array) -> Array:
  """Returns smooth noise in [0, 1], two octaves of values on a lattice."""
  coarse = _value_noise(point, seed)
  fine = _value_noise(point.plus(point), seed + 1000)
  return (2.0 * coarse + fine) / 3.0


def _value_noise(point: Vector, seed: Array) -> Array:
  """Blends the numbers of the eight corners of the lattice around a point."""
  floors = [jnp.floor(part) for part in point]
  parts = [part - floor for part, floor in zip(point, floors, strict=True)]
  parts = [part * part * (3.0 - 2.0 * part) for part in parts]
  # Each corner's key is the exclusive or of a number for each coordinate.
  keys = [
    [(floor.astype(jnp.int32) + step) * prime for step in (0, 1)]
    for floor, prime in zip(floors, _PRIMES, strict=True)
  ]
  own = seed * 2_654_435
  total = jnp.zeros_like(point.x)
  for i, j, k in itertools.product((0, 1), repeat=3):
    weight = 1.0
    for step, part in zip((i, j, k), parts, strict=True):
      weight *= part if step else 1.0 - part
    total += weight * _hash(keys[0][i] ^ keys[1][j] ^ keys[2][k] ^ own)
  return total


def _hash(key: Array) -> Array:
  """Returns a number in [0, 1) for an int32 (Wang's integer hash)."""
  bits = key.astype(jnp.uint32)
  bits = (bits ^ 61) ^ (bits >> 16)
  bits = bits * jnp.uint32(9)
  bits = bits ^ (bits >> 4)
  bits = bits * jnp.uint32(0x27D4EB2D)
  bits = bits ^ (bits >> 15)
  return (bits >> 8).astype(jnp.float32) / 2.0**24
