"""Cubic polynomials: the regression tasks of the study of depth."""

from typing import NamedTuple

import jax
from jax import Array

from metajax.core.learner import Episode, Examples, TaskFamily
from metajax.core.validation import check_count

_INPUTS = (-3.0, 3.0)


class Polynomial(NamedTuple):
  """One polynomial, y = c_3 x^3 + c_2 x^2 + c_1 x + c_0.

  Each coefficient is [] float32.
  """

  constant: Array
  linear: Array
  quadratic: Array
  cubic: Array


def cubic_polynomials(*, shots: int, query_shots: int) -> TaskFamily:
  """Returns the family of Finn 2018, section 6.4.2.

    y = c_3 x^3 + c_2 x^2 + c_1 x + c_0,  c_i ~ U[-1, 1],  x ~ U[-3, 3]

  Predicting zero costs a mean squared error of 41.5: that is the sum of
  E[x^(2 i)] / 3 over the powers i.

  Args:
    shots: support points of a task, K >= 1.
    query_shots: query points of a task, >= 1.

  Returns:
    A family whose tasks are `Polynomial`s and whose support and query are
    `Examples` with `[shots, 1]` float32 inputs and targets.

  Raises:
    InputError: for a count below one.
  """
  check_count('shots', shots)
  check_count('query_shots', query_shots)

  def sample(data, key):
    del data
    coefficient_key, input_key = jax.random.split(key)
    task = Polynomial(
      *jax.random.uniform(coefficient_key, (4,), minval=-1.0, maxval=1.0)
    )
    inputs = jax.random.uniform(
      input_key,
      (shots + query_shots, 1),
      minval=_INPUTS[0],
      maxval=_INPUTS[1],
    )
    examples = Examples(inputs, polynomial(task, inputs))
    return Episode(
      task=task,
      support=jax.tree.map(lambda x: x[:shots], examples),
      query=jax.tree.map(lambda x: x[shots:], examples),
    )

  return TaskFamily(sample)


def polynomial(task: Polynomial, inputs: Array) -> Array:
  """Returns the polynomial's values at `inputs`, of the same shape."""
  value = task.cubic * inputs + task.quadratic
  return (value * inputs + task.linear) * inputs + task.constant
