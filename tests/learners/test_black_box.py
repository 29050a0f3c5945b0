"""Black-box learners keep the contract, and read what they are given."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax.core.learner import Episode, Examples, TaskFamily
from metajax.core.meta_training import meta_train
from metajax.learners.black_box import (
  attentive,
  black_box,
  one_hot,
  recurrent,
)
from metajax.learners.task_losses import (
  accuracy,
  cross_entropy,
  squared_error,
)
from metajax.nets.perceptrons import Perceptron
from metajax.nets.recurrent import StackedLstm
from metajax.nets.sequence import CausalAttention, Snail, TemporalConvolutions
from metajax.tasks.regression import sinusoids
from metajax.testing.learners import check_learner

TASKS = sinusoids(shots=4, query_shots=3)
SNAIL = attentive(
  Snail((TemporalConvolutions(4, (1, 2)), CausalAttention(4, 4)), 1)
)
LSTM = recurrent(StackedLstm((8,), output_size=1))


@pytest.mark.parametrize(
  'reader',
  [pytest.param(SNAIL, marks=pytest.mark.slow), LSTM],
  ids=['snail', 'recurrent'],
)
def test_contract(reader):
  check_learner(black_box(reader, squared_error), TASKS)


def halves():
  """Vectors whose first or second half is bright; which has label 0 varies."""

  def sample(data, key):
    del data
    label_key, noise_key = jax.random.split(key)
    swap = jax.random.bernoulli(label_key)
    labels = jnp.array([0, 1, 0, 1])
    is_first = jnp.where(swap, labels == 1, labels == 0)
    bright = (jnp.arange(6) < 3)[None] == is_first[:, None]
    noise = 0.1 * jax.random.normal(noise_key, bright.shape)
    examples = Examples(bright + noise, labels)
    return Episode(
      swap,
      jax.tree.map(lambda leaf: leaf[:2], examples),
      jax.tree.map(lambda leaf: leaf[2:], examples),
    )

  return TaskFamily(sample)


def classifier():
  return black_box(
    recurrent(StackedLstm((8,), output_size=2)),
    cross_entropy,
    tell=one_hot(2),
    embedding=Perceptron((8,), output_size=4),
    measures=accuracy,
  )


@pytest.mark.slow
def test_contract_on_labels_and_with_an_embedding():
  check_learner(classifier(), halves())


def test_a_query_is_answered_by_itself():
  """Other queries beside it change nothing, its own target is not told."""
  learner = black_box(LSTM, squared_error)
  episode = TASKS.sample((), jax.random.key(0))
  params = learner.init(jax.random.key(1), episode)
  adapted = learner.adapt(params, episode.support, jax.random.key(2))
  together = learner.predict(adapted, episode.query.inputs)
  alone = learner.predict(adapted, episode.query.inputs[1:2])
  np.testing.assert_allclose(together[1], alone[0], rtol=1e-5)


def test_the_order_of_reading_hangs_on_the_key_alone():
  learner = black_box(SNAIL, squared_error)
  episode = TASKS.sample((), jax.random.key(0))
  params = learner.init(jax.random.key(1), episode)
  _, memory, untold = learner.adapt(params, episode.support, jax.random.key(2))
  _, other, _ = learner.adapt(params, episode.support, jax.random.key(3))
  told = np.concatenate(episode.support, axis=-1)
  assert untold.shape == (1,)
  assert not np.array_equal(memory, other)
  for read in (memory, other):
    order = np.argsort(read[:, 0])
    np.testing.assert_array_equal(
      np.asarray(read)[order], told[np.argsort(told[:, 0])]
    )


@pytest.mark.slow
@pytest.mark.parametrize('reader', [SNAIL, LSTM], ids=['snail', 'recurrent'])
def test_it_learns_to_read(reader):
  """What was read is worth more than what is true of all tasks."""
  tasks = _slopes()
  algorithm = meta_train(
    black_box(reader, squared_error),
    tasks,
    optax.adam(1e-2),
    meta_batch_size=32,
    num_test_tasks=200,
  )
  state = algorithm.init(algorithm.data, jax.random.key(0))
  step = jax.jit(algorithm.step)
  for key in jax.random.split(jax.random.key(1), 300):
    state, _ = step(algorithm.data, state, key)
  tested = algorithm.evaluate(algorithm.data, state, jax.random.key(2))
  # Blind to the support, the best is to predict zero: E[a^2 x^2] = 1/9.
  assert float(jnp.mean(tested['query_loss'])) < 0.5 / 9.0


def _slopes():
  def sample(data, key):
    del data
    slope_key, input_key = jax.random.split(key)
    slope = jax.random.uniform(slope_key, (), minval=-1.0, maxval=1.0)
    inputs = jax.random.uniform(input_key, (6, 1), minval=-1.0, maxval=1.0)
    examples = Examples(inputs, slope * inputs)
    return Episode(
      slope,
      jax.tree.map(lambda leaf: leaf[:3], examples),
      jax.tree.map(lambda leaf: leaf[3:], examples),
    )

  return TaskFamily(sample)
