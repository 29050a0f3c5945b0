"""Pixel art by seed: buildings that stand and creatures that move."""

import colorsys
from typing import NamedTuple

from jax import Array
import jax.numpy as jnp
import numpy as np

SPRITE_PIXELS = 16
NUM_POSES = 8
_CELL_PIXELS = 4


class SpriteSheet(NamedTuple):
  """Sprites in all their poses.

  Attributes:
    images: [n, 8, 16, 16, 4] float32, red, green, blue in [0, 255] and alpha,
      0 or 1. A sprite of three cells leaves the last four rows and columns
      empty.
    sides: [n] int32, width and height in cells of 4 pixels, 3 or 4.
    num_poses: [n] int32, how many of its poses differ: 1 or 8.
  """

  images: Array
  sides: Array
  num_poses: Array


def make_sprites(num_sprites: int, seed: int = 0) -> SpriteSheet:
  """Draws sprites: symmetric silhouettes, each with a palette of its own.

  Every other one is a building, in one pose. The rest are creatures, whose
  limbs stride and whose heads lean.

  Args:
    num_sprites: how many. The first ones do not depend on it.
    seed: decides on all of them.

  Returns:
    The sprites.
  """
  images = np.zeros(
    (num_sprites, NUM_POSES, SPRITE_PIXELS, SPRITE_PIXELS, 4), np.float32
  )
  sides = np.zeros((num_sprites,), np.int32)
  for i in range(num_sprites):
    generator = np.random.default_rng((seed, i))
    sides[i] = generator.integers(3, 5)
    size = int(sides[i]) * _CELL_PIXELS
    is_building = i % 2 == 0
    draw = _draw_building if is_building else _draw_creature
    parts = draw(size, generator)
    palette = _palette(i, generator)
    for pose in range(NUM_POSES):
      posed = parts if is_building else _strike_pose(parts, pose)
      images[i, pose, :size, :size] = _paint(posed, palette)
  return SpriteSheet(
    images=jnp.asarray(images),
    sides=jnp.asarray(sides),
    num_poses=jnp.where(jnp.arange(num_sprites) % 2 == 0, 1, NUM_POSES),
  )


def _palette(index: int, generator: np.random.Generator) -> np.ndarray:
  """Returns [4, 3]: nothing, main colour, shade, accent."""
  # Steps of the golden ratio: hues of near indices lie far apart.
  hue = (0.13 + index * 0.6180339887) % 1.0
  saturation = generator.uniform(0.55, 1.0)
  value = generator.uniform(0.7, 1.0)
  main = colorsys.hsv_to_rgb(hue, saturation, value)
  shade = colorsys.hsv_to_rgb(hue, saturation, 0.55 * value)
  accent = colorsys.hsv_to_rgb(
    (hue + generator.uniform(0.3, 0.7)) % 1.0, 0.8, 1
  )
  return 255.0 * np.array([(0.0, 0.0, 0.0), main, shade, accent])


def _draw_building(size: int, generator: np.random.Generator) -> np.ndarray:
  """Returns [size, size] parts (0 nothing to 3 accent): walls in blocks."""
  half = size // 2
  parts = np.zeros((size, half), int)
  top = 0
  while top < size:
    height = int(generator.integers(2, 5))
    width = int(generator.integers(half - 2, half + 1)) if top else half - 3
    parts[top : top + height, half - width :] = generator.choice([1, 1, 2])
    top += height
  windows = generator.random((size // 2, half // 2)) < 0.35
  windows = np.kron(windows, np.ones((2, 2), bool))[:size, -half:]
  windows = np.pad(windows, ((0, 0), (half - windows.shape[1], 0)))
  parts = np.where(windows & (parts > 0), 3, parts)
  return np.concatenate([parts, parts[:, ::-1]], axis=1)


def _draw_creature(size: int, generator: np.random.Generator) -> np.ndarray:
  """Returns [size, size] parts (0 nothing to 3 accent): body and limbs."""
  half = size // 2
  down = (np.arange(size)[:, None] + 0.5 - half) / half
  right = (np.arange(half)[None, :] + 0.5 - half) / half
  distance = np.hypot(down / 0.95, right / generator.uniform(0.6, 0.95))
  chance = np.clip(1.7 - 1.5 * distance, 0.0, 1.0)
  is_body = generator.random((size, half)) < chance
  # Limbs that reach to the side, at two heights.
  for row in generator.choice(np.arange(size // 4, size - 2), 2, replace=False):
    is_body[row : row + 2, 1:] = True
  parts = np.where(is_body, generator.choice([1, 1, 2], (size, half)), 0)
  is_eye = generator.random((size, half)) < 0.12
  parts = np.where(is_eye & is_body, 3, parts)
  return np.concatenate([parts, parts[:, ::-1]], axis=1)


def _strike_pose(parts: np.ndarray, pose: int) -> np.ndarray:
  """Strides with the limbs (four phases) and leans the head (two sides)."""
  limb, head = len(parts) // 4, len(parts) // 3
  stride = (-1, 0, 1, 2)[pose % 4]
  posed = parts.copy()
  posed[:, :limb] = np.roll(parts[:, :limb], stride, axis=0)
  posed[:, -limb:] = np.roll(parts[:, -limb:], -stride, axis=0)
  posed[:head] = np.roll(posed[:head], (-1, 1)[pose // 4], axis=1)
  return posed


def _paint(parts: np.ndarray, palette: np.ndarray) -> np.ndarray:
  """Returns [size, size, 4] with a dark outline inside the silhouette."""
  is_inside = parts > 0
  padded = np.pad(is_inside, 1)
  is_core = padded[:-2, 1:-1] & padded[2:, 1:-1]
  is_core &= padded[1:-1, :-2] & padded[1:-1, 2:]
  colours = palette[parts]
  colours = np.where(is_core[..., None], colours, 0.35 * colours)
  return np.concatenate([colours, is_inside[..., None]], axis=-1)
