"""Images are warped as the formula says, and keep their classes."""

import math

import numpy as np
from PIL import Image
import pytest

from metajax.core.validation import InputError
from metajax.tasks.glyphs import glyphs
from metajax.tasks.image_classification import labelled_images
from metajax.tasks.image_distortion import distorted


def smooth_images(size=41, channels=1):
  """Two classes of blots that fade out long before the border."""
  grid = np.arange(size) - (size - 1) / 2
  y, x = np.meshgrid(grid, grid, indexing='ij')
  blots = [
    200 * np.exp(-((x - dx) ** 2) / 16 - ((y - dy) ** 2) / 8)
    for dx, dy in ((0, 0), (4, -3), (-5, 2))
  ]
  pixels = np.repeat(np.round(blots).astype(np.uint8)[..., None], channels, -1)
  return labelled_images(pixels, np.array([2, 1]))


def centre_and_spread(picture):
  """The centre of mass and the covariance of a picture's ink, in (x, y)."""
  ink = np.asarray(picture, float)[..., 0]
  grid = np.arange(len(ink)) - (len(ink) - 1) / 2
  y, x = np.meshgrid(grid, grid, indexing='ij')
  points = np.stack([x.ravel(), y.ravel()])
  return (
    np.average(points, axis=1, weights=ink.ravel()),
    np.cov(points, aweights=ink.ravel(), ddof=0),
  )


def test_nothing_changes_where_nothing_is_asked_for():
  images = smooth_images()
  same = distorted(images, size=41)
  np.testing.assert_array_equal(same.images, images.images)
  np.testing.assert_array_equal(same.first, images.first)
  np.testing.assert_array_equal(same.count, images.count)


@pytest.mark.parametrize(
  ('scale', 'shear'), [(0.5, 0.0), (1.5, 0.0), (1.0, math.pi / 6), (0.8, -0.5)]
)
def test_moments_follow_the_matrix(scale, shear):
  """A linear map M takes a centre c to M c, a covariance C to M C M^T."""
  images = smooth_images()
  warped = distorted(images, scale=scale, shear=shear, size=41)
  matrix = scale * np.array([[1.0, math.tan(shear)], [0.0, 1.0]])
  for before, after in zip(images.images, warped.images, strict=True):
    centre, spread = centre_and_spread(before)
    new_centre, new_spread = centre_and_spread(after)
    np.testing.assert_allclose(new_centre, matrix @ centre, atol=0.1)
    np.testing.assert_allclose(
      new_spread, matrix @ spread @ matrix.T, rtol=0.05, atol=0.5
    )


def test_bilinear_as_pillow_does_it():
  """Enlarged and sheared, with Pillow's own inverse of the map."""
  images, scale, shear = smooth_images(), 1.3, 0.3
  warped = distorted(images, scale=scale, shear=shear, size=41).images
  lean, middle = math.tan(shear), 41 / 2
  inverse = (
    1 / scale,
    -lean / scale,
    middle - (1 - lean) * middle / scale,
    0.0,
    1 / scale,
    middle - middle / scale,
  )
  for before, after in zip(images.images, warped, strict=True):
    expected = Image.fromarray(np.asarray(before[..., 0])).transform(
      (41, 41), Image.Transform.AFFINE, inverse, Image.Resampling.BILINEAR
    )
    inside = (slice(2, -2), slice(2, -2))
    np.testing.assert_allclose(
      after[..., 0].astype(int)[inside],
      np.asarray(expected, int)[inside],
      atol=1,
    )


def test_shrinking_takes_the_mean_of_what_is_merged():
  pixels = np.random.default_rng(0).integers(0, 256, (1, 36, 36, 3), np.uint8)
  images = labelled_images(pixels, np.array([1]))
  means = pixels.reshape(1, 12, 3, 12, 3, 3).mean((2, 4))
  smaller = distorted(images, size=12)
  np.testing.assert_array_equal(smaller.images, np.round(means))
  # Scaled by a third it fills the middle third, and the rest is background.
  third = np.asarray(distorted(images, scale=1 / 3, size=36).images)
  np.testing.assert_array_equal(third[:, 12:24, 12:24], np.round(means))
  third = third.copy()
  third[:, 12:24, 12:24] = 0
  assert not third.any()


def test_thin_strokes_survive_being_made_small():
  images = glyphs('validation', size=105, num_classes=5)
  ink = np.asarray(images.images, float).mean((1, 2, 3))
  small = np.asarray(distorted(images, scale=1 / 3).images, float)
  np.testing.assert_allclose(small.mean((1, 2, 3)), ink / 9, rtol=0.05)


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'scale': 0.0}, r'scale: expected a number in \[0.1, 10\], got 0.0'),
    ({'scale': math.nan}, 'scale'),
    ({'shear': math.pi / 2}, 'shear'),
    ({'size': 0}, 'size'),
  ],
)
def test_what_is_out_of_range_is_refused(settings, message):
  with pytest.raises(InputError, match=message):
    distorted(smooth_images(), **settings)


def test_only_squares_are_warped():
  images = labelled_images(np.zeros((1, 4, 6, 1), np.uint8), np.array([1]))
  with pytest.raises(InputError, match='square ones, got .4 x 6'):
    distorted(images)
