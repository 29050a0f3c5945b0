"""Each condition gets what the learner would make of it alone."""

import jax
import jax.numpy as jnp
import numpy as np

from metajax.core.conditions import learner_under_conditions, under_conditions
from metajax.core.learner import Episode, Examples, TaskFamily
from metajax.core.meta_gradient import episode_loss
from metajax.learners.maml import maml
from metajax.nets.perceptrons import Perceptron
from metajax.testing.learners import check_learner


def lines(slope):
  """Lines through the origin, of noise that hangs on the key."""

  def sample(data, key):
    support_key, query_key = jax.random.split(key)

    def examples(key):
      inputs = jax.random.normal(key, (4, 1))
      return Examples(inputs, data * inputs)

    return Episode((), examples(support_key), examples(query_key))

  return TaskFamily(sample, jnp.float32(slope))


NAMES = {'flat': 0.1, 'steep': 3.0}
LEARNER = maml(Perceptron((8,), output_size=1), inner_lr=0.1)


def both():
  tasks = under_conditions(
    lines(0.0), {name: jnp.float32(slope) for name, slope in NAMES.items()}
  )
  return tasks, learner_under_conditions(LEARNER, list(NAMES))


def test_metrics_are_those_of_each_condition_alone():
  tasks, learner = both()
  params = LEARNER.init(
    jax.random.key(0), lines(1.0).sample(jnp.float32(1.0), jax.random.key(1))
  )
  loss, metrics = jax.jit(
    lambda key: episode_loss(learner, tasks, params, tasks.data, key)
  )(jax.random.key(2))
  alone = {
    name: float(
      episode_loss(
        LEARNER, lines(slope), params, jnp.float32(slope), jax.random.key(2)
      )[0]
    )
    for name, slope in NAMES.items()
  }
  for name, expected in alone.items():
    np.testing.assert_allclose(
      metrics[f'{name}/query_loss'], expected, rtol=1e-5
    )
  np.testing.assert_allclose(loss, np.mean(list(alone.values())), rtol=1e-5)


def test_it_is_a_learner_like_any_other():
  tasks, learner = both()
  check_learner(learner, tasks)
