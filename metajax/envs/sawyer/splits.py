"""Where the Sawyer's tasks are drawn from, held-out ones apart."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from metajax.envs.appearance import Appearance, painted, plain
from metajax.envs.sawyer.families import Point

_NUM_STRIPS = 8


class Split(NamedTuple):
  """Which tasks are drawn.

  Attributes:
    strips: which of eight strips of x, of equal width, goals come from.
    seeds: range of the texture seeds.
  """

  strips: tuple[int, ...]
  seeds: tuple[int, int]


# Two strips are only for held-out tasks, so that those lie between training
# tasks.
TRAINING = Split((0, 1, 3, 4, 6, 7), (1, 10_000))
HELD_OUT = Split((2, 5), (10_000, 20_000))
_EVERYWHERE = tuple(range(_NUM_STRIPS))


def point_in(
  region: tuple[Point, Point],
  key: Array,
  strips: tuple[int, ...] = _EVERYWHERE,
) -> Array:
  """Draws a point [3] of a box (low, high), its x from some of the strips."""
  low, high = (jnp.array(corner) for corner in region)
  strip_key, place_key = jax.random.split(key)
  strip = jax.random.choice(strip_key, jnp.array(strips))
  place = jax.random.uniform(place_key, (3,))
  place = place.at[0].set((strip + place[0]) / _NUM_STRIPS)
  return low + (high - low) * place


def object_painter(model: Any, split: Split) -> Callable[[Array], Appearance]:
  """Returns `(key) -> Appearance` that paints the body `object`.

  Args:
    model: the host's `mujoco.MjModel` of a scene.
    split: whose texture seeds it takes.
  """
  appearance = plain(model)
  body = model.body('object').id
  geoms = jnp.asarray(np.flatnonzero(model.geom_bodyid == body))
  return lambda key: painted(appearance, geoms, key, seed_range=split.seeds)
