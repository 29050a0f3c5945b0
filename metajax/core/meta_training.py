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

  def losses_of(params, data, keys):
    def one(key):
      loss, metrics = one_task(params, data, key, learner=learner, family=tasks)
      return loss, {'meta/loss': loss, **metrics}

    return jax.vmap(one)(lay_tasks(keys))

  def gradient_of_all(params, data, keys):
    """Sums over the tasks of a chunk, whatever comes of them."""

    def total(params):
      losses, metrics = losses_of(params, data, keys)
      return jnp.sum(losses), jax.tree.map(
        lambda m: jnp.sum(m, axis=0), metrics
      )

    gradient, metrics = jax.grad(total, has_aux=True)(params)
    return _GradientSum(gradient, metrics, jnp.float32(keys.shape[0]))

  def gradient_of_finite(params, data, keys):
    """Sums over those tasks of a chunk whose loss and gradient are finite."""

    def of_task(key):
      def total(params):
        losses, metrics = losses_of(params, data, key[None])
        return losses[0], jax.tree.map(lambda m: m[0], metrics)

      return jax.grad(total, has_aux=True)(params)

    gradients, metrics = jax.vmap(of_task)(keys)
    keep = jax.vmap(_all_finite)((gradients, metrics['meta/loss']))

    def add(x):
      mask = keep.reshape((-1,) + (1,) * (x.ndim - 1))
      return jnp.sum(jnp.where(mask, x, 0), axis=0)

    gradient, metrics = jax.tree.map(add, (gradients, metrics))
    return _GradientSum(gradient, metrics, jnp.sum(keep, dtype=jnp.float32))

  def mean_gradient(params, data, keys, summed):
    total = _sum_over_chunks(
      lambda chunk: summed(params, data, chunk), keys, chunk_size
    )
    count = jnp.maximum(total.num_tasks, 1.0)
    gradient = jax.tree.map(lambda g: g / count, total.gradient)
    metrics = jax.tree.map(lambda m: m / count, total.metrics)
    square = optax.tree.norm(gradient, squared=True)
    metrics['meta/gradient_norm'] = jnp.sqrt(square)
    metrics['meta/tasks_left_out'] = meta_batch_size - total.num_tasks
    # The square is finite only if all of the gradient is, and the squares that
    # an optimiser takes.
    is_fine = jnp.isfinite(metrics['meta/loss']) & jnp.isfinite(square)
    return is_fine & (total.num_tasks > 0), gradient, metrics

  def step(data, state, key):
    keys = jax.random.split(key, meta_batch_size)

    def look_at_each_task(found):
      del found
      again = jax.random.clone(keys)  # the very tasks of before
      return jnp.array(True), mean_gradient(
        state.params, data[0], again, gradient_of_finite
      )

    # Nearly always all tasks are finite. The look at each single one is a loop
    # of one turn or none: unlike a branch it costs nothing under a sweep, too.
    first = mean_gradient(state.params, data[0], keys, gradient_of_all)
    _, (is_fine, gradient, metrics) = jax.lax.while_loop(
      lambda found: ~found[0], look_at_each_task, (first[0], first)
    )
    updates, optimizer_state = optimizer.update(
      gradient, state.optimizer_state, state.params
    )
    updated = MetaTrainState(
      params=optax.apply_updates(state.params, updates),
      optimizer_state=optimizer_state,
    )
    state = jax.tree.map(lambda n, o: jnp.where(is_fine, n, o), updated, state)
    metrics[SKIPPED] = 1.0 - is_fine.astype(jnp.float32)
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
  """Sums over tasks."""

  gradient: Params  # pytree like the parameters
  metrics: Metrics  # scalars
  num_tasks: Array  # [] float32


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
