"""Flat objects by seed: bars, crosses, corners and hooks of two capsules."""

from typing import NamedTuple

from jax import Array
import jax.numpy as jnp
import numpy as np

# The model's own capsules are as large: the engine in C finds pairs by them.
MAX_RADIUS_M = 0.014
MAX_HALF_LENGTH_M = 0.022


class ObjectShapes(NamedTuple):
  """Shapes, each of two capsules that lie flat.

  Attributes:
    sizes: [n, 2, 3] float32, m, as `geom_size`: radius, half length, 0.
    positions: [n, 2, 3] float32, m, the capsules' centres; the object's centre
      of area is its origin.
    quaternions: [n, 2, 4] float32, which way the capsules lie.
  """

  sizes: Array
  positions: Array
  quaternions: Array


def make_shapes(num_shapes: int, seed: int = 0) -> ObjectShapes:
  """Draws shapes: a bar, and a shorter one across it or at its end.

  Args:
    num_shapes: how many. The first ones do not depend on it.
    seed: decides on all of them.

  Returns:
    The shapes; none reaches farther than 5 cm from its centre.
  """
  rows = [_draw(np.random.default_rng((seed, i))) for i in range(num_shapes)]
  sizes, positions, quaternions = (
    jnp.asarray(np.stack(column), jnp.float32)
    for column in zip(*rows, strict=True)
  )
  return ObjectShapes(sizes, positions, quaternions)


def _draw(
  generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns one shape's sizes, positions and quaternions."""
  radius = generator.uniform(0.6, 1.0) * MAX_RADIUS_M
  longer = generator.uniform(0.3, 1.0) * MAX_HALF_LENGTH_M
  shorter = generator.uniform(0.3, 1.0) * longer
  angle = generator.uniform(np.pi / 6, np.pi / 2)
  # Where on the longer bar, and by which part of itself, the shorter one lies.
  where, by_end = generator.choice([-1.0, 0.0, 1.0]), generator.integers(2)
  along = np.array([1.0, 0.0, 0.0])
  across = np.array([np.cos(angle), np.sin(angle), 0.0])
  positions = np.stack(
    [np.zeros(3), where * longer * along + by_end * shorter * across]
  )
  lengths = np.array([longer, shorter])
  areas = 4 * radius * lengths + np.pi * radius**2
  positions -= (areas / areas.sum()) @ positions
  sizes = np.stack([np.full(2, radius), lengths, np.zeros(2)], axis=1)
  return sizes, positions, np.stack([_lying(0.0), _lying(angle)])


def _lying(angle: float) -> np.ndarray:
  """Returns the quaternion that lays a capsule's z-axis flat, at an angle."""
  # About y by a quarter turn, then about z by the angle.
  half = angle / 2
  cosine, sine = np.cos(half), np.sin(half)
  return np.sqrt(0.5) * np.array([cosine, -sine, cosine, sine])
