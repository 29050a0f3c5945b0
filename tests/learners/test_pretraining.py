"""A pretrained body gets a new head, and nothing else changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.core.learner import Examples
from metajax.core.validation import InputError
from metajax.learners.maml import fine_tuning_curve
from metajax.learners.pretraining import with_new_head
from metajax.learners.task_losses import cross_entropy
from metajax.nets.vision import omniglot_network

IMAGES = jax.random.uniform(jax.random.key(0), (6, 8, 8, 1))
SUPPORT = Examples(IMAGES, jnp.array([0, 1, 2, 0, 1, 2]))


def network(ways):
  return omniglot_network(ways, filters=3)


def learner(**settings):
  curve = fine_tuning_curve(
    network(3), cross_entropy, inner_lr=0.1, num_steps=1
  )
  return with_new_head(curve, **settings)


def tune(made, params):
  return jax.jit(lambda params: made.adapt(params, SUPPORT, None))(params)


def pretrained():
  return {
    'model': jax.jit(network(11).init)(jax.random.key(1), IMAGES)['params']
  }


def test_the_new_head_is_zero_and_the_body_is_kept():
  params = pretrained()
  tuned = tune(learner(head='head', ways=3), params).params
  before = jax.tree.map(lambda leaf: leaf[0], tuned)
  assert before['head']['kernel'].shape == (3, 3)
  assert not np.any(before['head']['kernel'])
  jax.tree.map(
    np.testing.assert_array_equal,
    before['embedding'],
    params['model']['embedding'],
  )


def test_its_first_step_takes_the_mean_features_of_each_class():
  params = pretrained()
  tuned = tune(learner(head='head', ways=3), params).params
  identity = jax.tree.map(jnp.asarray, params['model'])
  identity['head'] = {'kernel': jnp.eye(3), 'bias': jnp.zeros(3)}
  features = network(3).apply({'params': identity}, IMAGES)
  labels = jax.nn.one_hot(SUPPORT.targets, 3)
  # The gradient of 3 times the mean cross-entropy, where all are 1/3.
  expected = 0.1 * 3 / 6 * features.T @ (labels - 1 / 3)
  np.testing.assert_allclose(
    tuned['head']['kernel'][1], expected, rtol=1e-4, atol=1e-6
  )


def test_the_loss_is_that_of_the_tuned_network():
  made = learner(head='head', ways=3)
  params = pretrained()
  adapted = tune(made, params)

  @jax.jit
  def loss_and_prediction():
    loss, _ = made.loss(params, adapted, SUPPORT, None)
    return loss, made.predict(adapted, IMAGES)[-1]

  loss, last = loss_and_prediction()
  np.testing.assert_allclose(
    loss, cross_entropy(last, SUPPORT.targets), rtol=1e-5
  )


def test_a_layer_that_is_not_there_is_named():
  with pytest.raises(InputError, match="head.*'top'"):
    learner(head='top', ways=3).adapt(pretrained(), SUPPORT, None)
  with pytest.raises(InputError, match='ways'):
    learner(head='head', ways=1)
