"""Fine-tuning what was pretrained to tell other classes apart."""

import jax
import jax.numpy as jnp

from metajax.core.learner import Learner
from metajax.core.validation import check_choice, check_count


def with_new_head(learner: Learner, *, head: str, ways: int) -> Learner:
  """Returns the learner that starts from a pretrained body and no head.

  The fine-tuning baseline of few-shot classification (Ravi and Larochelle
  2017, section 5.1): the last layer that told the training classes apart is
  of no use for others. The new one is zero, so that it prefers no label, and
  its first gradient step makes it the mean features of each class.

  Args:
    learner: the meta-test learner, on `{'model': theta}` with a head for
      `ways` classes.
    head: name of the last layer within theta; a linear one.
    ways: classes of a task, >= 2.

  Returns:
    A `Learner` on parameters whose head is for any number of classes.

  Raises:
    InputError: if `ways` is not such a count; when traced, if there is no
      layer of the name `head`.
  """
  check_count('ways', ways, minimum=2)

  def beheaded(params):
    theta = params['model']
    check_choice('head', head, sorted(theta))
    new = jax.tree.map(
      lambda leaf: jnp.zeros((*leaf.shape[:-1], ways), leaf.dtype), theta[head]
    )
    return {**params, 'model': {**theta, head: new}}

  def adapt(params, support, key):
    return learner.adapt(beheaded(params), support, key)

  def loss(params, adapted, query, key):
    return learner.loss(beheaded(params), adapted, query, key)

  return learner._replace(adapt=adapt, loss=loss)
