"""Meta-training: an algorithm from any learner and any family of tasks."""

from flax import struct
import jax
import jax.numpy as jnp
import optax

from metajax.core.algorithm import SKIPPED, Algorithm
from metajax.core.learner import Learner, Params, PyTree, TaskFamily
from metajax.core.meta_gradient import episode_loss, meta_gradient
from metajax.core.sharding import lay_tasks, map_tasks
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
      may take more inner steps, or report more. None: `learner`. `evaluate`
      reports its `query_loss` and its metrics, one number a task.
    test_tasks: the family of held-out tasks. None: `tasks`, with other keys.
    num_test_tasks: held-out tasks of an evaluation, >= 2.
    task_chunk_size: tasks that are worked on at once, a divisor of
      `meta_batch_size`; the gradients of the chunks are summed. None: all at
      once, which suits accelerators and small networks. Smaller chunks bound
      memory, and for convolutions on CPU they are also faster. Held-out tasks
      are worked on in chunks of this size too.

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

  def step(data, state, key):
    found = meta_gradient(
      learner,
      tasks,
      state.params,
      data[0],
      jax.random.split(key, meta_batch_size),
      chunk_size=chunk_size,
    )
    updates, optimizer_state = optimizer.update(
      found.gradient, state.optimizer_state, state.params
    )
    updated = MetaTrainState(
      params=optax.apply_updates(state.params, updates),
      optimizer_state=optimizer_state,
    )
    state = jax.tree.map(
      lambda new, old: jnp.where(found.is_fine, new, old), updated, state
    )
    skipped = 1.0 - found.is_fine.astype(jnp.float32)
    return state, {**found.metrics, SKIPPED: skipped}

  def evaluate(data, state, key):
    def one(key):
      loss, metrics = episode_loss(tester, held_out, state.params, data[1], key)
      return {'query_loss': loss, **metrics}

    keys = jax.random.split(key, num_test_tasks)
    if task_chunk_size is None:
      return jax.vmap(one)(lay_tasks(keys))
    return map_tasks(one, keys, chunk_size=task_chunk_size)

  return Algorithm(
    data=(tasks.data, held_out.data), init=init, step=step, evaluate=evaluate
  )
