"""Functions of two kinds, so that a few noisy points leave both possible."""

import math
from typing import NamedTuple

import jax
from jax import Array
import jax.numpy as jnp

from metajax.core.learner import Episode, Examples, TaskFamily
from metajax.core.validation import check_count, check_range
from metajax.tasks.regression import Sinusoid, sinusoid

_AMPLITUDES = (0.1, 5.0)
_PHASES = (0.0, math.pi)
_COEFFICIENTS = (-3.0, 3.0)
_INPUTS = (-5.0, 5.0)
_LARGEST_NOISE = 10.0


class LineOrSinusoid(NamedTuple):
  """One function: a line or a sinusoid, by `is_line`.

  The numbers of the other kind are drawn, too, and have no effect.
  """

  is_line: Array  # [] bool
  amplitude: Array  # [] float32
  phase: Array  # [] float32, radians
  slope: Array  # [] float32
  intercept: Array  # [] float32


def lines_and_sinusoids(
  *,
  shots: int,
  query_shots: int,
  noise_std: float = 0.3,
  query_noise_std: float | None = None,
) -> TaskFamily:
  """Returns the ambiguous regression family of PLATIPUS.

  A fair coin says which:

    y = A sin(x - gamma) + e,  A ~ U[0.1, 5],  gamma ~ U[0, pi]
    y = a x + b + e,           a, b ~ U[-3, 3]

  with x ~ U[-5, 5] and e ~ N(0, noise_std^2). Source: Finn, Xu and Levine,
  "Probabilistic Model-Agnostic Meta-Learning" (2018), section 5; Finn 2018.

  Args:
    shots: support points of a task, K >= 1.
    query_shots: query points of a task, >= 1.
    noise_std: standard deviation of the noise on targets, in [0, 10].
    query_noise_std: that on the query's; 0 to be judged on the function
      itself. None: `noise_std`.

  Returns:
    A family whose tasks are `LineOrSinusoid`s and whose support and query are
    `Examples` with `[shots, 1]` float32 inputs and targets.

  Raises:
    InputError: for a count below one or noise out of its range.
  """
  check_count('shots', shots)
  check_count('query_shots', query_shots)
  query_std = noise_std if query_noise_std is None else query_noise_std
  for name, value in (('noise_std', noise_std), ('query_noise_std', query_std)):
    check_range(name, value, minimum=0.0, maximum=_LARGEST_NOISE)

  def sample(data, key):
    del data
    task_key, input_key, noise_key = jax.random.split(key, 3)
    task = _draw_task(task_key)
    inputs = _uniform(input_key, (shots + query_shots, 1), _INPUTS)
    stds = jnp.concatenate(
      [jnp.full((shots, 1), noise_std), jnp.full((query_shots, 1), query_std)]
    )
    noise = stds * jax.random.normal(noise_key, inputs.shape)
    examples = Examples(inputs, line_or_sinusoid(task, inputs) + noise)
    return Episode(
      task=task,
      support=jax.tree.map(lambda x: x[:shots], examples),
      query=jax.tree.map(lambda x: x[shots:], examples),
    )

  return TaskFamily(sample)


def line_or_sinusoid(task: LineOrSinusoid, inputs: Array) -> Array:
  """Returns the function's values, without noise.

  Args:
    task: the function.
    inputs: [...] float32.

  Returns:
    [...] float32, of the same shape.
  """
  return jnp.where(
    task.is_line,
    task.slope * inputs + task.intercept,
    sinusoid(Sinusoid(task.amplitude, task.phase), inputs),
  )


def goodness_of_fit(inputs: Array, outputs: Array) -> tuple[Array, Array]:
  """Says how well the best line and the best sinusoid explain a function.

    R^2 = 1 - sum (y - fit)^2 / sum (y - mean y)^2

  for the least squares among a x + b and among A sin(x - gamma), of any
  amplitude and phase. Of the latter it may be negative.

  Args:
    inputs: [points] float32.
    outputs: [points] float32, the function's values.

  Returns:
    R^2 of the line and of the sinusoid, [] float32 each, at most 1.
  """
  ones = jnp.ones_like(inputs)
  total = jnp.sum(jnp.square(outputs - jnp.mean(outputs)))

  def of_columns(*columns):
    design = jnp.stack(columns, axis=1)
    normal = design.T @ design
    weights = jnp.linalg.solve(normal, design.T @ outputs)
    residual = outputs - design @ weights
    return 1.0 - jnp.sum(jnp.square(residual)) / jnp.maximum(total, 1e-12)

  return of_columns(inputs, ones), of_columns(jnp.sin(inputs), jnp.cos(inputs))


def _draw_task(key: Array) -> LineOrSinusoid:
  kind, amplitude, phase, slope, intercept = jax.random.split(key, 5)
  return LineOrSinusoid(
    is_line=jax.random.bernoulli(kind),
    amplitude=_uniform(amplitude, (), _AMPLITUDES),
    phase=_uniform(phase, (), _PHASES),
    slope=_uniform(slope, (), _COEFFICIENTS),
    intercept=_uniform(intercept, (), _COEFFICIENTS),
  )


def _uniform(key, shape, bounds):
  return jax.random.uniform(key, shape, minval=bounds[0], maxval=bounds[1])
