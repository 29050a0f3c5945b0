"""Where rays enter primitive shapes: closed forms, in the shape's frame.

Shapes have MuJoCo's kinds and half-sizes (`metajax.core.motion.SHAPES`): a
sphere's radius; a capsule's or cylinder's radius and half its length, which
lies along z; half-extents of an ellipsoid or box; a plane's half-widths, 0 for
one without end, of which only the side of positive z is seen. Of every shape
only the outside is seen: a ray that begins in one leaves it unseen.

A ray is an origin and a direction of length one. All functions see ONE ray
and ONE shape, in the shape's own frame; `vmap` them. Vectors are three
scalars, so that a batch of them is three arrays: a processor then works on
neighbouring rays at once.
"""

from collections.abc import Callable
from typing import NamedTuple

from jax import Array
import jax.numpy as jnp

_TINY = 1e-12


class Vector(NamedTuple):
  """Three scalars, or three arrays of the same axes."""

  x: Array
  y: Array
  z: Array

  def dot(self, other: 'Vector') -> Array:
    """Returns the inner product."""
    return self.x * other.x + self.y * other.y + self.z * other.z

  def plus(self, other: 'Vector', scale: Array | float = 1.0) -> 'Vector':
    """Returns `self + scale * other`."""
    return Vector(
      self.x + scale * other.x,
      self.y + scale * other.y,
      self.z + scale * other.z,
    )

  def normalised(self) -> 'Vector':
    """Returns the vector of length one, or zero for none."""
    scale = 1.0 / jnp.maximum(jnp.sqrt(self.dot(self)), _TINY)
    return Vector(scale * self.x, scale * self.y, scale * self.z)


# (origin, direction, size) -> []: the distance, infinity if they do not meet.
Meet = Callable[[Vector, Vector, Vector], Array]


def meet_plane(origin: Vector, direction: Vector, size: Vector) -> Array:
  """Returns the distance to the upper side of the plane z = 0."""
  faces = direction.z < -_TINY
  distance = -origin.z / jnp.where(faces, direction.z, -1.0)
  point = origin.plus(direction, distance)
  inside = (size.x <= 0.0) | (jnp.abs(point.x) <= size.x)
  inside &= (size.y <= 0.0) | (jnp.abs(point.y) <= size.y)
  return jnp.where(faces & (distance > 0.0) & inside, distance, jnp.inf)


def meet_sphere(origin: Vector, direction: Vector, size: Vector) -> Array:
  """Returns the distance to a sphere."""
  return _ahead(
    _entry(1.0, origin.dot(direction), origin.dot(origin) - size.x * size.x)
  )


def meet_ellipsoid(origin: Vector, direction: Vector, size: Vector) -> Array:
  """Returns the distance to an ellipsoid: a sphere in scaled space."""
  origin, direction = (
    Vector(v.x / size.x, v.y / size.y, v.z / size.z)
    for v in (origin, direction)
  )
  return _ahead(
    _entry(
      direction.dot(direction), origin.dot(direction), origin.dot(origin) - 1.0
    )
  )


def meet_capsule(origin: Vector, direction: Vector, size: Vector) -> Array:
  """Returns the distance to a capsule: its side, or the end beyond it.

  Where a ray enters the endless cylinder around the side tells which of the
  two ends it may meet; one that misses the cylinder misses them, too.
  """
  radius, half_length = size.x, size.y
  side, height = _side_entry(origin, direction, radius)
  end = origin._replace(z=origin.z - jnp.copysign(half_length, height))
  cap = _entry(1.0, end.dot(direction), end.dot(end) - radius * radius)
  on_side = jnp.abs(height) <= half_length
  distance = jnp.where(on_side, side, cap)
  return _ahead(jnp.where(jnp.isfinite(side), distance, jnp.inf))


def meet_cylinder(origin: Vector, direction: Vector, size: Vector) -> Array:
  """Returns the distance to a cylinder: its side, or the end it faces."""
  radius, half_length = size.x, size.y
  side, height = _side_entry(origin, direction, radius)
  slope = jnp.where(jnp.abs(direction.z) < _TINY, _TINY, direction.z)
  end = (-jnp.copysign(half_length, slope) - origin.z) / slope
  point = origin.plus(direction, end)
  in_disc = point.x * point.x + point.y * point.y <= radius * radius
  on_side = jnp.abs(height) <= half_length
  return _ahead(jnp.where(on_side, side, jnp.where(in_disc, end, jnp.inf)))


def meet_box(origin: Vector, direction: Vector, size: Vector) -> Array:
  """Returns the distance to a box, by its three pairs of faces."""
  near = jnp.full_like(origin.x, -jnp.inf)
  far = jnp.full_like(origin.x, jnp.inf)
  for start, slope, half in zip(origin, direction, size, strict=True):
    inverse = 1.0 / jnp.where(jnp.abs(slope) < _TINY, _TINY, slope)
    middle, reach = -start * inverse, half * jnp.abs(inverse)
    near = jnp.maximum(near, middle - reach)
    far = jnp.minimum(far, middle + reach)
  return _ahead(jnp.where(near <= far, near, jnp.inf))


MEET: dict[str, Meet] = {
  'plane': meet_plane,
  'sphere': meet_sphere,
  'capsule': meet_capsule,
  'ellipsoid': meet_ellipsoid,
  'cylinder': meet_cylinder,
  'box': meet_box,
}


def normal_at(kind: Array, point: Vector, size: Vector) -> Vector:
  """Returns the outward normal of a shape at a point of its surface.

  Args:
    kind: [] int32, the place of the shape's kind in `MEET`.
    point: in the shape's frame, m.
    size: its half-sizes, m.

  Returns:
    A vector of length one.
  """
  zero, one = jnp.zeros_like(point.x), jnp.ones_like(point.x)
  side = point._replace(z=zero)
  beyond = jnp.abs(point.z) - size.y
  on_end = beyond > jnp.sqrt(side.dot(side)) - size.x
  end = Vector(zero, zero, jnp.sign(point.z))
  depths = [jnp.abs(p) - s for p, s in zip(point, size, strict=True)]
  outermost = jnp.maximum(jnp.maximum(*depths[:2]), depths[2])
  face = Vector(
    *(
      jnp.where(depth == outermost, jnp.sign(p), 0.0)
      for depth, p in zip(depths, point, strict=True)
    )
  )
  candidates = (
    Vector(zero, zero, one),  # plane
    point,  # sphere
    point._replace(z=point.z - jnp.clip(point.z, -size.y, size.y)),  # capsule
    Vector(  # ellipsoid
      *(p / jnp.maximum(s * s, _TINY) for p, s in zip(point, size, strict=True))
    ),
    Vector(  # cylinder
      *(jnp.where(on_end, e, s) for e, s in zip(end, side, strict=True))
    ),
    face,  # box
  )
  chosen = candidates[0]
  for place, candidate in enumerate(candidates):
    chosen = Vector(
      *(
        jnp.where(kind == place, new, old)
        for new, old in zip(candidate, chosen, strict=True)
      )
    )
  return chosen.normalised()


def _side_entry(
  origin: Vector, direction: Vector, radius: Array
) -> tuple[Array, Array]:
  """Returns the distance to an endless cylinder around z, and z there.

  Of a ray along z, which is inside everywhere or nowhere, the distance is a
  large one back to where it comes from, or infinity.
  """
  distance = _entry(
    jnp.maximum(direction.x * direction.x + direction.y * direction.y, _TINY),
    origin.x * direction.x + origin.y * direction.y,
    origin.x * origin.x + origin.y * origin.y - radius * radius,
  )
  return distance, origin.z + distance * direction.z


def _entry(a: Array | float, b: Array, c: Array) -> Array:
  """Returns the lesser root of a t^2 + 2 b t + c for a > 0, or infinity."""
  discriminant = b * b - a * c
  root = (-b - jnp.sqrt(jnp.maximum(discriminant, 0.0))) / a
  return jnp.where(discriminant >= 0.0, root, jnp.inf)


def _ahead(distance: Array) -> Array:
  """Returns a distance that is ahead, else infinity."""
  return jnp.where(distance > 0.0, distance, jnp.inf)
