"""The nearest example decides, in pixels or in features."""

import jax
import jax.numpy as jnp
import numpy as np

from metajax.core.learner import Examples
from metajax.learners.nearest_neighbour import nearest_neighbour

SUPPORT = np.random.default_rng(0).uniform(size=(6, 4, 4, 1)).astype(np.float32)
QUERY = np.random.default_rng(1).uniform(size=(40, 4, 4, 1)).astype(np.float32)
LABELS = np.array([2, 0, 1, 1, 0, 2])


def nearest(support, query):
  """One query after another."""
  return [
    LABELS[min(range(6), key=lambda i: np.sum((support[i] - image) ** 2))]
    for image in query
  ]


def predictions(learner, params):
  adapted = learner.adapt(
    params, Examples(jnp.asarray(SUPPORT), jnp.asarray(LABELS)), None
  )
  return adapted, jax.jit(learner.predict)(adapted, jnp.asarray(QUERY))


def test_the_nearest_image_gives_its_label():
  _, found = predictions(nearest_neighbour(), {})
  np.testing.assert_array_equal(found, nearest(SUPPORT, QUERY))


def test_distances_may_be_between_features():
  def brightness(params, inputs):
    return params * jnp.mean(inputs, axis=(1, 2, 3))

  _, found = predictions(nearest_neighbour(brightness), jnp.float32(3.0))
  np.testing.assert_array_equal(
    found, nearest(SUPPORT.mean((1, 2, 3)), QUERY.mean((1, 2, 3)))
  )


def test_accuracy_is_the_share_that_is_right():
  learner = nearest_neighbour()
  adapted, found = predictions(learner, {})
  targets = np.where(np.arange(40) < 30, found, found + 1)
  loss, metrics = learner.loss(
    {}, adapted, Examples(jnp.asarray(QUERY), jnp.asarray(targets)), None
  )
  np.testing.assert_allclose(metrics['accuracy'], 0.75)
  np.testing.assert_allclose(loss, 0.25)
