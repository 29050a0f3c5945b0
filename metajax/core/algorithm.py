"""The algorithm: how a learner's parameters are found, one step at a time."""

from collections.abc import Callable
from typing import NamedTuple

import jax
from jax import Array

from metajax.core.learner import Metrics, PyTree

# Set to one by a step whose update was not finite and was therefore skipped.
SKIPPED = 'meta/skipped'

_INIT_STREAM = 2**32 - 1
_EVALUATION_STREAM = 2**32 - 2


class Algorithm(NamedTuple):
  """A meta-training algorithm: pure functions, each compiled whole.

  Attributes:
    data: pytree of arrays that the functions read and never change; `()` if
      there are none.
    init: `(data, key) -> state`. The state holds ALL that a resume needs.
    step: `(data, state, key) -> (state, metrics)`. One meta-iteration.
      `metrics` is a flat dictionary of scalars and holds `meta/skipped`: 1.0
      if the update was not finite and was skipped, else 0.0.
    evaluate: `(data, state, key) -> metrics`. Meta-test on held-out tasks.
      Every metric is a `[num_tasks]` float array, one number a task, so that
      whoever reports it can give the interval with the mean.
    holds_physics: whether the compiled program simulates articulated bodies,
      which on CPU need compiler options of their own
      (`metajax.core.compilation`).
  """

  data: PyTree
  init: Callable[[PyTree, Array], PyTree]
  step: Callable[[PyTree, PyTree, Array], tuple[PyTree, Metrics]]
  evaluate: Callable[[PyTree, PyTree, Array], Metrics]
  holds_physics: bool = False


def init_key(run_key: Array) -> Array:
  """Returns the key with which a run draws its initial state."""
  return jax.random.fold_in(run_key, _INIT_STREAM)


def step_key(run_key: Array, step: Array | int) -> Array:
  """Returns the key of meta-iteration `step`.

  It depends on the run's key and the step alone, so that a resumed run draws
  the very numbers that an uninterrupted run draws.
  """
  return jax.random.fold_in(run_key, step)


def evaluation_key(run_key: Array) -> Array:
  """Returns the key of the held-out tasks: the same at every evaluation."""
  return jax.random.fold_in(run_key, _EVALUATION_STREAM)
