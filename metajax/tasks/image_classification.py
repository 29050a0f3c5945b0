"""Few-shot classification of images: N classes, K examples of each."""

from typing import NamedTuple

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from metajax.core.learner import Episode, Examples, TaskFamily
from metajax.core.validation import InputError, check_count, reject


class LabelledImages(NamedTuple):
  """Images by class, as they lie on the device.

  Attributes:
    images: [num_images, height, width, channels] uint8; those of a class stand
      behind each other.
    first: [num_classes] int32, where each class begins.
    count: [num_classes] int32, how many images it has.
  """

  images: Array
  first: Array
  count: Array


class Classification(NamedTuple):
  """One task: which classes are to be told apart.

  Attributes:
    classes: [ways] int32, the class of each label.
    quarter_turns: [ways] int32, how often the images of each are turned.
  """

  classes: Array
  quarter_turns: Array


def labelled_images(images: np.ndarray, counts: np.ndarray) -> LabelledImages:
  """Returns images with where each class begins.

  Args:
    images: [num_images, height, width, channels] uint8, by class.
    counts: [num_classes] int, how many images each class has, >= 1.

  Raises:
    InputError: if they do not fit each other.
  """
  counts = np.asarray(counts)
  if images.ndim != 4 or images.dtype != np.uint8:
    raise reject(
      'images',
      '[num_images, height, width, channels] uint8',
      f'{list(images.shape)} {images.dtype}',
    )
  if counts.ndim != 1 or np.any(counts < 1) or counts.sum() != len(images):
    raise reject('counts', f'counts >= 1 that add up to {len(images)}', counts)
  return LabelledImages(
    images=jnp.asarray(images),
    first=jnp.asarray(np.cumsum(counts) - counts, jnp.int32),
    count=jnp.asarray(counts, jnp.int32),
  )


def image_classification(
  images: LabelledImages,
  *,
  ways: int,
  shots: int,
  query_shots: int,
  quarter_turns: bool = False,
) -> TaskFamily:
  """Returns N-way K-shot classification of images (Finn 2018, section 4.6.2).

  Which class gets which label is drawn anew for every task, and so are the
  examples: support and query share none.

  Args:
    images: the classes to draw from.
    ways: classes of a task, N >= 2.
    shots: support examples of a class, K >= 1.
    query_shots: query examples of a class, >= 1.
    quarter_turns: whether all images of a class are turned by a multiple of 90
      degrees that is drawn for the class, anew for every task (Finn 2018,
      section 4.6.2, after Santoro et al. 2016).

  Returns:
    A family whose tasks are `Classification`s, and whose support and query are
    `Examples` of `[ways * shots, height, width, channels]` float32 inputs in
    [0, 1] and `[ways * shots]` int32 labels, class by class.

  Raises:
    InputError: for a count out of its range, or too few classes or images.
  """
  check_count('ways', ways, minimum=2)
  check_count('shots', shots)
  check_count('query_shots', query_shots)
  num_classes, per_class = len(images.count), shots + query_shots
  if num_classes < ways:
    raise InputError(
      f'ways: expected at most {num_classes}, the classes there are, got {ways}'
    )
  fewest = int(np.min(images.count))
  if fewest < per_class:
    raise InputError(
      f'shots, query_shots: expected at most {fewest} together, the images of '
      f'the smallest class, got {shots} + {query_shots}'
    )
  height, width = images.images.shape[1:3]
  if quarter_turns and height != width:
    raise InputError(
      f'images: expected square ones to be turned, got {height} x {width}'
    )
  most = int(np.max(images.count))

  def draw_examples(data, index, turns, key):
    # The first of a random order of the images that the class has.
    order = jax.random.uniform(key, (most,))
    order = jnp.where(jnp.arange(most) < data.count[index], order, jnp.inf)
    chosen = data.first[index] + jnp.argsort(order)[:per_class]
    pictures = data.images[chosen]
    if quarter_turns:
      pictures = jax.vmap(quarter_turned, in_axes=(0, None))(pictures, turns)
    return pictures.astype(jnp.float32) / 255.0

  def sample(data, key):
    class_key, turn_key, example_key = jax.random.split(key, 3)
    task = Classification(
      classes=jax.random.choice(class_key, num_classes, (ways,), replace=False),
      quarter_turns=jax.random.randint(turn_key, (ways,), 0, 4)
      if quarter_turns
      else jnp.zeros((ways,), jnp.int32),
    )
    pictures = jax.vmap(draw_examples, in_axes=(None, 0, 0, 0))(
      data,
      task.classes,
      task.quarter_turns,
      jax.random.split(example_key, ways),
    )

    def examples(pictures):
      labels = jnp.repeat(jnp.arange(ways), pictures.shape[1])
      return Examples(pictures.reshape(-1, *pictures.shape[2:]), labels)

    return Episode(
      task, examples(pictures[:, :shots]), examples(pictures[:, shots:])
    )

  return TaskFamily(sample, images)


def quarter_turned(picture: Array, quarter_turns: Array) -> Array:
  """Turns a square image counter-clockwise by multiples of 90 degrees.

  Args:
    picture: [size, size, channels].
    quarter_turns: [] int32, how often, 0 to 3.
  """
  # All four, and one of them is picked: under vmap a branch takes all as well.
  turned = jnp.stack([jnp.rot90(picture, turns) for turns in range(4)])
  return turned[quarter_turns]
