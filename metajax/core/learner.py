"""The learner: a learning procedure, as four pure functions of one task."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jax import Array

# A pytree of arrays. Named apart so that signatures say what they hold.
PyTree = Any
Params = PyTree
Adapted = PyTree
Metrics = dict[str, Array]


class Examples(NamedTuple):
  """Labelled examples of one task.

  Attributes:
    inputs: [shots, ...] array, what the model is given.
    targets: [shots, ...] array, what it should answer.
  """

  inputs: Array
  targets: Array


class Episode(NamedTuple):
  """One task as a learner meets it (Finn 2018, section 2.1).

  Attributes:
    task: pytree of arrays that says what differs between tasks.
    support: pytree of arrays to learn from (D_tr), `[shots, ...]`.
    query: pytree of arrays to be judged on (D_test), disjoint from `support`.
  """

  task: PyTree
  support: PyTree
  query: PyTree


class TaskFamily(NamedTuple):
  """A distribution over tasks, p(T), that draws one episode at a time.

  Attributes:
    sample: `(data, key) -> Episode` of one task; pure, so that it is batched
      by `vmap` over keys.
    data: pytree of arrays that `sample` reads and never changes (an image
      data set, demonstrations); `()` if there are none. It enters a compiled
      step as an argument, never as a constant.
  """

  sample: Callable[[PyTree, Array], Episode]
  data: PyTree = ()


class Learner(NamedTuple):
  """A learning procedure `(D, x*) -> y*` for ONE task: no task axis in here.

  Gradient-based, recurrent and latent-variable learners differ only in what
  `adapted` is: parameters phi, a hidden state, a posterior.

  Attributes:
    init: `(key, episode) -> params`. The meta-parameters theta, with shapes
      taken from an example episode.
    adapt: `(params, support, key) -> adapted`. Learns the task.
    loss: `(params, adapted, query, key) -> (scalar, metrics)`. The
      meta-objective of the task; `metrics` is a flat dictionary of scalars.
    predict: `(adapted, inputs) -> outputs`. `adapted` is all it needs.
  """

  init: Callable[[Array, Episode], Params]
  adapt: Callable[[Params, PyTree, Array], Adapted]
  loss: Callable[[Params, Adapted, PyTree, Array], tuple[Array, Metrics]]
  predict: Callable[[Adapted, PyTree], PyTree]
