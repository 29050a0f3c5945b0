"""How a scene looks: data of the task that changes nothing simulated."""

import dataclasses
from typing import Any

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp


@struct.dataclass
class Light:
  """One distant light, and the light from everywhere."""

  # [3] float32, toward the light, of any length.
  direction: Array = struct.field(
    default_factory=lambda: jnp.array([0.3, -0.4, 1.0])
  )
  ambient: Array | float = 0.45  # what a surface in shadow keeps
  # [3] float32, what is seen where no shape is.
  sky: Array = struct.field(
    default_factory=lambda: jnp.array([0.62, 0.72, 0.82])
  )


@struct.dataclass
class Appearance:
  """Colours and textures of one task, for whoever draws it."""

  # [ngeom, 4] float32, red, green, blue, alpha in [0, 1], as model.geom_rgba.
  geom_rgba: Array
  texture_seeds: Array  # [ngeom] int32, decides a texture; 0: plain colour
  light: Light | None = None  # of the task's own; None: whatever there is


def plain(model: Any) -> Appearance:
  """Returns the colours that the model itself has, without textures."""
  return Appearance(
    geom_rgba=jnp.asarray(model.geom_rgba, jnp.float32),
    texture_seeds=jnp.zeros((model.ngeom,), jnp.int32),
  )


def painted(
  appearance: Appearance,
  geoms: Array,
  key: Array,
  *,
  seed_range: tuple[int, int],
) -> Appearance:
  """Gives one object a random colour and texture.

  Args:
    appearance: what the scene looks like else.
    geoms: [n] int, the object's geoms; all get the same.
    key: key of the colour and the texture.
    seed_range: texture seeds are drawn from `[first, last)`, from 1 on: train
      and held-out tasks take ranges that do not meet.

  Returns:
    The appearance with that object painted.
  """
  colour_key, texture_key = jax.random.split(key)
  colour = jax.random.uniform(colour_key, (3,), minval=0.15, maxval=0.95)
  seed = jax.random.randint(texture_key, (), *seed_range)
  return dataclasses.replace(
    appearance,
    geom_rgba=appearance.geom_rgba.at[geoms, :3].set(colour[None]),
    texture_seeds=appearance.texture_seeds.at[geoms].set(seed),
  )


def random_light(key: Array) -> Light:
  """Draws the light of a room: from where it comes, and how much of it.

  It stands 30 to 80 degrees above the horizon.
  """
  around_key, height_key, ambient_key, sky_key = jax.random.split(key, 4)
  around = jax.random.uniform(around_key, maxval=2.0 * jnp.pi)
  height = jax.random.uniform(
    height_key, minval=jnp.pi / 6, maxval=4 * jnp.pi / 9
  )
  flat = jnp.stack([jnp.cos(around), jnp.sin(around)]) * jnp.cos(height)
  return Light(
    direction=jnp.append(flat, jnp.sin(height)),
    ambient=jax.random.uniform(ambient_key, minval=0.3, maxval=0.6),
    sky=jax.random.uniform(sky_key, (3,), minval=0.4, maxval=0.9),
  )
