"""How a scene looks: data of the task that changes nothing simulated."""

from typing import Any

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp


@struct.dataclass
class Appearance:
  """Colours and textures of one task, for whoever draws it."""

  # [ngeom, 4] float32, red, green, blue, alpha in [0, 1], as model.geom_rgba.
  geom_rgba: Array
  texture_seeds: Array  # [ngeom] int32, decides a texture; 0: plain colour


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
  return Appearance(
    geom_rgba=appearance.geom_rgba.at[geoms, :3].set(colour[None]),
    texture_seeds=appearance.texture_seeds.at[geoms].set(seed),
  )
