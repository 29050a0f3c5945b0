"""Model selection: meta-test takes the best state met on validation tasks."""

import math

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from metajax.core.algorithm import Algorithm
from metajax.core.learner import PyTree
from metajax.core.validation import check_choice, check_count

_VALIDATION_STREAM = 2**32 - 3
_WORST_SHARE = 0.01
_NO_LOSS_YET = float(np.finfo(np.float32).max)


@struct.dataclass
class SelectionState:
  """The state in training, and the best one so far."""

  current: PyTree
  best: PyTree  # like `current`
  best_loss: Array  # [] float32
  validation_key: Array  # typed key, of the validation tasks
  step: Array  # [] int32, meta-iterations done

  @property
  def selected(self) -> PyTree:
    """The best state; the one in training until there is a finite loss."""
    is_known = self.best_loss < _NO_LOSS_YET
    return jax.tree.map(
      lambda best, now: jnp.where(is_known, best, now), self.best, self.current
    )


def select_best(
  algorithm: Algorithm,
  metric: str,
  *,
  every: int,
  validation: Algorithm | None = None,
) -> Algorithm:
  """Makes the algorithm that is meta-tested with its best state, not its last.

  Every `every` steps it evaluates on validation tasks, which are the same
  each time and are not the held-out ones, and keeps the state whose mean of
  `metric` is the least. The worst hundredth of the tasks does not count: on a
  rare task gradient descent diverges, and that one would decide the mean. A
  mean that is not finite is never the least.

  Args:
    algorithm: the algorithm.
    metric: what the validation's `evaluate` returns under this name is a loss.
    every: meta-iterations between validations, >= 1.
    validation: the same algorithm, but that it evaluates on the family of
      validation tasks, where that is another than the held-out one: classes
      of images are split in three. None: `algorithm`, with other keys.

  Returns:
    An `Algorithm` whose state is a `SelectionState` and whose `evaluate`
    evaluates its `selected`.

  Raises:
    InputError: if `every` is not a count; when the step is traced, if nothing
      of the name of `metric` is evaluated.
  """
  check_count('every', every)
  judge = algorithm if validation is None else validation

  def init(data, key):
    current = algorithm.init(data[0], key)
    return SelectionState(
      current=current,
      best=jax.tree.map(jnp.copy, current),
      best_loss=jnp.float32(_NO_LOSS_YET),
      validation_key=jax.random.fold_in(key, _VALIDATION_STREAM),
      step=jnp.int32(0),
    )

  def step(data, state, key):
    current, metrics = algorithm.step(data[0], state.current, key)

    def validate(carry):
      _, best, best_loss = carry
      key = jax.random.clone(state.validation_key)  # the same each time
      evaluated = judge.evaluate(data[1], current, key)
      check_choice('metric', metric, sorted(evaluated))
      loss = _mean_without_worst(evaluated[metric])
      is_best = loss < best_loss
      best = jax.tree.map(
        lambda now, then: jnp.where(is_best, now, then), current, best
      )
      return jnp.array(False), best, jnp.where(is_best, loss, best_loss)

    # A loop of one turn or none: unlike a branch, a sweep leaves it one.
    is_due = (state.step + 1) % every == 0
    _, best, best_loss = jax.lax.while_loop(
      lambda carry: carry[0], validate, (is_due, state.best, state.best_loss)
    )
    return state.replace(
      current=current, best=best, best_loss=best_loss, step=state.step + 1
    ), metrics

  def evaluate(data, state, key):
    return algorithm.evaluate(data[0], state.selected, key)

  return algorithm._replace(
    data=(algorithm.data, judge.data), init=init, step=step, evaluate=evaluate
  )


def _mean_without_worst(losses: Array) -> Array:
  num_counted = math.ceil((1.0 - _WORST_SHARE) * losses.shape[0])
  # What is not a number is sorted behind all numbers.
  return jnp.mean(jnp.sort(losses)[:num_counted]).astype(jnp.float32)
