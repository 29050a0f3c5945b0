"""The label of the nearest example: the baseline that learns nothing."""

from collections.abc import Callable

from jax import Array
import jax.numpy as jnp

from metajax.core.learner import Examples, Learner, Params

# Maps the learner's parameters and inputs to features, [examples, ...].
Embedding = Callable[[Params, Array], Array]


def nearest_neighbour(embedding: Embedding | None = None) -> Learner:
  """Returns classification by the nearest support example.

  The baseline of few-shot image classification (Ravi and Larochelle 2017,
  section 5.1), which takes the distance between features of a pretrained
  network; without an embedding, that between the inputs.

  Args:
    embedding: `(params, inputs) -> features`; the parameters are those of
      whoever trained it. None: the inputs themselves, and no parameters.

  Returns:
    A `Learner` on `Examples` of integer labels. Its loss is the share of
    queries that are classified wrong, which has no gradient, and its metric
    `accuracy` the share classified right.
  """

  def features(params, inputs):
    found = inputs if embedding is None else embedding(params, inputs)
    return found.reshape(found.shape[0], -1)

  def init(key, episode):
    del key, episode
    return {}

  def adapt(params, support, key):
    del key
    return params, support

  def predict(adapted: tuple[Params, Examples], inputs: Array) -> Array:
    params, support = adapted
    examples = features(params, support.inputs)
    asked = features(params, inputs)
    # |a - b|^2 without |a|^2, which is the same for all examples.
    distances = jnp.sum(examples**2, axis=-1)[None] - 2.0 * asked @ examples.T
    return support.targets[jnp.argmin(distances, axis=-1)]

  def loss(params, adapted, query, key):
    del params, key
    right = predict(adapted, query.inputs) == query.targets
    accuracy = jnp.mean(right.astype(jnp.float32))
    return 1.0 - accuracy, {'accuracy': accuracy}

  return Learner(init, adapt, loss, predict)
