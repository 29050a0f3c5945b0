"""Pretraining sees every class, and each image under its own label."""

import jax
import numpy as np
import pytest

from metajax.core.validation import InputError
from metajax.tasks.image_classification import labelled_images
from metajax.tasks.pooled_classes import num_pooled_classes, pooled_classes

COUNTS = np.array([2, 5, 3])


def numbered():
  """Images whose first pixel is their class, and whose second their number."""
  pixels = np.zeros((10, 4, 4, 1), np.uint8)
  pixels[:, 0, 0, 0] = np.repeat(np.arange(3), COUNTS) + 1
  pixels[:, 0, 1, 0] = np.arange(10)
  return labelled_images(pixels, COUNTS)


def draw(quarter_turns):
  family = pooled_classes(
    numbered(), batch_size=400, quarter_turns=quarter_turns
  )
  query = jax.jit(family.sample)(family.data, jax.random.key(0)).query
  return np.round(np.asarray(query.inputs) * 255), np.asarray(query.targets)


def test_every_class_and_image_is_met_under_its_label():
  pictures, labels = draw(quarter_turns=False)
  np.testing.assert_array_equal(pictures[:, 0, 0, 0], labels + 1)
  assert set(pictures[:, 0, 1, 0].astype(int)) == set(range(10))
  np.testing.assert_allclose(np.bincount(labels) / 400, 1 / 3, atol=0.1)


def test_a_turned_class_is_a_class_of_its_own():
  assert num_pooled_classes(numbered(), quarter_turns=True) == 12
  pictures, labels = draw(quarter_turns=True)
  assert set(labels) == set(range(12))
  for picture, label in zip(pictures, labels, strict=True):
    upright = np.rot90(picture, -(label % 4))
    assert upright[0, 0, 0] == label // 4 + 1


def test_a_batch_of_none_is_refused():
  with pytest.raises(InputError, match='batch_size'):
    pooled_classes(numbered(), batch_size=0)
