"""MetaNet keeps the contract, and makes its weights as the paper says."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax.core.compilation import compile_hot
from metajax.core.learner import Examples
from metajax.core.meta_training import meta_train
from metajax.core.validation import InputError
from metajax.learners.meta_networks import example_gradients, meta_networks
from metajax.nets.fast_weights import (
  HEAD,
  LINEAR,
  AugmentedClassifier,
  log_and_sign,
)
from metajax.nets.perceptrons import Perceptron
from metajax.tasks.glyphs import glyphs
from metajax.tasks.image_classification import image_classification
from metajax.testing.learners import check_learner

NETWORK = AugmentedClassifier(3, filters=2, features=8, num_convolutions=1)
TASKS = image_classification(
  glyphs('train', size=8, num_classes=6), ways=3, shots=1, query_shots=2
)


def learner(**settings):
  return meta_networks(NETWORK, generator_units=3, **settings)


@functools.cache
def compiled(**settings):
  """Returns the learner, whose programs the tests share."""
  one = learner(**settings)
  return one._replace(
    init=jax.jit(one.init),
    adapt=jax.jit(one.adapt),
    predict=jax.jit(one.predict),
  )


@functools.cache
def example_task():
  episode = jax.jit(TASKS.sample)(TASKS.data, jax.random.key(0))
  return compiled().init(jax.random.key(1), episode), episode


@jax.jit
def last_gradients(base, support):
  return example_gradients(NETWORK, base, support, (LINEAR, HEAD))


@pytest.mark.parametrize(
  'settings',
  [
    pytest.param({}, marks=pytest.mark.slow),
    pytest.param(
      {'fast_layers': NETWORK.layers, 'first_order': False},
      marks=pytest.mark.slow,
    ),
  ],
  ids=['last_layers', 'all_layers_and_second_order'],
)
def test_contract(settings):
  one = meta_networks(
    # Before a normalisation a bias has no gradient but rounding.
    NETWORK.clone(normalisation='none'),
    generator_units=3,
    **settings,
  )
  # Operation by operation the gradient of `adapt` takes long to compile.
  one = one._replace(init=jax.jit(one.init), adapt=jax.jit(one.adapt))
  check_learner(one, TASKS, tolerance=1e-4)


def test_gradients_of_the_last_layers_by_hand():
  """(softmax - onehot) times what enters the head, example by example."""
  params, episode = example_task()
  base = params['base']
  answers = jax.jit(NETWORK.apply)({'params': base}, episode.support.inputs)
  hidden = np.maximum(np.asarray(answers.features, np.float64), 0.0)
  odds = np.exp(np.asarray(answers.logits, np.float64))
  errors = odds / odds.sum(axis=-1, keepdims=True)
  errors -= np.eye(3)[np.asarray(episode.support.targets)]
  found = last_gradients(base, episode.support)
  np.testing.assert_allclose(
    found[HEAD], hidden[:, :, None] * errors[:, None], rtol=1e-4, atol=1e-6
  )
  # Behind the head and the ReLU, times what enters the linear layer: its
  # answers where its weights are the identity.
  back = (errors @ np.asarray(base[HEAD]['kernel']).T) * (hidden > 0.0)
  assert np.all(np.any(back != 0.0, axis=-1))
  through = {
    LINEAR: {'kernel': jnp.eye(2), 'bias': jnp.zeros(2)},
    HEAD: {'kernel': jnp.zeros((2, 3)), 'bias': jnp.zeros(3)},
  }
  narrow = NETWORK.clone(features=2)
  inputs = narrow.apply(
    {'params': {**base, **through}}, episode.support.inputs
  ).features
  np.testing.assert_allclose(
    found[LINEAR],
    np.asarray(inputs)[:, :, None] * back[:, None],
    rtol=1e-4,
    atol=1e-6,
  )


def test_fast_weights_are_read_coordinate_by_coordinate():
  """Those of one weight of one example, by m on that gradient alone."""
  params, episode = example_task()
  adapted = compiled().adapt(params, episode.support, jax.random.key(2))
  gradients = last_gradients(params['base'], episode.support)
  generator = Perceptron((3, 3), 1)
  for example, row, column in ((0, 0, 0), (2, 3, 1)):
    told = log_and_sign(gradients[HEAD][example, row, column])
    made = generator.apply({'params': params['example_generator']}, told)
    np.testing.assert_allclose(
      adapted.memory[HEAD][example, row, column], made[0], rtol=1e-4, atol=1e-6
    )


def test_of_one_example_the_fast_weights_are_its_own():
  params, episode = example_task()
  one = Examples(episode.support.inputs[:1], episode.support.targets[:1])
  adapted = compiled().adapt(params, one, jax.random.key(2))
  found = compiled().predict(adapted, episode.query.inputs)
  own = {name: rows[0] for name, rows in adapted.memory.items()}
  base = {'params': params['base']}
  expected = NETWORK.apply(base, episode.query.inputs, own)
  np.testing.assert_allclose(found, expected.logits, rtol=1e-5, atol=1e-6)


def test_the_order_of_the_support_reaches_only_what_d_reads():
  params, episode = example_task()
  turned = Examples(*(leaf[::-1] for leaf in episode.support))
  first, second = (
    compiled().adapt(params, support, jax.random.key(2))
    for support in (episode.support, turned)
  )
  for name in (LINEAR, HEAD):
    np.testing.assert_allclose(
      first.memory[name], second.memory[name][::-1], rtol=1e-3, atol=1e-5
    )
  task_weights = [adapted.task_weights[LINEAR] for adapted in (first, second)]
  assert not np.allclose(*task_weights, rtol=1e-2)
  # Without d all is the same.
  without = compiled(fast_layers=(HEAD,))
  first, second = (
    without.predict(
      without.adapt(params, support, jax.random.key(2)), episode.query.inputs
    )
    for support in (episode.support, turned)
  )
  np.testing.assert_allclose(first, second, rtol=1e-3, atol=1e-5)


def test_other_labels_give_other_answers():
  """All that is known of the labels comes through the gradients."""
  params, episode = example_task()
  renamed = Examples(episode.support.inputs, (episode.support.targets + 1) % 3)
  answers = [
    compiled().predict(
      compiled().adapt(params, support, jax.random.key(2)), episode.query.inputs
    )
    for support in (episode.support, renamed)
  ]
  assert not np.allclose(*answers, rtol=1e-2)


@pytest.mark.parametrize('first_order', [True, False])
def test_first_order_takes_the_gradients_for_constants(first_order):
  """Slow weights reach a memory through the gradients alone."""
  params, episode = example_task()
  one = learner(fast_layers=(HEAD,), first_order=first_order)

  def total(base):
    found = one.adapt({**params, 'base': base}, episode.support, None)
    return jnp.sum(found.memory[HEAD])

  slopes = jax.jit(jax.grad(total))(params['base'])
  assert np.any(slopes[LINEAR]['kernel']) == (not first_order)


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'fast_layers': ('heat',)}, "fast_layers: .*'heat'; did you mean head"),
    ({'fast_layers': ()}, 'fast_layers: expected one or several'),
    ({'fast_layers': (HEAD, HEAD)}, 'fast_layers: .* each once'),
    ({'generator_units': 0}, 'generator_units: expected an integer >= 1'),
  ],
)
def test_wrong_settings_are_refused(settings, message):
  with pytest.raises(InputError, match=message):
    meta_networks(NETWORK, **settings)


@pytest.mark.slow
def test_it_learns_to_tell_new_glyphs_apart():
  """By far better than by their pixels, with which 55 % are told apart."""

  def tasks(split):
    return image_classification(
      glyphs(split), ways=5, shots=1, query_shots=1, quarter_turns=True
    )

  algorithm = meta_train(
    meta_networks(AugmentedClassifier(5, filters=8)),
    tasks('train'),
    optax.adam(1e-3),
    meta_batch_size=8,
    task_chunk_size=8,
    test_tasks=tasks('validation'),
    num_test_tasks=400,
  )
  state = algorithm.init(algorithm.data, jax.random.key(0))
  step = compile_hot(algorithm.step)
  for key in jax.random.split(jax.random.key(1), 700):
    state, _ = step(algorithm.data, state, key)
  evaluate = compile_hot(algorithm.evaluate)
  tested = evaluate(algorithm.data, state, jax.random.key(2))
  assert float(jnp.mean(tested['accuracy'])) > 0.7
