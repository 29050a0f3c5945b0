"""Glyphs are many, different, and the same every time."""

import jax
import numpy as np
import pytest

from metajax.core.validation import InputError
from metajax.tasks.glyphs import SPLITS, glyphs


def drawings(split, **settings):
  found = glyphs(split, **settings)
  images = np.asarray(found.images)
  return images.reshape(len(found.count), 20, *images.shape[1:])


def test_there_are_as_many_as_in_omniglot():
  assert sum(count for _, count in SPLITS.values()) == 1623
  ranges = [range(first, first + count) for first, count in SPLITS.values()]
  assert sorted(sum(map(list, ranges), [])) == list(range(1623))
  assert drawings('validation').shape == (100, 20, 28, 28, 1)


def test_no_two_drawings_are_equal_and_none_is_empty():
  images = drawings('validation').reshape(2000, -1)
  assert len({image.tobytes() for image in images}) == 2000
  ink = images.mean(1) / 255
  assert ink.min() > 0.005
  assert ink.max() < 0.5
  assert images.max(1).min() > 200


def test_the_seed_decides_and_classes_do_not_hang_on_how_many():
  few = drawings('test', num_classes=3)
  np.testing.assert_array_equal(few, drawings('test', num_classes=5)[:3])
  assert np.any(few != drawings('test', num_classes=3, seed=1))
  assert np.any(few != drawings('train', num_classes=3))


def test_another_size_shows_the_same_drawings():
  large = drawings('validation', num_classes=10, size=112).astype(float)
  small = drawings('validation', num_classes=10, size=28).astype(float)
  shrunk = large.reshape(10, 20, 28, 4, 28, 4).mean((3, 5))
  correlation = np.corrcoef(shrunk.ravel(), small.ravel())[0, 1]
  assert correlation > 0.9


def test_nearest_pixels_are_better_than_chance_and_far_from_right():
  images = drawings('validation').reshape(100, 20, -1).astype(np.float32)
  generator = np.random.default_rng(0)
  right = []
  for _ in range(400):
    classes = generator.choice(100, 5, replace=False)
    examples, asked = generator.permuted(
      np.tile(np.arange(20), (5, 1)), axis=1
    )[:, :2].T
    distances = np.linalg.norm(
      images[classes, asked][:, None] - images[classes, examples][None], axis=-1
    )
    right.append(np.mean(distances.argmin(1) == np.arange(5)))
  assert 0.35 < np.mean(right) < 0.65


def test_what_cannot_be_drawn_is_refused():
  with pytest.raises(InputError, match="split.*'dev'"):
    glyphs('dev')
  with pytest.raises(InputError, match='size'):
    glyphs('test', size=4)
  with pytest.raises(InputError, match='num_classes.*423.*424'):
    glyphs('test', num_classes=424)


def test_they_lie_on_the_device_as_bytes():
  found = glyphs('validation')
  assert isinstance(found.images, jax.Array)
  assert found.images.dtype == np.uint8
