"""Tasks of a few classes: distinct, shuffled, turned, support from query."""

import functools

import jax
import numpy as np
import pytest

from metajax.core.validation import InputError
from metajax.tasks.image_classification import (
  image_classification,
  labelled_images,
  quarter_turned,
)

COUNTS = np.array([4, 7, 5, 4, 6, 9])
NUM_TASKS = 300


def numbered(size=4):
  """Images whose first pixel is their class, and whose second their number."""
  pixels = np.zeros((COUNTS.sum(), size, size, 1), np.uint8)
  pixels[:, 0, 0, 0] = np.repeat(np.arange(len(COUNTS)), COUNTS) + 1
  pixels[:, 0, 1, 0] = np.arange(COUNTS.sum())
  return labelled_images(pixels, COUNTS)


@functools.cache
def sampler(quarter_turns):
  family = image_classification(
    numbered(), ways=3, shots=2, query_shots=2, quarter_turns=quarter_turns
  )
  sample = jax.jit(jax.vmap(family.sample, in_axes=(None, 0)))
  return lambda keys: jax.device_get(sample(family.data, keys))


def draw(*, seed=0, quarter_turns=True):
  keys = jax.random.split(jax.random.key(seed), NUM_TASKS)
  return sampler(quarter_turns)(keys)


def upright(inputs, quarter_turns):
  """Turns the images of each class back; returns them as bytes."""
  images = np.round(255 * inputs).astype(int)
  per_class = images.reshape(len(images), 3, -1, *images.shape[2:])
  back = np.empty_like(per_class)
  for task, label in np.ndindex(quarter_turns.shape):
    turns = -quarter_turns[task, label]
    back[task, label] = np.rot90(per_class[task, label], turns, axes=(1, 2))
  return back


@pytest.fixture(scope='module')
def episodes():
  return draw()


def test_shapes_and_ranges(episodes):
  for examples in (episodes.support, episodes.query):
    assert examples.inputs.shape == (NUM_TASKS, 6, 4, 4, 1)
    assert examples.inputs.dtype == np.float32
    assert 0.0 <= examples.inputs.min()
    assert examples.inputs.max() == np.float32(COUNTS.sum() - 1) / 255
    np.testing.assert_array_equal(
      examples.targets, np.tile([0, 0, 1, 1, 2, 2], (NUM_TASKS, 1))
    )


def test_classes_of_a_task_are_distinct_and_every_label_meets_every_class(
  episodes,
):
  classes = episodes.task.classes
  assert all(len(set(task)) == 3 for task in classes)
  for label in range(3):
    share = np.bincount(classes[:, label], minlength=6) / NUM_TASKS
    np.testing.assert_allclose(share, 1 / 6, atol=0.08)


def test_images_are_those_of_the_class_that_the_label_stands_for(episodes):
  for examples in (episodes.support, episodes.query):
    images = upright(examples.inputs, episodes.task.quarter_turns)
    np.testing.assert_array_equal(
      images[..., 0, 0, 0],
      np.repeat(episodes.task.classes[..., None] + 1, 2, axis=-1),
    )


def test_support_and_query_share_no_image_and_all_images_are_met(episodes):
  turns = episodes.task.quarter_turns
  numbers = [
    upright(examples.inputs, turns)[..., 0, 1, 0].reshape(NUM_TASKS, -1)
    for examples in (episodes.support, episodes.query)
  ]
  for task in np.concatenate(numbers, axis=1):
    assert len(set(task)) == 12
  for part in numbers:
    assert set(part.ravel()) == set(range(COUNTS.sum()))


def test_all_quarter_turns_occur_and_none_unless_asked_for(episodes):
  share = np.bincount(episodes.task.quarter_turns.ravel()) / (3 * NUM_TASKS)
  np.testing.assert_allclose(share, 1 / 4, atol=0.06)
  plain = draw(quarter_turns=False)
  assert not plain.task.quarter_turns.any()
  np.testing.assert_array_equal(
    np.round(255 * plain.support.inputs)[:, ::2, 0, 0, 0],
    plain.task.classes + 1,
  )


def test_turns_are_counter_clockwise():
  picture = np.arange(12).reshape(2, 2, 3)
  for turns in range(4):
    np.testing.assert_array_equal(
      quarter_turned(picture, np.int32(turns)), np.rot90(picture, turns)
    )


def test_the_key_decides(episodes):
  jax.tree.map(np.testing.assert_array_equal, draw(), episodes)
  assert np.any(draw(seed=1).task.classes != episodes.task.classes)


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'ways': 1}, 'ways: expected an integer >= 2, got 1'),
    ({'ways': 7}, 'ways: expected at most 6, the classes there are, got 7'),
    ({'shots': 0}, 'shots: expected an integer >= 1'),
    ({'query_shots': 0}, 'query_shots'),
    ({'shots': 3, 'query_shots': 2}, r'at most 4 together, .* got 3 \+ 2'),
  ],
)
def test_counts_out_of_range_are_refused(settings, message):
  counts = {'ways': 2, 'shots': 1, 'query_shots': 1} | settings
  with pytest.raises(InputError, match=message):
    image_classification(numbered(), **counts)


def test_only_squares_are_turned():
  images = labelled_images(np.zeros((6, 4, 5, 1), np.uint8), np.array([3, 3]))
  with pytest.raises(InputError, match='square ones to be turned, got 4 x 5'):
    image_classification(
      images, ways=2, shots=1, query_shots=1, quarter_turns=True
    )


@pytest.mark.parametrize(
  ('images', 'counts', 'message'),
  [
    (np.zeros((3, 4, 4), np.uint8), [3], r'images: .*\[3, 4, 4\] uint8'),
    (np.zeros((3, 4, 4, 1), np.float32), [3], 'images: .*float32'),
    (np.zeros((3, 4, 4, 1), np.uint8), [2], 'counts: .*add up to 3'),
    (np.zeros((3, 4, 4, 1), np.uint8), [3, 0], 'counts'),
    (np.zeros((3, 4, 4, 1), np.uint8), [[3]], 'counts'),
  ],
)
def test_images_and_counts_that_do_not_fit_are_refused(images, counts, message):
  with pytest.raises(InputError, match=message):
    labelled_images(images, np.array(counts))
