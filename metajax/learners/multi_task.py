"""Multi-task baselines: the mean of networks that each learned one task.

Source: Finn 2018, section 4.6.1, Table 10. Many networks are trained, each
from a random start, on a task and all the data it could wish for. Their
parameters are averaged, and the average is where fine-tuning starts:

  theta = (1/n) sum_i psi_i
  psi_i = argmin_psi  L(psi, D_i) + c ||psi - m_i||^2

without a penalty (c = 0), with one on the norm (m_i = 0), or with one on the
distance to the mean of the networks before (m_i = (1/(i-1)) sum_{j<i} psi_j),
which is why they are trained one after another.
"""

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp
import optax

from metajax.core.algorithm import SKIPPED, Algorithm
from metajax.core.learner import Learner, Params, PyTree, TaskFamily
from metajax.core.meta_training import MetaTrainState, meta_train
from metajax.core.validation import check_choice, check_count, check_range

PENALTIES = ('none', 'norm', 'distance_to_mean')


@struct.dataclass
class MultiTaskState:
  """The mean of the networks done, and the one in training."""

  mean: Params  # pytree of arrays, theta
  num_done: Array  # [] int32, networks in the mean
  params: Params  # pytree of arrays, psi_i
  optimizer_state: PyTree  # pytree of arrays
  task_key: Array  # typed key, of the data that psi_i is trained on
  num_iterations: Array  # [] int32, those of psi_i
  loss_of_done: Array  # [] float32, psi_{i-1}'s last; 0 before

  @property
  def average(self) -> Params:
    """The mean of the networks done; the first while none is."""
    return jax.tree.map(
      lambda mean, now: jnp.where(self.num_done > 0, mean, now),
      self.mean,
      self.params,
    )


def multi_task(
  learner: Learner,
  tasks: TaskFamily,
  optimizer: optax.GradientTransformation,
  *,
  penalty: str,
  penalty_weight: float,
  iterations_per_task: int,
  steps_per_iteration: int,
  batch_size: int,
  test_learner: Learner,
  test_tasks: TaskFamily,
  num_test_tasks: int = 1000,
) -> Algorithm:
  """Makes the algorithm that averages networks trained on one task each.

  A step is `steps_per_iteration` updates of the network in training; after
  `iterations_per_task` steps it joins the mean and the next one begins.

  Args:
    learner: a learner that does not adapt, on `Examples`.
    tasks: the family of training tasks, whose support is all the data that
      a network is trained on.
    optimizer: what trains a network; it starts afresh with each.
    penalty: 'none', 'norm' or 'distance_to_mean'.
    penalty_weight: c, >= 0.
    iterations_per_task: steps that a network is trained for, >= 1.
    steps_per_iteration: updates in a step, >= 1.
    batch_size: points of an update, drawn from the support with repetition,
      >= 1.
    test_learner: the learner that fine-tunes the average.
    test_tasks: the family of held-out tasks.
    num_test_tasks: held-out tasks of an evaluation, >= 2.

  Returns:
    An `Algorithm` whose state is a `MultiTaskState`. It reports the network's
    `meta/loss`, and of the one before the last loss, `meta/loss_of_done`.

  Raises:
    InputError: for a count or weight out of range, or an unknown penalty.
  """
  check_choice('penalty', penalty, PENALTIES)
  check_range('penalty_weight', penalty_weight, minimum=0.0, maximum=1e6)
  check_count('iterations_per_task', iterations_per_task)
  check_count('steps_per_iteration', steps_per_iteration)
  check_count('batch_size', batch_size)
  tester = meta_train(
    learner,
    tasks,
    optax.identity(),
    meta_batch_size=1,
    test_learner=test_learner,
    test_tasks=test_tasks,
    num_test_tasks=num_test_tasks,
  )

  def begin(data, key):
    task_key, params_key = jax.random.split(key)
    episode = tasks.sample(data, jax.random.clone(task_key))
    params = learner.init(params_key, episode)
    return params, optimizer.init(params), task_key

  def init(data, key):
    params, optimizer_state, task_key = begin(data[0], key)
    return MultiTaskState(
      mean=jax.tree.map(jnp.zeros_like, params),
      num_done=jnp.int32(0),
      params=params,
      optimizer_state=optimizer_state,
      task_key=task_key,
      num_iterations=jnp.int32(0),
      loss_of_done=jnp.float32(0.0),
    )

  def penalised(params, examples, state, key):
    adapt_key, loss_key = jax.random.split(key)
    adapted = learner.adapt(params, examples, adapt_key)
    loss, _ = learner.loss(params, adapted, examples, loss_key)
    return loss + penalty_weight * _distance(params, state, penalty), loss

  def step(data, state, key):
    update_key, next_key = jax.random.split(key)
    support = tasks.sample(data[0], jax.random.clone(state.task_key)).support

    def update(carry, key):
      params, optimizer_state = carry
      batch_key, loss_key = jax.random.split(key)
      examples = _batch(support, batch_size, batch_key)
      gradient, loss = jax.grad(penalised, has_aux=True)(
        params, examples, state, loss_key
      )
      updates, optimizer_state = optimizer.update(
        gradient, optimizer_state, params
      )
      return (optax.apply_updates(params, updates), optimizer_state), loss

    (params, optimizer_state), losses = jax.lax.scan(
      update,
      (state.params, state.optimizer_state),
      jax.random.split(update_key, steps_per_iteration),
    )
    loss = jnp.mean(losses)
    is_fine = jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm(params))
    params, optimizer_state = jax.tree.map(
      lambda new, old: jnp.where(is_fine, new, old),
      (params, optimizer_state),
      (state.params, state.optimizer_state),
    )
    trained = state.replace(
      params=params,
      optimizer_state=optimizer_state,
      num_iterations=state.num_iterations + is_fine,
    )

    def join(trained):
      params, optimizer_state, task_key = begin(data[0], next_key)
      num_done = trained.num_done + 1
      return MultiTaskState(
        mean=jax.tree.map(
          lambda mean, psi: mean + (psi - mean) / num_done,
          trained.mean,
          trained.params,
        ),
        num_done=num_done,
        params=params,
        optimizer_state=optimizer_state,
        task_key=task_key,
        num_iterations=jnp.int32(0),
        loss_of_done=loss,
      )

    is_done = trained.num_iterations >= iterations_per_task
    state = jax.lax.cond(is_done, join, lambda same: same, trained)
    return state, {
      'meta/loss': loss,
      'meta/loss_of_done': state.loss_of_done,
      SKIPPED: 1.0 - is_fine.astype(jnp.float32),
    }

  def evaluate(data, state, key):
    average = MetaTrainState(params=state.average, optimizer_state=())
    return tester.evaluate(data, average, key)

  return Algorithm(data=tester.data, init=init, step=step, evaluate=evaluate)


def _batch(support, batch_size: int, key: Array):
  """Draws points of the support, with repetition."""
  num_points = jax.tree.leaves(support)[0].shape[0]
  places = jax.random.randint(key, (batch_size,), 0, num_points)
  return jax.tree.map(lambda leaf: leaf[places], support)


def _distance(params: Params, state: MultiTaskState, penalty: str):
  """Returns what the penalty weighs, ||psi - m_i||^2."""
  if penalty == 'none':
    return 0.0
  if penalty == 'norm':
    return optax.tree.norm(params, squared=True)
  away = jax.tree.map(jnp.subtract, params, state.mean)
  # The first network has none before it to be near.
  return (state.num_done > 0) * optax.tree.norm(away, squared=True)
