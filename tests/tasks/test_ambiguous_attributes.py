"""Pairs and triples of attributes: who is drawn, and what covers what."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.core.validation import InputError
from metajax.tasks.ambiguous_attributes import (
  ambiguous_attributes,
  attribute_classification,
  attribute_pairs,
  attribute_triples,
  coverage,
)
from metajax.tasks.celeba import AttributeImages


def numbered(num_images=400, num_attributes=5):
  """Images whose first two pixels are their number."""
  attributes = np.random.default_rng(0).random((num_images, num_attributes))
  images = np.zeros((num_images, 2, 2, 3), np.uint8)
  images[:, 0, 0, 0], images[:, 0, 1, 0] = divmod(np.arange(num_images), 256)
  return AttributeImages(jnp.asarray(images), jnp.asarray(attributes < 0.5))


IMAGES = numbered()
SHOWN = np.asarray(IMAGES.attributes)


def numbers(pictures):
  """Returns which images they are."""
  pixels = np.round(255 * np.asarray(pictures)).astype(int)
  return 256 * pixels[..., 0, 0, 0] + pixels[..., 0, 1, 0]


def draw(family, count=20):
  keys = jax.random.split(jax.random.key(0), count)
  sample = jax.jit(jax.vmap(family.sample, in_axes=(None, 0)))
  return jax.device_get(sample(family.data, keys))


def assert_labels_follow(attributes, examples):
  for number, label in zip(
    numbers(examples.inputs), examples.targets, strict=True
  ):
    shown = SHOWN[number, attributes]
    assert shown.all() if label else not shown.any()


def test_a_pair_is_shown_by_all_positives_and_no_negative():
  pairs = attribute_pairs(IMAGES, range(5), examples=7)
  family = attribute_classification(IMAGES, pairs, shots=3, query_shots=4)
  tasks, support, query = draw(family)
  for i, pair in enumerate(tasks.attributes):
    assert pair.tolist() in pairs.tolist()
    for examples in (support, query):
      one = jax.tree.map(lambda leaf, i=i: leaf[i], examples)
      assert_labels_follow(pair, one)
    drawn = np.concatenate(
      [numbers(support.inputs[i]), numbers(query.inputs[i])]
    )
    assert len(set(drawn)) == 14
  assert len(np.unique(tasks.attributes, axis=0)) > 3


def test_three_attributes_leave_three_pairs_open():
  triples = attribute_triples(IMAGES, range(5), examples=5)
  family = ambiguous_attributes(IMAGES, triples, shots=2, query_shots=3)
  tasks, support, query = draw(family)
  assert query.inputs.shape == (20, 3, 6, 2, 2, 3)
  for i, triple in enumerate(tasks.attributes):
    one = jax.tree.map(lambda leaf, i=i: leaf[i], support)
    assert_labels_follow(triple, one)
    for place, pair in enumerate(((0, 1), (0, 2), (1, 2))):
      asked = jax.tree.map(lambda leaf, i=i, j=place: leaf[i, j], query)
      assert_labels_follow(triple[list(pair)], asked)
      assert not set(numbers(asked.inputs)) & set(numbers(one.inputs))


def test_groups_have_examples_enough():
  rare = SHOWN.copy()
  rare[:, 0] = False
  rare[:4, :2] = True
  images = IMAGES._replace(attributes=jnp.asarray(rare))
  assert [0, 1] in attribute_pairs(images, range(3), examples=4).tolist()
  assert [0, 1] not in attribute_pairs(images, range(3), examples=5).tolist()
  with pytest.raises(InputError, match='images: expected 999 images'):
    attribute_pairs(images, range(3), examples=999)


def test_coverage_by_hand():
  """Two models belong to the first pair, one to the third."""
  log_likelihoods = jnp.array([[-1.0, -2, -3], [-1, -5, -2], [-9, -8, -7]])
  accuracies = jnp.array([[0.9, 0.1, 0.1], [0.7, 0.1, 0.1], [0.1, 0.1, 0.6]])
  found = coverage(log_likelihoods, accuracies)
  assert float(found['coverage']) == 2.0
  np.testing.assert_allclose(found['accuracy'], (0.8 + 0.6) / 2, rtol=1e-6)


def test_one_model_covers_one_pair():
  found = coverage(
    jnp.array([[-3.0, -1.0, -2.0]]), jnp.array([[0.2, 0.7, 0.9]])
  )
  assert float(found['coverage']) == 1.0
  np.testing.assert_allclose(found['accuracy'], 0.7, rtol=1e-6)
