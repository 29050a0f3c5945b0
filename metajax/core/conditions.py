"""One task under several conditions, for paired comparisons."""

from collections.abc import Mapping

import jax
from jax import Array
import jax.numpy as jnp

from metajax.core.learner import Learner, PyTree, TaskFamily


def under_conditions(
  tasks: TaskFamily, conditions: Mapping[str, PyTree]
) -> TaskFamily:
  """Returns a family whose every episode is met under each condition.

  The key is the same in all, so that what differs is the condition alone.

  Args:
    tasks: the family; its own data are not read.
    conditions: name to data for it, all of one shape.

  Returns:
    A family whose episodes have a leading `[conditions]` axis on every leaf.
  """

  def sample(data, key):
    return jax.vmap(tasks.sample, in_axes=(0, None))(data, key)

  stacked = jax.tree.map(
    lambda *leaves: jnp.stack(leaves), *conditions.values()
  )
  return TaskFamily(sample, stacked)


def learner_under_conditions(learner: Learner, names: list[str]) -> Learner:
  """Returns the learner that meets the episodes of `under_conditions`.

  It learns every condition by itself, and with the same key. Its loss is the
  mean over the conditions and its metrics are `NAME/query_loss` and
  `NAME/METRIC` of each.

  Args:
    learner: the learner, whose parameters it takes.
    names: name of each condition, in order.
  """

  def init(key, episode):
    return learner.init(key, jax.tree.map(lambda leaf: leaf[0], episode))

  def adapt(params, support, key):
    return jax.lax.map(lambda one: learner.adapt(params, one, key), support)

  def loss(params, adapted, query, key):
    def one(pair: tuple[PyTree, PyTree]) -> tuple[Array, dict[str, Array]]:
      return learner.loss(params, *pair, key)

    losses, metrics = jax.lax.map(one, (adapted, query))
    metrics = {'query_loss': losses, **metrics}
    return jnp.mean(losses), {
      f'{condition}/{name}': values[index]
      for name, values in metrics.items()
      for index, condition in enumerate(names)
    }

  def predict(adapted, inputs):
    return jax.lax.map(lambda pair: learner.predict(*pair), (adapted, inputs))

  return Learner(init, adapt, loss, predict)
