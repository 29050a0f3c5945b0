"""How likely targets are under a prediction, and under several at once.

A likelihood is `(predictions, targets) -> [points]`, log p(y_j | x_j, phi).
"""

from collections.abc import Callable
import math

import chex
import jax
from jax import Array
import jax.numpy as jnp
import optax

from metajax.core.learner import Metrics
from metajax.core.validation import check_positive
from metajax.learners.task_losses import TaskLoss

Likelihood = Callable[[Array, Array], Array]


def gaussian(std: float) -> Likelihood:
  """Returns the likelihood of targets with noise of one deviation.

    log p(y | x, phi) = -(y - f(x))^2 / (2 std^2) - log std - log(2 pi) / 2

  summed over the elements of a point.

  Args:
    std: standard deviation of the noise, in the targets' unit, > 0.

  Returns:
    A likelihood of `[points, ...]` predictions and targets.

  Raises:
    InputError: if `std` is not positive.
  """
  check_positive('std', std)

  def log_likelihood(predictions: Array, targets: Array) -> Array:
    chex.assert_equal_shape([predictions, targets])
    standardised = (predictions - targets) / std
    constant = jnp.log(std) + 0.5 * math.log(2.0 * math.pi)
    return _per_point(-0.5 * jnp.square(standardised) - constant)

  return log_likelihood


def bernoulli(logits: Array, labels: Array) -> Array:
  """Returns the likelihood of yes-or-no answers.

  Args:
    logits: [points, ...] float, those of a yes.
    labels: [points, ...] float or bool, 1 for a yes.

  Returns:
    [points] float, nats, summed over the elements of a point.
  """
  chex.assert_equal_shape([logits, labels])
  return _per_point(-optax.sigmoid_binary_cross_entropy(logits, labels))


def categorical(logits: Array, labels: Array) -> Array:
  """Returns the likelihood of classes.

  Args:
    logits: [points, ways] float.
    labels: [points] int, 0 to ways - 1.

  Returns:
    [points] float, nats.
  """
  chex.assert_rank([logits, labels], [2, 1])
  return -optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def negative_log_likelihood(likelihood: Likelihood) -> TaskLoss:
  """Returns the task loss -(1/J) sum_j log p(y_j | x_j, phi)."""

  def task_loss(predictions, targets):
    return -jnp.mean(likelihood(predictions, targets))

  return task_loss


def mixture(log_likelihoods: Array) -> Metrics:
  """Measures the equal mixture of several models, S of them, on J points.

    mixture_nll       = -(1/J) sum_j log (1/S) sum_s p(y_j | x_j, phi_s)
    joint_mixture_nll = -(1/J) log (1/S) sum_s prod_j p(y_j | x_j, phi_s)

  The first judges each point by itself, so that a single blurred model can be
  as good as a mixture; the second asks that ONE model explains all points.

  Args:
    log_likelihoods: [models, points] float, log p(y_j | x_j, phi_s), nats.

  Returns:
    Both, [] float, nats a point.
  """
  chex.assert_rank(log_likelihoods, 2)
  num_models, num_points = log_likelihoods.shape

  def mean_likelihood(values):
    return jax.nn.logsumexp(values, axis=0) - math.log(num_models)

  joint = mean_likelihood(jnp.sum(log_likelihoods, axis=1))
  return {
    'mixture_nll': -jnp.mean(mean_likelihood(log_likelihoods)),
    'joint_mixture_nll': -joint / num_points,
  }


def _per_point(values: Array) -> Array:
  return jnp.sum(values.reshape(values.shape[0], -1), axis=-1)
