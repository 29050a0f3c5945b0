"""MetaNet: a learner whose networks are given fast weights out of gradients.

Source: Munkhdalai and Yu, "Meta Networks" (2017), algorithm 1; a baseline of
MAML in Finn 2018, section 6.4. An embedding u with slow weights Q, a base
learner b with slow weights W, and two networks d and m that make fast weights
of gradients, coordinate by coordinate:

  Q*   = d(g_1, ..., g_K),   g_i = grad_Q L(u(x_i; Q), y_i)        of the task
  W*_i = m(h_i),             h_i = grad_W L(b(x_i; W), y_i)        of example i
  r_i  = u(x_i; Q, Q*)                                             its key
  W*   = sum_i a_i W*_i,     a = softmax_i(cos(u(x*; Q, Q*), r_i)) of the query
  y*   = b(x*; W, W*)

All slow weights and those of d and m are trained by the loss on the queries.
No gradient step is taken on a task.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
from jax import Array
import jax.numpy as jnp
import optax

from metajax.core.learner import Examples, Learner, Params
from metajax.core.validation import check_choice, check_count, reject
from metajax.learners.task_losses import Measures, accuracy, cross_entropy
from metajax.nets.fast_weights import (
  HEAD,
  LINEAR,
  Answers,
  AugmentedClassifier,
  FastWeights,
  coordinates,
  cosine_attention,
  from_coordinates,
  kernels,
  log_and_sign,
  with_kernels,
)
from metajax.nets.perceptrons import Perceptron
from metajax.nets.recurrent import StackedLstm

# Fast weights in the last two layers: at 64 filters and 5 ways 4,416 of
# 116,165 weights, and an eighth of what the last convolution would add.
LAST_LAYERS = (LINEAR, HEAD)


class MetaNetwork(NamedTuple):
  """What MetaNet knows of a task.

  Attributes:
    params: the learner's.
    task_weights: Q*, the fast weights of the embedding.
    keys: [shots, features] float32, r.
    memory: W* of every support example, kernels with `[shots]` in front.
  """

  params: Params
  task_weights: FastWeights
  keys: Array
  memory: FastWeights


def meta_networks(
  network: AugmentedClassifier,
  *,
  fast_layers: Sequence[str] = LAST_LAYERS,
  generator_units: int = 20,
  first_order: bool = True,
  measures: Measures = accuracy,
) -> Learner:
  """Returns MetaNet, for classification of images.

  The embedding and the base learner have the network's shape and weights of
  their own. The embedding's own loss is the cross-entropy of its logits, and
  its keys are its features. As an LSTM d reads the examples one after another,
  in an order that the key of `adapt` draws, and Q* hangs on that order.
  Nothing else hangs on the order of the support.

  Args:
    network: the shape of both.
    fast_layers: names in `network.layers` of those that have fast weights,
      in the embedding all of them but the head.
    generator_units: of the hidden layers of m and of the LSTM of d, >= 1.
    first_order: take the gradients that d and m read for constants, as the
      authors' release does. The embedding's head is then not trained.
    measures: `(logits, labels) -> metrics` of the query, reported.

  Returns:
    A `Learner` on `Examples` of integer labels, whose adapted is a
    `MetaNetwork` and whose predictions are logits. Its parameters are
    `{'embedding': Q, 'base': W, 'task_generator': d, 'example_generator': m}`,
    without d if the embedding has no fast weights.

  Raises:
    InputError: for an unknown or repeated layer, none, or no units.
  """
  base_layers = _checked(fast_layers, network.layers)
  key_layers = tuple(name for name in base_layers if name != HEAD)
  check_count('generator_units', generator_units)
  example_generator = Perceptron((generator_units, generator_units), 1)
  task_generator = StackedLstm((generator_units,), output_size=1)

  def init(key, episode):
    embedding_key, base_key, task_key, example_key = jax.random.split(key, 4)
    images, read = episode.support.inputs, jnp.zeros((1, 2))
    params = {
      'embedding': network.init(embedding_key, images)['params'],
      'base': network.init(base_key, images)['params'],
      'example_generator': example_generator.init(example_key, read)['params'],
    }
    if key_layers:
      params['task_generator'] = task_generator.init(
        task_key, task_generator.first_carry(1), read
      )['params']
    return params

  def read_gradients(params, support: Examples, layers) -> Array:
    """Returns what d or m is told, [shots, coordinates, 2]."""
    gradients = example_gradients(network, params, support, layers)
    if first_order:
      gradients = jax.lax.stop_gradient(gradients)
    return log_and_sign(coordinates(gradients))

  def task_weights_of(params, support, key) -> FastWeights:
    if not key_layers:
      return {}
    # Classes stand in order in an episode; here no place says anything.
    read = jax.random.permutation(
      key, read_gradients(params['embedding'], support, key_layers)
    )
    carry = task_generator.first_carry(read.shape[1])
    _, outputs = task_generator.unroll(params['task_generator'], carry, read)
    slow = kernels(params['embedding'], key_layers)
    return from_coordinates(outputs[-1, :, 0], slow)

  def adapt(params, support, key):
    task_weights = task_weights_of(params, support, key)
    read = read_gradients(params['base'], support, base_layers)
    made = example_generator.apply(
      {'params': params['example_generator']}, read
    )
    assert isinstance(made, Array)
    return MetaNetwork(
      params=params,
      task_weights=task_weights,
      keys=_answers(
        network, params['embedding'], support.inputs, task_weights
      ).features,
      memory=from_coordinates(
        made[..., 0], kernels(params['base'], base_layers)
      ),
    )

  def predict(adapted: MetaNetwork, inputs):
    params = adapted.params
    asked = _answers(
      network, params['embedding'], inputs, adapted.task_weights
    ).features
    attention = cosine_attention(asked, adapted.keys)
    fast = jax.tree.map(
      lambda rows: jnp.tensordot(attention, rows, axes=1), adapted.memory
    )
    return _answers(network, params['base'], inputs, fast).logits

  def loss(params, adapted, query, key):
    del params, key
    logits = predict(adapted, query.inputs)
    return cross_entropy(logits, query.targets), measures(logits, query.targets)

  return Learner(init, adapt, loss, predict)


def example_gradients(
  network: AugmentedClassifier,
  params: Params,
  examples: Examples,
  layers: Sequence[str],
) -> FastWeights:
  """Returns the gradient of every example's cross-entropy.

    h_i = grad_W -log softmax(b(x_i; W))_{y_i}

  Args:
    network: b.
    params: its slow weights.
    examples: [examples, ...] images and integer labels.
    layers: those whose kernels W are meant.

  Returns:
    Name to `[examples, *kernel]` float32.
  """

  def losses(slow):
    logits = _answers(
      network, with_kernels(params, slow), examples.inputs, {}
    ).logits
    return optax.softmax_cross_entropy_with_integer_labels(
      logits, examples.targets
    )

  return jax.jacrev(losses)(kernels(params, layers))


def _answers(network, params, images, fast) -> Answers:
  found = network.apply({'params': params}, images, fast)
  assert isinstance(found, Answers)
  return found


def _checked(fast_layers, layers) -> tuple[str, ...]:
  for name in fast_layers:
    check_choice('fast_layers', name, layers)
  if not fast_layers or len(set(fast_layers)) < len(fast_layers):
    raise reject('fast_layers', 'one or several layers, each once', fast_layers)
  return tuple(fast_layers)
