"""Circles in the plane, to be guessed from a single point inside."""

from typing import NamedTuple

import jax
from jax import Array
import jax.numpy as jnp

from metajax.core.learner import Episode, Examples, TaskFamily
from metajax.core.validation import check_count

SIDE = 5.0  # inputs lie in [0, SIDE]^2

_CENTRES = (1.0, 4.0)
_RADII = (0.1, 2.0)
# Of so many draws of a point the first that fits is taken. At least 0.49 of
# them do, both inside and outside, so that none fits once in 2e9 points.
_DRAWS = 32


class Circle(NamedTuple):
  """One circle; what lies inside is positive."""

  centre: Array  # [2] float32
  radius: Array  # [] float32


def circles(*, shots: int = 1, query_shots: int = 10) -> TaskFamily:
  """Returns the one-class family of PLATIPUS: circles from one positive.

    centre ~ U[1, 4]^2,  radius ~ U[0.1, 2],  x in [0, 5]^2

  The support holds positives only, the query as many positives as negatives,
  each uniform over where it may lie. Source: Finn, Xu and Levine (2018),
  section 5; after Grant et al. (2017).

  Args:
    shots: support points of a task, all positive, >= 1.
    query_shots: query points of EACH class, the positives first, >= 1.

  Returns:
    A family whose tasks are `Circle`s and whose support and query are
    `Examples` with `[points, 2]` float32 inputs and `[points, 1]` float32
    targets, 1 for positive and 0 for negative.

  Raises:
    InputError: for a count below one.
  """
  check_count('shots', shots)
  check_count('query_shots', query_shots)

  def sample(data, key):
    del data
    centre_key, radius_key, inside_key, outside_key = jax.random.split(key, 4)
    circle = Circle(
      centre=_uniform(centre_key, (2,), _CENTRES),
      radius=_uniform(radius_key, (), _RADII),
    )
    inside = _points_inside(circle, shots + query_shots, inside_key)
    outside = _points_outside(circle, query_shots, outside_key)
    return Episode(
      task=circle,
      support=Examples(inside[:shots], jnp.ones((shots, 1))),
      query=Examples(
        jnp.concatenate([inside[shots:], outside]),
        jnp.concatenate(
          [jnp.ones((query_shots, 1)), jnp.zeros((query_shots, 1))]
        ),
      ),
    )

  return TaskFamily(sample)


def is_inside(circle: Circle, inputs: Array) -> Array:
  """Says which points a circle holds.

  Args:
    circle: the circle.
    inputs: [points, 2] float32.

  Returns:
    [points] bool.
  """
  offset = inputs - circle.centre[None]
  return jnp.sum(jnp.square(offset), axis=-1) <= jnp.square(circle.radius)


def _points_inside(circle, count, key):
  """Draws points of the square that are uniform in the circle."""
  angle_key, distance_key = jax.random.split(key)
  angle = _uniform(angle_key, (count, _DRAWS), (0.0, 2.0 * jnp.pi))
  distance = circle.radius * jnp.sqrt(
    jax.random.uniform(distance_key, (count, _DRAWS))
  )
  offset = distance[..., None] * jnp.stack(
    [jnp.cos(angle), jnp.sin(angle)], axis=-1
  )
  points = circle.centre[None, None] + offset
  return _first(points, jnp.all((points >= 0) & (points <= SIDE), axis=-1))


def _points_outside(circle, count, key):
  points = _uniform(key, (count, _DRAWS, 2), (0.0, SIDE))
  fits = ~is_inside(circle, points.reshape(-1, 2)).reshape(count, _DRAWS)
  return _first(points, fits)


def _first(points, fits):
  """Picks of each row of draws the first that fits."""
  index = jnp.argmax(fits, axis=-1)
  return jnp.take_along_axis(points, index[:, None, None], axis=1)[:, 0]


def _uniform(key, shape, bounds):
  return jax.random.uniform(key, shape, minval=bounds[0], maxval=bounds[1])
