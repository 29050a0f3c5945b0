"""What a prediction costs: the losses and measures of supervised tasks.

A loss is `(predictions, targets) -> scalar`, L of the inner and of the outer
objective; measures are a flat dictionary of scalars that are only reported.
"""

from collections.abc import Callable

import chex
from jax import Array
import jax.numpy as jnp
import optax

from metajax.core.learner import Examples, Metrics, Params, PyTree

TaskLoss = Callable[[PyTree, Array], Array]
Measures = Callable[[PyTree, Array], Metrics]


def loss_of_network(
  network, task_loss: TaskLoss
) -> Callable[[Params, Examples], Array]:
  """Returns `(theta, examples) -> L`, the loss of a network's parameters.

  Args:
    network: a flax module, `apply({'params': theta}, inputs) -> predictions`.
    task_loss: `(predictions, targets) -> scalar`.
  """

  def loss(theta, examples):
    predictions = network.apply({'params': theta}, examples.inputs)
    return task_loss(predictions, examples.targets)

  return loss


def squared_error(predictions: Array, targets: Array) -> Array:
  """Returns the mean squared error over all elements (Finn 2018, eq. 4.3)."""
  chex.assert_equal_shape([predictions, targets])
  return jnp.mean(jnp.square(predictions - targets))


def cross_entropy(logits: Array, labels: Array) -> Array:
  """Returns the cross-entropy of an N-way task (Finn 2018, equation 4.4).

    L = -(1/K) sum_j log softmax(f(x_j))_{y_j}

  over the N K examples j of a task: N times their mean. The published step
  sizes belong to this form.

  Args:
    logits: [examples, ways] float.
    labels: [examples] int, 0 to ways - 1.

  Returns:
    [] float, nats.
  """
  chex.assert_rank([logits, labels], [2, 1])
  losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
  return logits.shape[-1] * jnp.mean(losses)


def binary_cross_entropy(logits: Array, labels: Array) -> Array:
  """Returns the mean cross-entropy of yes-or-no answers (Finn 2018, eq. 4.4).

  Args:
    logits: [...] float, those of a yes.
    labels: [...] float or bool, 1 for a yes.

  Returns:
    [] float, nats.
  """
  chex.assert_equal_shape([logits, labels])
  return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, labels))


def accuracy(logits: Array, labels: Array) -> Metrics:
  """Returns the share of examples whose greatest logit is their label's.

  Args:
    logits: [examples, ways] float.
    labels: [examples] int.

  Returns:
    `accuracy`, [] float32 in [0, 1].
  """
  hits = jnp.argmax(logits, axis=-1) == labels
  return {'accuracy': jnp.mean(hits.astype(jnp.float32))}


def nothing(predictions: PyTree, targets: Array) -> Metrics:
  """Measures nothing beside the loss."""
  del predictions, targets
  return {}
