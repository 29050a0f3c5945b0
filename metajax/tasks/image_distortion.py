"""Images scaled and sheared: tasks from beyond the training distribution."""

import math

import numpy as np

from metajax.core.validation import check_count, check_range, reject
from metajax.tasks.image_classification import LabelledImages, labelled_images

# Nothing would be left of an image beyond these.
_SCALES = (0.1, 10.0)
_SHEARS = (-1.4, 1.4)  # rad
_WARPED_AT_ONCE = 512


def distorted(
  images: LabelledImages,
  *,
  scale: float = 1.0,
  shear: float = 0.0,
  size: int = 28,
) -> LabelledImages:
  """Warps images about their centre, then samples them at another size.

    x' = scale * (x + tan(shear) * y),   y' = scale * y

  in pixels right of and below the centre. Source: Finn 2018, section 6.4,
  where drawings of 105 x 105 pixels are warped, then brought to 28 x 28.

  Args:
    images: square ones.
    scale: how much larger the image becomes, in [0.1, 10].
    shear: the angle by which vertical lines lean, their lower end to the
      right, in [-1.4, 1.4] rad.
    size: height and width of what is returned, in pixels.

  Returns:
    `LabelledImages` of `[num_images, size, size, channels]` uint8 and the same
    classes. Between pixels it is interpolated bilinearly; where pixels are
    merged, their mean is taken; and 0, the background of glyphs and of
    Omniglot, is what lies outside.

  Raises:
    InputError: for a number out of its range or images that are not square.
  """
  check_range('scale', scale, minimum=_SCALES[0], maximum=_SCALES[1])
  check_range('shear', shear, minimum=_SHEARS[0], maximum=_SHEARS[1])
  check_count('size', size)
  pictures = np.asarray(images.images)
  number, height, width, channels = pictures.shape
  if height != width:
    raise reject('images', 'square ones', f'{height} x {width}')
  weights = _weights(height, size, scale, shear)
  warped = np.empty((number, size, size, channels), np.uint8)
  for start in range(0, number, _WARPED_AT_ONCE):
    chunk = pictures[start : start + _WARPED_AT_ONCE]
    planes = chunk.transpose(0, 3, 1, 2).reshape(-1, height * width)
    # Every pixel is a weighted sum of pixels, the same one in all images.
    values = planes.astype(np.float32) @ weights
    warped[start : start + len(chunk)] = np.round(
      values.reshape(-1, channels, size, size).transpose(0, 2, 3, 1)
    )
  return labelled_images(warped, np.asarray(images.count))


def _weights(
  from_size: int, to_size: int, scale: float, shear: float
) -> np.ndarray:
  """Returns `[from_size**2, to_size**2]` float32, what makes up each pixel."""
  lean = math.tan(shear)
  # Samples of a pixel lie no further apart than the pixels they are taken of.
  stride = from_size / to_size / scale * math.hypot(1.0, lean)
  samples = max(1, math.ceil(stride - 1e-9))
  offsets = (np.arange(to_size * samples) + 0.5) / samples - to_size / 2
  offsets *= from_size / to_size / scale
  below, right = np.meshgrid(offsets, offsets, indexing='ij')
  rows = below + (from_size - 1) / 2
  columns = right - lean * below + (from_size - 1) / 2
  pixel = np.arange(to_size * samples) // samples
  pixels = pixel[:, None] * to_size + pixel[None]
  weights = np.zeros((from_size**2, to_size**2))
  for row in (np.floor(rows), np.floor(rows) + 1):
    for column in (np.floor(columns), np.floor(columns) + 1):
      share = (1 - np.abs(rows - row)) * (1 - np.abs(columns - column))
      inside = (0 <= row) & (row < from_size)
      inside &= (0 <= column) & (column < from_size)
      source = (row * from_size + column)[inside].astype(int)
      np.add.at(weights, (source, pixels[inside]), share[inside])
  return (weights / samples**2).astype(np.float32)
