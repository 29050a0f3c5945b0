"""Images told apart by attributes, from examples that leave open by which.

Source: Finn, Xu and Levine, "Probabilistic Model-Agnostic Meta-Learning"
(2018), section 5; Finn 2018, chapter 6 (ambiguous CelebA).
"""

from collections.abc import Sequence
import itertools
from typing import NamedTuple

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from metajax.core.learner import Episode, Examples, Metrics, TaskFamily
from metajax.core.validation import InputError, check_count
from metajax.tasks.celeba import AttributeImages

NUM_EXPLANATIONS = 3  # the pairs of three attributes


class AttributeTask(NamedTuple):
  """Which attributes a positive image shows, and a negative one does not."""

  attributes: Array  # [2] or [3] int32


def attribute_pairs(
  images: AttributeImages, among: Sequence[int], *, examples: int
) -> np.ndarray:
  """Returns the pairs that have examples enough, in order.

  Args:
    images: the data set.
    among: the attributes that may be paired.
    examples: how many images must show both, and how many neither, >= 1.

  Returns:
    [pairs, 2] int32.

  Raises:
    InputError: if there is none.
  """
  return _groups(images, among, examples, 2)


def attribute_triples(
  images: AttributeImages, among: Sequence[int], *, examples: int
) -> np.ndarray:
  """Returns the triples that have examples enough; as `attribute_pairs`.

  Returns:
    [triples, 3] int32.
  """
  return _groups(images, among, examples, 3)


def attribute_classification(
  images: AttributeImages, pairs: np.ndarray, *, shots: int, query_shots: int
) -> TaskFamily:
  """Returns the family of training: one pair of attributes tells all.

  Positives show both attributes of a pair that is drawn, negatives neither.

  Args:
    images: the data set.
    pairs: [pairs, 2] int32, what is drawn from.
    shots: support images of each label, K >= 1.
    query_shots: query images of each label, >= 1.

  Returns:
    A family whose tasks are `AttributeTask`s of two, and whose support and
    query are `Examples` of `[2 * shots, height, width, 3]` float32 images in
    [0, 1], negatives first, and `[2 * shots]` int32 labels, 1 for positives.

  Raises:
    InputError: for a count below one.
  """
  check_count('shots', shots)
  check_count('query_shots', query_shots)
  pairs = np.asarray(pairs, np.int32)

  def sample(data, key):
    pair_key, *keys = jax.random.split(key, 3)
    pair = jnp.asarray(pairs)[jax.random.randint(pair_key, (), 0, len(pairs))]
    rows = [
      _drawn(fits, shots + query_shots, key)
      for fits, key in zip(_without_and_with(data, pair), keys, strict=True)
    ]
    return Episode(
      AttributeTask(pair),
      _examples(data, [row[:shots] for row in rows]),
      _examples(data, [row[shots:] for row in rows]),
    )

  return TaskFamily(sample, images)


def ambiguous_attributes(
  images: AttributeImages, triples: np.ndarray, *, shots: int, query_shots: int
) -> TaskFamily:
  """Returns the family of meta-test: any two of three attributes explain it.

  Positives of the support show all three, negatives none. Each of the three
  pairs is a task of its own, with queries that show both or neither of it and
  are not in the support.

  Args:
    images: the data set.
    triples: [triples, 3] int32, what is drawn from.
    shots: support images of each label, K >= 1.
    query_shots: query images of each label and pair, >= 1.

  Returns:
    A family like `attribute_classification`'s, but that tasks have three
    attributes, and queries an axis of the three pairs in front.

  Raises:
    InputError: for a count below one.
  """
  check_count('shots', shots)
  check_count('query_shots', query_shots)
  triples = np.asarray(triples, np.int32)

  def sample(data, key):
    triple_key, support_key, query_key = jax.random.split(key, 3)
    index = jax.random.randint(triple_key, (), 0, len(triples))
    triple = jnp.asarray(triples)[index]
    given = [
      _drawn(fits, shots, key)
      for fits, key in zip(
        _without_and_with(data, triple),
        jax.random.split(support_key),
        strict=True,
      )
    ]
    is_given = jnp.zeros(len(data.images), bool)
    is_given = is_given.at[jnp.concatenate(given)].set(True)

    def query(places, key):
      rows = [
        _drawn(fits & ~is_given, query_shots, key)
        for fits, key in zip(
          _without_and_with(data, triple[places]),
          jax.random.split(key),
          strict=True,
        )
      ]
      return _examples(data, rows)

    places = jnp.array(list(itertools.combinations(range(3), 2)))
    keys = jax.random.split(query_key, NUM_EXPLANATIONS)
    return Episode(
      AttributeTask(triple),
      _examples(data, given),
      jax.vmap(query)(places, keys),
    )

  return TaskFamily(sample, images)


def coverage(log_likelihoods: Array, accuracies: Array) -> Metrics:
  """Says how many explanations sampled models cover, and how well.

  A model belongs to the pair whose complete query it makes most likely.

  Args:
    log_likelihoods: [samples, pairs] float32, of each query, summed.
    accuracies: [samples, pairs] float32, the share classified right.

  Returns:
    `coverage`, [] float32, pairs with at least one model; `accuracy`, [] the
    mean over those of the mean accuracy of their models.
  """
  belongs = jax.nn.one_hot(
    jnp.argmax(log_likelihoods, axis=1), log_likelihoods.shape[1]
  )
  models = jnp.sum(belongs, axis=0)
  of_pair = jnp.sum(belongs * accuracies, axis=0) / jnp.maximum(models, 1.0)
  covered = (models > 0).astype(jnp.float32)
  count = jnp.sum(covered)
  return {'coverage': count, 'accuracy': jnp.sum(covered * of_pair) / count}


def _groups(images, among, examples: int, size: int) -> np.ndarray:
  check_count('examples', examples)
  shown = np.asarray(images.attributes)
  found = []
  for group in itertools.combinations(among, size):
    columns = shown[:, list(group)]
    fewest = min(columns.all(axis=1).sum(), (~columns).all(axis=1).sum())
    if fewest >= examples:
      found.append(group)
  if not found:
    raise InputError(
      f'images: expected {examples} images that show all, and as many that '
      f'show none, of some {size} attributes; there are no such {size}'
    )
  return np.array(found, np.int32)


def _without_and_with(data, group: Array) -> tuple[Array, Array]:
  """Returns `[images]` bool each: which show none of a group, and which all."""
  columns = data.attributes[:, group]
  return ~jnp.any(columns, axis=1), jnp.all(columns, axis=1)


def _drawn(fits: Array, count: int, key: Array) -> Array:
  """Returns the rows of `count` images that fit, [count] int32, in any order.

  None is drawn twice, as long as there are as many.
  """
  order = jax.random.uniform(key, fits.shape)
  return jax.lax.top_k(jnp.where(fits, order, -1.0), count)[1]


def _examples(data, rows: Sequence[Array]) -> Examples:
  pictures = data.images[jnp.concatenate(rows)].astype(jnp.float32) / 255.0
  labels = jnp.repeat(jnp.arange(len(rows)), rows[0].shape[0])
  return Examples(pictures, labels)
