"""Regression task families: functions to be learned from a few points."""

import math
from typing import NamedTuple

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from metajax.core.learner import Episode, Examples, TaskFamily
from metajax.core.validation import InputError, check_count, reject


class Sinusoid(NamedTuple):
  """One sinusoid, y = amplitude * sin(x - phase)."""

  amplitude: Array  # [] float32
  phase: Array  # [] float32, radians


class SinusoidRanges(NamedTuple):
  """Within what sinusoids and their inputs are drawn, uniformly.

  Attributes:
    amplitude: [2] float32, least and greatest.
    phase: [2] float32, radians.
    inputs: [2] float32.
  """

  amplitude: Array | np.ndarray
  phase: Array | np.ndarray
  inputs: Array | np.ndarray


def sinusoids(
  *,
  shots: int,
  query_shots: int,
  amplitude_range: tuple[float, float] = (0.1, 5.0),
  phase_range: tuple[float, float] = (0.0, math.pi),
  input_range: tuple[float, float] = (-5.0, 5.0),
) -> TaskFamily:
  """Returns the sinusoid family of Finn 2018, section 4.6.1.

    y = A sin(x - gamma),  A ~ U[0.1, 5],  gamma ~ U[0, pi],  x ~ U[-5, 5]

  Predicting zero costs a mean squared error of 4.26; the best function of x
  alone, 3.01.

  Args:
    shots: support points of a task, K >= 1.
    query_shots: query points of a task, >= 1.
    amplitude_range: least and greatest amplitude.
    phase_range: least and greatest phase, radians.
    input_range: least and greatest input.

  Returns:
    A family whose tasks are `Sinusoid`s and whose support and query are
    `Examples` with `[shots, 1]` float32 inputs and targets.

  Raises:
    InputError: for a count below one or a range that is not one.
  """
  ranges = sinusoid_ranges(
    amplitude_range=amplitude_range,
    phase_range=phase_range,
    input_range=input_range,
  )
  within = sinusoids_within(ranges, shots=shots, query_shots=query_shots)
  # The ranges are part of the program: the family has no data.
  return TaskFamily(lambda data, key: within.sample(ranges, key))


def sinusoid_ranges(
  *,
  amplitude_range: tuple[float, float] = (0.1, 5.0),
  phase_range: tuple[float, float] = (0.0, math.pi),
  input_range: tuple[float, float] = (-5.0, 5.0),
) -> SinusoidRanges:
  """Returns ranges for `sinusoids_within`; its arguments are `sinusoids`'.

  Raises:
    InputError: for a range that is not one.
  """
  ranges = {
    'amplitude_range': amplitude_range,
    'phase_range': phase_range,
    'input_range': input_range,
  }
  for name, bounds in ranges.items():
    numbers = np.asarray(bounds)
    if (
      numbers.shape != (2,)
      or numbers.dtype.kind not in 'if'
      or not np.all(np.isfinite(numbers))
      or numbers[0] > numbers[1]
    ):
      raise reject(name, 'two finite numbers, the least first', bounds)
  return SinusoidRanges(
    *(np.asarray(bounds, np.float32) for bounds in ranges.values())
  )


def sinusoids_within(
  ranges: SinusoidRanges, *, shots: int, query_shots: int
) -> TaskFamily:
  """Returns the family of `sinusoids` whose ranges are its data.

  They may change without another compilation, as in `under_conditions`.

  Args:
    ranges: where tasks and inputs are drawn.
    shots: support points of a task, K >= 1.
    query_shots: query points of a task, >= 1.

  Raises:
    InputError: for a count below one.
  """
  check_count('shots', shots)
  check_count('query_shots', query_shots)

  def sample(data, key):
    amplitude_key, phase_key, input_key = jax.random.split(key, 3)
    task = Sinusoid(
      amplitude=_uniform(amplitude_key, (), data.amplitude),
      phase=_uniform(phase_key, (), data.phase),
    )
    inputs = _uniform(input_key, (shots + query_shots, 1), data.inputs)
    examples = Examples(inputs, sinusoid(task, inputs))
    return Episode(
      task=task,
      support=jax.tree.map(lambda x: x[:shots], examples),
      query=jax.tree.map(lambda x: x[shots:], examples),
    )

  return TaskFamily(sample, ranges)


def sinusoid(task: Sinusoid, inputs: Array) -> Array:
  """Returns the sinusoid's values at `inputs`, of the same shape."""
  return task.amplitude * jnp.sin(inputs - task.phase)


def reveal_task(tasks: TaskFamily) -> TaskFamily:
  """Returns the family with the task's numbers appended to every input.

  What a learner reaches on it without adapting is the oracle: an upper bound
  on what adaptation can find out.

  Args:
    tasks: a family with `Examples` of `[shots, size]` inputs and tasks whose
      leaves are numbers.

  Returns:
    A family whose inputs are `[shots, size + numbers in a task]`.
  """

  def sample(data, key):
    episode = tasks.sample(data, key)
    numbers = jnp.stack(jax.tree.leaves(episode.task))
    if numbers.ndim != 1:
      raise InputError(
        'tasks: expected tasks whose leaves are numbers, got leaves of shape '
        f'{numbers.shape[1:]}'
      )

    def append(examples):
      shots = examples.inputs.shape[0]
      told = jnp.broadcast_to(numbers, (shots, numbers.size))
      return examples._replace(
        inputs=jnp.concatenate([examples.inputs, told], axis=-1)
      )

    return episode._replace(
      support=append(episode.support), query=append(episode.query)
    )

  return tasks._replace(sample=sample)


def _uniform(key, shape, bounds):
  return jax.random.uniform(key, shape, minval=bounds[0], maxval=bounds[1])
