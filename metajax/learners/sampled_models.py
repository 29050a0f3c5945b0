"""The meta-test of learners that answer with several models of one task."""

from collections.abc import Callable

import jax
from jax import Array
import jax.numpy as jnp

from metajax.core.learner import Learner, Params, PyTree
from metajax.core.validation import check_count
from metajax.learners.task_losses import Measures, TaskLoss, nothing

# `(params, support, key) -> phi`: one model of the task, another by each key.
DrawModel = Callable[[Params, PyTree, Array], Params]


def sampled_models(
  network,
  task_loss: TaskLoss,
  init: Callable[..., Params],
  draw_model: DrawModel,
  *,
  num_samples: int,
  measures: Measures = nothing,
) -> Learner:
  """Returns the learner that draws several models of a task.

  What does not depend on the key (the support's gradient at theta) is computed
  once for all of them.

  Args:
    network: a flax module, `apply({'params': phi}, inputs) -> predictions`.
    task_loss: `(predictions, targets) -> scalar`, of one model.
    init: as of a `Learner`.
    draw_model: draws one model of the task.
    num_samples: models of a task, >= 1.
    measures: `(predictions, targets) -> metrics` of the query, where the
      predictions have a leading `[num_samples]` axis.

  Returns:
    A `Learner` whose adapted is phi and whose `predict` gives predictions,
    each with a leading `[num_samples]` axis. Its loss is the models' mean
    loss, and its metrics are `best_loss`, the least of them;
    `predictive_variance`, the variance of predictions over models, averaged
    over the query; and those of `measures`.

  Raises:
    InputError: if `num_samples` is not a count.
  """
  check_count('num_samples', num_samples)

  def adapt(params, support, key):
    keys = jax.random.split(key, num_samples)
    return jax.vmap(lambda key: draw_model(params, support, key))(keys)

  def loss(params, adapted, query, key):
    del params, key
    predictions = predict(adapted, query.inputs)
    losses = jax.vmap(lambda one: task_loss(one, query.targets))(predictions)
    return jnp.mean(losses), {
      'best_loss': jnp.min(losses),
      'predictive_variance': jnp.mean(jnp.var(predictions, axis=0)),
      **measures(predictions, query.targets),
    }

  def predict(adapted, inputs):
    return jax.vmap(lambda phi: network.apply({'params': phi}, inputs))(adapted)

  return Learner(init, adapt, loss, predict)
