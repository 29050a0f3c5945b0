"""All classes of images at once: what a classifier is pretrained on."""

import jax
import jax.numpy as jnp

from metajax.core.learner import Episode, Examples, TaskFamily
from metajax.core.validation import check_count
from metajax.tasks.image_classification import LabelledImages, quarter_turned


def num_pooled_classes(
  images: LabelledImages, *, quarter_turns: bool = False
) -> int:
  """Returns how many classes `pooled_classes` tells apart."""
  return len(images.count) * (4 if quarter_turns else 1)


def pooled_classes(
  images: LabelledImages, *, batch_size: int, quarter_turns: bool = False
) -> TaskFamily:
  """Returns the one task of telling all classes apart.

  It is what the fine-tuning and nearest-neighbour baselines of MiniImagenet
  are trained on (Ravi and Larochelle 2017, section 5.1).

  Args:
    images: the classes.
    batch_size: images drawn for an episode's query, with replacement, >= 1.
    quarter_turns: whether a class turned by 90, 180 or 270 degrees counts as
      a class of its own, as it does in the few-shot tasks.

  Returns:
    A family whose episodes hold a query of `[batch_size, height, width,
    channels]` float32 in [0, 1] and `[batch_size]` int32 labels, and a support
    of one such example, from which nothing can be learned.

  Raises:
    InputError: if `batch_size` is not a count.
  """
  check_count('batch_size', batch_size)
  num_classes = len(images.count)

  def draw(data, key):
    class_key, image_key, turn_key = jax.random.split(key, 3)
    label = jax.random.randint(class_key, (), 0, num_classes)
    which = jax.random.randint(image_key, (), 0, data.count[label])
    picture = data.images[data.first[label] + which]
    if quarter_turns:
      turns = jax.random.randint(turn_key, (), 0, 4)
      picture = quarter_turned(picture, turns)
      label = 4 * label + turns
    return picture.astype(jnp.float32) / 255.0, label

  def sample(data, key):
    pictures, labels = jax.vmap(draw, in_axes=(None, 0))(
      data, jax.random.split(key, batch_size)
    )
    query = Examples(pictures, labels)
    return Episode((), jax.tree.map(lambda leaf: leaf[:1], query), query)

  return TaskFamily(sample, images)
