"""The meta-gradient: the mean over tasks, without those that went wrong."""

from collections.abc import Callable
from typing import NamedTuple

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp
import optax

from metajax.core.learner import Learner, Metrics, Params, PyTree, TaskFamily
from metajax.core.sharding import lay_tasks


class MetaGradient(NamedTuple):
  """What a meta-batch says.

  Attributes:
    gradient: pytree like the parameters, the mean over the finite tasks.
    metrics: scalars, means over the finite tasks; `meta/loss`,
      `meta/gradient_norm`, `meta/tasks_left_out` and those of the learner.
    is_fine: [] bool, whether gradient and loss are finite; not so if no task
      is.
  """

  gradient: Params
  metrics: Metrics
  is_fine: Array


def episode_loss(
  learner: Learner, tasks: TaskFamily, params: Params, data: PyTree, key: Array
) -> tuple[Array, Metrics]:
  """Draws a task, adapts to it, and returns the loss on its query examples.

    L(adapt(theta, D_tr), D_test)

  Args:
    learner: the learner.
    tasks: the family that the task is drawn from.
    params: theta.
    data: the family's data.
    key: key of the task and of all that follows.

  Returns:
    The loss and the learner's metrics.
  """
  sample_key, adapt_key, loss_key = jax.random.split(key, 3)
  episode = tasks.sample(data, sample_key)
  adapted = learner.adapt(params, episode.support, adapt_key)
  return learner.loss(params, adapted, episode.query, loss_key)


def meta_gradient(
  learner: Learner,
  tasks: TaskFamily,
  params: Params,
  data: PyTree,
  keys: Array,
  *,
  chunk_size: int,
) -> MetaGradient:
  """Returns the mean gradient of the tasks' losses.

  A task whose loss or gradient is not finite is left out of the mean.

  Args:
    learner: the learner.
    tasks: the family that the tasks are drawn from.
    params: theta.
    data: the family's data.
    keys: [tasks] typed keys, one a task.
    chunk_size: tasks that are worked on at once, a divisor of their number.

  Returns:
    The gradient and the metrics.
  """

  def mean(summed, keys):
    total = _sum_over_chunks(
      lambda chunk: summed(learner, tasks, params, data, chunk),
      keys,
      chunk_size,
    )
    return _mean(total, keys.shape[0])

  if chunk_size == 1:
    # Every task is looked at anyway, and the program holds its gradient once.
    return mean(_sum_of_finite, keys)

  def look_at_each_task(carry):
    del carry
    # The very tasks of before.
    return jnp.array(True), mean(_sum_of_finite, jax.random.clone(keys))

  # Nearly always all tasks are finite. The look at each single one is a loop
  # of one turn or none: unlike a branch it costs nothing under a sweep, too.
  first = mean(_sum_of_all, keys)
  _, found = jax.lax.while_loop(
    lambda carry: ~carry[0], look_at_each_task, (first.is_fine, first)
  )
  return found


@struct.dataclass
class _Sum:
  """Sums over tasks."""

  gradient: Params  # pytree like the parameters
  metrics: Metrics  # scalars
  num_tasks: Array  # [] float32


def _losses(learner, tasks, params, data, keys) -> tuple[Array, Metrics]:
  """Returns every task's loss and metrics."""

  def one(key):
    loss, metrics = episode_loss(learner, tasks, params, data, key)
    return loss, {'meta/loss': loss, **metrics}

  if keys.shape[0] == 1:
    # A batch of one would put an axis in front of every product.
    return jax.tree.map(lambda x: x[None], one(keys[0]))
  return jax.vmap(one)(lay_tasks(keys))


def _sum_of_all(learner, tasks, params, data, keys) -> _Sum:
  """Sums over the tasks of a chunk, whatever comes of them."""

  def total(params):
    losses, metrics = _losses(learner, tasks, params, data, keys)
    return jnp.sum(losses), jax.tree.map(lambda m: jnp.sum(m, axis=0), metrics)

  gradient, metrics = jax.grad(total, has_aux=True)(params)
  return _Sum(gradient, metrics, jnp.float32(keys.shape[0]))


def _sum_of_finite(learner, tasks, params, data, keys) -> _Sum:
  """Sums over those tasks of a chunk whose loss and gradient are finite."""

  def of_task(key):
    def total(params):
      losses, metrics = _losses(learner, tasks, params, data, key[None])
      return losses[0], jax.tree.map(lambda m: m[0], metrics)

    return jax.grad(total, has_aux=True)(params)

  gradients, metrics = (
    jax.tree.map(lambda x: x[None], of_task(keys[0]))
    if keys.shape[0] == 1
    else jax.vmap(of_task)(keys)
  )
  keep = jax.vmap(_all_finite)((gradients, metrics['meta/loss']))

  def add(x):
    mask = keep.reshape((-1,) + (1,) * (x.ndim - 1))
    return jnp.sum(jnp.where(mask, x, 0), axis=0)

  gradient, metrics = jax.tree.map(add, (gradients, metrics))
  return _Sum(gradient, metrics, jnp.sum(keep, dtype=jnp.float32))


def _mean(total: _Sum, num_drawn: int) -> MetaGradient:
  count = jnp.maximum(total.num_tasks, 1.0)
  gradient = jax.tree.map(lambda g: g / count, total.gradient)
  metrics = jax.tree.map(lambda m: m / count, total.metrics)
  square = optax.tree.norm(gradient, squared=True)
  metrics['meta/gradient_norm'] = jnp.sqrt(square)
  metrics['meta/tasks_left_out'] = num_drawn - total.num_tasks
  # The square is finite only if all of the gradient is, and the squares that
  # an optimiser takes.
  is_fine = jnp.isfinite(metrics['meta/loss']) & jnp.isfinite(square)
  return MetaGradient(gradient, metrics, is_fine & (total.num_tasks > 0))


def _all_finite(tree: PyTree) -> Array:
  # A sum is finite only if every term is, and it is one pass over the leaf.
  sums = [
    jnp.sum(leaf * 0.0)
    for leaf in jax.tree.leaves(tree)
    if jnp.issubdtype(leaf.dtype, jnp.inexact)
  ]
  return jnp.isfinite(sum(sums, jnp.float32(0)))


def _sum_over_chunks(
  summed: Callable[[Array], _Sum], keys: Array, chunk_size: int
) -> _Sum:
  """Adds `summed(keys of a chunk)` over the chunks, one after another."""
  if keys.shape[0] == chunk_size:
    return summed(keys)
  chunks = keys.reshape(-1, chunk_size)
  zero = jax.tree.map(
    lambda s: jnp.zeros(s.shape, s.dtype),
    jax.eval_shape(lambda: summed(chunks[0])),
  )

  def add(total, chunk):
    return jax.tree.map(jnp.add, total, summed(chunk)), None

  return jax.lax.scan(add, zero, chunks)[0]
