"""Meta-training: an algorithm from any learner and any family of tasks."""

from collections.abc import Callable

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp
import optax

from metajax.core.algorithm import SKIPPED, Algorithm
from metajax.core.learner import Learner, Metrics, Params, PyTree, TaskFamily
from metajax.core.sharding import lay_tasks
from metajax.core.validation import InputError, check_count


@struct.dataclass
class MetaTrainState:
  """All that a resume of `meta_train` needs."""

  params: Params  # pytree of arrays, theta
  optimizer_state: PyTree  # pytree of arrays, the outer optimiser's


def meta_train(
  learner: Learner,
  tasks: TaskFamily,
  optimizer: optax.GradientTransformation,
  *,
  meta_batch_size: int,
  test_learner: Learner | None = None,
  test_tasks: TaskFamily | None = None,
  num_test_tasks: int = 1000,
  task_chunk_size: int | None = None,
) -> Algorithm:
  """Makes the algorithm that meta-trains `learner` on `tasks`.

    theta <- theta - beta * grad_theta mean_i L(adapt(theta, D_tr_i), D_test_i)

  with the plain step replaced by `optimizer` (Finn 2018, equation 2 and
  algorithm 1). A task whose loss or gradient is not finite is left out of the
  mean; if none is finite, or the update is not, the step is skipped and
  `meta/skipped` says so.

  Args:
    learner: the learner to train.
    tasks: the family of meta-training tasks.
    optimizer: the outer optimiser.
    meta_batch_size: tasks in a meta-iteration, >= 1.
    test_learner: the learner to meta-test with, on the same parameters: it
      may take more inner steps, or report more. None: `learner`. The metrics
      of its `loss` are what `evaluate` reports, one number a task.
    test_tasks: the family of held-out tasks. None: `tasks`, with other keys.
    num_test_tasks: held-out tasks of an evaluation, >= 2.
    task_chunk_size: tasks that are worked on at once, a divisor of
      `meta_batch_size`; the gradients of the chunks are summed. None: all at
      once, which suits accelerators and small networks. Smaller chunks bound
      memory, and for convolutions on CPU they are also faster.

  Returns:
    An `Algorithm` whose state is a `MetaTrainState`.

  Raises:
    InputError: for a count that is too small or chunks that do not divide.
  """
  check_count('meta_batch_size', meta_batch_size)
  check_count('num_test_tasks', num_test_tasks, minimum=2)
  chunk_size = meta_batch_size if task_chunk_size is None else task_chunk_size
  check_count('task_chunk_size', chunk_size)
  if meta_batch_size % chunk_size:
    raise InputError(
      'task_chunk_size: expected a divisor of meta_batch_size = '
      f'{meta_batch_size}, got {chunk_size}'
    )
  tester = learner if test_learner is None else test_learner
  held_out = tasks if test_tasks is None else test_tasks

  def init(data, key):
    episode_key, params_key = jax.random.split(key)
    episode = tasks.sample(data[0], episode_key)
    params = learner.init(params_key, episode)
    return MetaTrainState(params=params, optimizer_state=optimizer.init(params))

  def one_task(params, data, key, *, learner, family):
    sample_key, adapt_key, loss_key = jax.random.split(key, 3)
    episode = family.sample(data, sample_key)
    adapted = learner.adapt(params, episode.support, adapt_key)
    return learner.loss(params, adapted, episode.query, loss_key)

  def task_gradient(params, data, key):
    (loss, metrics), gradient = jax.value_and_grad(one_task, has_aux=True)(
      params, data, key, learner=learner, family=tasks
    )
    return gradient, {'meta/loss': loss, **metrics}

  def chunk_gradient(params, data, keys):
    gradients, metrics = jax.vmap(task_gradient, in_axes=(None, None, 0))(
      params, data, lay_tasks(keys)
    )
    return _finite_sum(gradients, metrics)

  def step(data, state, key):
    keys = jax.random.split(key, meta_batch_size)
    total = _sum_over_chunks(
      lambda chunk: chunk_gradient(state.params, data[0], chunk),
      keys,
      chunk_size,
    )
    count = jnp.maximum(total.num_finite, 1.0)
    gradient = jax.tree.map(lambda g: g / count, total.gradient)
    metrics = jax.tree.map(lambda m: m / count, total.metrics)
    updates, optimizer_state = optimizer.update(
      gradient, state.optimizer_state, state.params
    )
    updated = MetaTrainState(
      params=optax.apply_updates(state.params, updates),
      optimizer_state=optimizer_state,
    )
    # Sums and squares of finite gradients may still leave the range of floats.
    skip = (total.num_finite == 0.0) | ~_all_finite(updated)
    state = jax.lax.cond(skip, lambda: state, lambda: updated)
    metrics['meta/gradient_norm'] = optax.tree.norm(gradient)
    metrics['meta/tasks_left_out'] = meta_batch_size - total.num_finite
    metrics[SKIPPED] = skip.astype(jnp.float32)
    return state, metrics

  def evaluate(data, state, key):
    def one(key):
      _, metrics = one_task(
        state.params, data[1], key, learner=tester, family=held_out
      )
      return metrics

    return jax.vmap(one)(lay_tasks(jax.random.split(key, num_test_tasks)))

  return Algorithm(
    data=(tasks.data, held_out.data), init=init, step=step, evaluate=evaluate
  )


@struct.dataclass
class _GradientSum:
  """Sums over the tasks whose loss and gradient are finite."""

  gradient: Params  # pytree like the parameters
  metrics: Metrics  # scalars
  num_finite: Array  # [] float32


def _finite_sum(gradients: Params, metrics: Metrics) -> _GradientSum:
  """Sums over the leading task axis, leaving out tasks that are not finite.

  Nearly always every task is finite, and then the plain sums are; the
  look at each single task is taken only when they are not.
  """
  num_tasks = metrics['meta/loss'].shape[0]

  def total(keep=None):
    def add(x):
      if keep is None:
        return jnp.sum(x, axis=0)
      mask = keep.reshape((-1,) + (1,) * (x.ndim - 1))
      return jnp.sum(jnp.where(mask, x, 0), axis=0)

    return jax.tree.map(add, (gradients, metrics))

  def leave_out():
    def finite(gradient, loss):
      return _all_finite(gradient) & jnp.isfinite(loss)

    keep = jax.vmap(finite)(gradients, metrics['meta/loss'])
    gradient, values = total(keep)
    return _GradientSum(gradient, values, jnp.sum(keep, dtype=jnp.float32))

  gradient, values = total()
  clean = _GradientSum(gradient, values, jnp.float32(num_tasks))
  fine = _all_finite(gradient) & jnp.isfinite(values['meta/loss'])
  return jax.lax.cond(fine, lambda: clean, leave_out)


def _all_finite(tree: PyTree) -> Array:
  # A sum is finite only if every term is, and it is one pass over the leaf.
  sums = [
    jnp.sum(leaf * 0.0)
    for leaf in jax.tree.leaves(tree)
    if jnp.issubdtype(leaf.dtype, jnp.inexact)
  ]
  return jnp.isfinite(sum(sums, jnp.float32(0)))


def _sum_over_chunks(
  summed: Callable[[Array], _GradientSum], keys: Array, chunk_size: int
) -> _GradientSum:
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
