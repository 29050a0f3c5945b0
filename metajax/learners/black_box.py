"""Black-box meta-learners: networks that read the support and then answer.

The procedure that learns is itself a network, y* = g((x, y)_1, ..., (x, y)_K,
x*), with no gradient step in it (Finn 2018, section 3.1). Such is what MAML
is compared with: SNAIL (Mishra et al. 2018) and recurrent networks (Hochreiter
et al. 2001; Santoro et al. 2016).
"""

from collections.abc import Callable
from typing import NamedTuple

from flax import linen as nn
import jax
from jax import Array
import jax.numpy as jnp

from metajax.core.learner import Examples, Learner, Params, PyTree
from metajax.learners.task_losses import Measures, TaskLoss, nothing
from metajax.nets.recurrent import StackedLstm


class Reader(NamedTuple):
  """A network that reads tokens, then answers each question by itself.

  Attributes:
    init: `(key, tokens [length, features]) -> params`.
    read: `(params, tokens [length, features]) -> memory`, a pytree.
    answer: `(params, memory, token [features]) -> [output_size]`.
  """

  init: Callable[[Array, Array], Params]
  read: Callable[[Params, Array], PyTree]
  answer: Callable[[Params, PyTree, Array], Array]


def attentive(network: nn.Module) -> Reader:
  """Returns the reader that keeps all it has read, as SNAIL does.

  Args:
    network: a module `[length, features] -> [length, output_size]` whose
      outputs do not look ahead.
  """

  def init(key, tokens):
    return network.init(key, tokens)['params']

  def read(params, tokens):
    del params
    return tokens

  def answer(params, memory, token):
    tokens = jnp.concatenate([memory, token[None]])
    outputs = network.apply({'params': params}, tokens)
    assert isinstance(outputs, Array)
    return outputs[-1]

  return Reader(init, read, answer)


def recurrent(network: StackedLstm) -> Reader:
  """Returns the reader whose memory is its hidden state.

  Args:
    network: the layers and their sizes.
  """

  def init(key, tokens):
    return network.init(key, network.first_carry(), tokens[0])['params']

  def read(params, tokens):
    return network.unroll(params, network.first_carry(), tokens)[0]

  def answer(params, memory, token):
    _, outputs = network.apply({'params': params}, memory, token)
    assert isinstance(outputs, Array)
    return outputs

  return Reader(init, read, answer)


def numbers(targets: Array) -> Array:
  """Tells targets of regression as they are, [shots, size] float."""
  return targets


def one_hot(ways: int) -> Callable[[Array], Array]:
  """Returns what tells labels as `[shots, ways]` float32, one of them 1."""
  return lambda labels: jax.nn.one_hot(labels, ways)


def black_box(
  reader: Reader,
  task_loss: TaskLoss,
  *,
  tell: Callable[[Array], Array] = numbers,
  embedding: nn.Module | None = None,
  measures: Measures = nothing,
) -> Learner:
  """Returns the learner whose adaptation is reading.

  It is given `(x_1, y_1), ..., (x_K, y_K)` in a random order, and for every
  query by itself `(x*, 0)`, where it answers. Training it is minimising the
  loss of those answers.

  Args:
    reader: the network, as `attentive` or `recurrent` make it.
    task_loss: `(predictions, targets) -> scalar`, L.
    tell: `targets [shots, ...] -> [shots, size]` float32, how a target enters
      a token.
    embedding: a flax module that makes features of inputs; it is trained with
      the reader. None: inputs are vectors, and enter a token as they are.
    measures: `(predictions, targets) -> metrics` of the query, reported.

  Returns:
    A `Learner` on `Examples` whose parameters are `{'reader': ...}`, with
    `'embedding'` beside it, and whose adapted is them, what was read, and an
    empty target.
  """

  def features(params, inputs):
    if embedding is None:
      return inputs
    found = embedding.apply({'params': params['embedding']}, inputs)
    assert isinstance(found, Array)
    return found

  def tokens_of(params, support: Examples) -> Array:
    return jnp.concatenate(
      [features(params, support.inputs), tell(support.targets)], axis=-1
    )

  def init(key, episode):
    embedding_key, reader_key = jax.random.split(key)
    params = {}
    if embedding is not None:
      params['embedding'] = embedding.init(
        embedding_key, episode.support.inputs
      )['params']
    tokens = tokens_of(params, episode.support)
    return {**params, 'reader': reader.init(reader_key, tokens)}

  def adapt(params, support, key):
    # Classes stand in order in an episode; here no place says anything.
    tokens = jax.random.permutation(key, tokens_of(params, support))
    untold = jnp.zeros_like(tell(support.targets)[0])
    return params, reader.read(params['reader'], tokens), untold

  def predict(adapted, inputs):
    params, memory, untold = adapted

    def answer(feature):
      token = jnp.concatenate([feature, untold])
      return reader.answer(params['reader'], memory, token)

    return jax.vmap(answer)(features(params, inputs))

  def loss(params, adapted, query, key):
    del params, key
    predictions = predict(adapted, query.inputs)
    return task_loss(predictions, query.targets), measures(
      predictions, query.targets
    )

  return Learner(init, adapt, loss, predict)
