"""`meta_train` against closed forms, task by task."""

import hashlib
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax.core.algorithm import SKIPPED, init_key, step_key
from metajax.core.learner import Episode, Examples, Learner, TaskFamily
from metajax.core.meta_training import meta_train
from metajax.learners.maml import fine_tuning_curve, maml
from metajax.nets.perceptrons import Perceptron
from metajax.tasks.regression import sinusoids
from metajax.testing.algorithms import check_algorithm
from metajax.testing.comparison import (
  assert_close,
  assert_equal_bits,
  assert_finite,
  on_host,
)
from metajax.testing.probes import linear_regressions

NUM_TASKS = 4
INNER_LR = 0.05
PROBE = linear_regressions(num_tasks=NUM_TASKS)
LINEAR = maml(Perceptron((), 1), inner_lr=INNER_LR)


def the_step_key():
  # A key is used once, so each use makes it anew.
  return step_key(jax.random.key(0), 3)


def each_task_once(examples, order=range(NUM_TASKS)):
  """A family whose i-th draw of `the_step_key` is the task `order[i]`.

  Args:
    examples: `Examples` with axes [tasks, support or query, shots, ...].
    order: which task is drawn when.
  """
  keys = jax.random.split(the_step_key(), NUM_TASKS)
  drawn_with = jnp.stack(
    [jax.random.key_data(jax.random.split(key, 3)[0]) for key in keys]
  )

  def sample(data, key):
    drawn_with, order, examples = data
    bits = jax.random.key_data(key)
    draw = jnp.argmax(jnp.all(drawn_with == bits[None], axis=-1))
    one = jax.tree.map(lambda x: x[order[draw]], examples)
    return Episode(
      task=draw,
      support=jax.tree.map(lambda x: x[0], one),
      query=jax.tree.map(lambda x: x[1], one),
    )

  return TaskFamily(sample, (drawn_with, jnp.asarray(order), examples))


def one_step(family, optimizer, **settings):
  algorithm = meta_train(
    LINEAR, family, optimizer, meta_batch_size=NUM_TASKS, **settings
  )
  state = algorithm.init(algorithm.data, jax.random.key(7))
  before = on_host(state)
  after, metrics = jax.jit(algorithm.step)(
    algorithm.data, state, the_step_key()
  )
  return before, on_host(after), on_host(metrics)


def weights(params):
  dense = params['model']['Dense_0']
  return np.concatenate([dense['kernel'][:, 0], dense['bias']])


def closed_form_gradient(point, kept):
  identity = np.eye(point.size)
  gradients = []
  for i in kept:
    shrink = identity - INNER_LR * PROBE.support_hessians[i]
    pull = shrink.T @ PROBE.query_hessians[i] @ shrink
    gradients.append(pull @ (point - PROBE.weights[i]))
  return np.mean(gradients, axis=0)


@pytest.mark.parametrize('task_chunk_size', [None, 1, 2])
def test_a_step_follows_the_mean_gradient_of_its_tasks(task_chunk_size):
  before, after, metrics = one_step(
    each_task_once(PROBE.tasks.data),
    optax.sgd(0.1),
    task_chunk_size=task_chunk_size,
  )
  start = weights(before.params)
  gradient = closed_form_gradient(start, range(NUM_TASKS))
  np.testing.assert_allclose(
    weights(after.params), start - 0.1 * gradient, rtol=1e-5, atol=1e-6
  )
  np.testing.assert_allclose(
    metrics['meta/gradient_norm'], np.linalg.norm(gradient), rtol=1e-5
  )
  np.testing.assert_allclose(
    metrics['meta/loss'], PROBE.meta_loss(start, inner_lr=INNER_LR), rtol=1e-5
  )
  assert metrics[SKIPPED] == 0.0
  assert metrics['meta/tasks_left_out'] == 0.0


def test_the_order_of_tasks_does_not_matter():
  one = one_step(each_task_once(PROBE.tasks.data), optax.sgd(1.0))
  other = one_step(
    each_task_once(PROBE.tasks.data, order=[2, 0, 3, 1]), optax.sgd(1.0)
  )
  assert_close('parameters', one[1].params, other[1].params, 1e-6)


def poisoned(bad_value, tasks, part):
  targets = PROBE.tasks.data.targets
  for task in tasks:
    targets = targets.at[task, part, 0].set(bad_value)
  return PROBE.tasks.data._replace(targets=targets)


@pytest.mark.parametrize('part', [0, 1], ids=['support', 'query'])
@pytest.mark.parametrize('bad_value', [np.nan, np.inf, -np.inf, 1e38])
@pytest.mark.parametrize('task_chunk_size', [None, 2])
def test_a_bad_task_is_left_out_alone(bad_value, part, task_chunk_size):
  before, after, metrics = one_step(
    each_task_once(poisoned(bad_value, [1], part)),
    optax.sgd(0.1),
    task_chunk_size=task_chunk_size,
  )
  start = weights(before.params)
  gradient = closed_form_gradient(start, [0, 2, 3])
  np.testing.assert_allclose(
    weights(after.params), start - 0.1 * gradient, rtol=1e-5, atol=1e-6
  )
  assert metrics['meta/tasks_left_out'] == 1.0
  assert metrics[SKIPPED] == 0.0
  assert_finite('metrics', metrics)


@pytest.mark.parametrize('bad_value', [np.nan, np.inf, 1e38])
def test_a_step_without_a_good_task_is_skipped(bad_value):
  before, after, metrics = one_step(
    each_task_once(poisoned(bad_value, range(NUM_TASKS), 0)), optax.adam(0.1)
  )
  assert_equal_bits('state', before, after)
  assert metrics[SKIPPED] == 1.0
  assert metrics['meta/tasks_left_out'] == NUM_TASKS


@pytest.mark.parametrize(
  ('gradient', 'optimizer'),
  [(3e38, optax.sgd(1.0)), (1e30, optax.adam(1e-3))],
  ids=['the_sum_overflows', 'its_square_overflows'],
)
def test_finite_gradients_whose_update_is_not_are_skipped(gradient, optimizer):
  steep = Learner(
    init=lambda key, episode: {'w': jnp.zeros(())},
    adapt=lambda params, support, key: params,
    loss=lambda params, adapted, query, key: (gradient * adapted['w'], {}),
    predict=lambda adapted, inputs: inputs,
  )
  algorithm = meta_train(steep, PROBE.tasks, optimizer, meta_batch_size=4)
  state = algorithm.init(algorithm.data, jax.random.key(0))
  after, metrics = algorithm.step(algorithm.data, state, jax.random.key(1))
  assert_equal_bits('state', state, after)
  assert metrics[SKIPPED] == 1.0


NETWORK = Perceptron((8,), 1, activation=jnp.tanh)


def small_maml():
  return meta_train(
    maml(NETWORK, inner_lr=0.05, num_inner_steps=2),
    sinusoids(shots=5, query_shots=5),
    optax.adam(1e-2),
    meta_batch_size=4,
    test_learner=fine_tuning_curve(NETWORK, inner_lr=0.05, num_steps=1),
    num_test_tasks=3,
  )


def test_evaluation_is_one_number_a_task():
  algorithm = small_maml()
  state = jax.jit(algorithm.init)(algorithm.data, jax.random.key(0))
  metrics = jax.jit(algorithm.evaluate)(
    algorithm.data, state, jax.random.key(1)
  )
  tasks = sinusoids(shots=5, query_shots=5)
  keys = jax.random.split(jax.random.key(1), 3)
  unadapted = [
    jnp.mean(
      (
        NETWORK.apply({'params': state.params['model']}, query.inputs)
        - query.targets
      )
      ** 2
    )
    for query in (
      tasks.sample((), jax.random.split(key, 3)[0]).query for key in keys
    )
  ]
  assert set(metrics) == {
    'query_loss',
    'query_loss/step_0',
    'query_loss/step_1',
  }
  np.testing.assert_array_equal(
    metrics['query_loss'], metrics['query_loss/step_1']
  )
  np.testing.assert_allclose(metrics['query_loss/step_0'], unadapted, rtol=1e-5)


def test_maml_keeps_the_contract_of_an_algorithm():
  check_algorithm(small_maml())


def run_in_chunks(algorithm, num_steps, chunk):
  run_key = jax.random.key(0)

  def body(state, i):
    state, _ = algorithm.step(algorithm.data, state, step_key(run_key, i))
    return state, None

  @jax.jit
  def run_chunk(state, first):
    return jax.lax.scan(body, state, first + jnp.arange(chunk))[0]

  state = jax.jit(algorithm.init)(algorithm.data, init_key(run_key))
  for first in range(0, num_steps, chunk):
    state = run_chunk(state, first)
  return state


def test_the_length_of_chunks_changes_no_bit():
  algorithm = small_maml()
  one_by_one = run_in_chunks(algorithm, 20, 1)
  assert_equal_bits('chunks of 5', run_in_chunks(algorithm, 20, 5), one_by_one)
  assert_equal_bits(
    'chunks of 10', run_in_chunks(algorithm, 20, 10), one_by_one
  )


def digest(state):
  bits = b''.join(leaf.tobytes() for leaf in jax.tree.leaves(on_host(state)))
  return hashlib.sha256(bits).hexdigest()


@pytest.mark.compiled_fully
def test_another_process_ends_with_the_same_bits():
  program = (
    'import importlib.util, sys\n'
    'spec = importlib.util.spec_from_file_location("here", sys.argv[1])\n'
    'here = importlib.util.module_from_spec(spec)\n'
    'spec.loader.exec_module(here)\n'
    'print(here.digest(here.run_in_chunks(here.small_maml(), 20, 5)))\n'
  )
  answer = subprocess.run(
    [sys.executable, '-c', program, __file__],
    env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)},
    capture_output=True,
    text=True,
    check=True,
  )
  here = digest(run_in_chunks(small_maml(), 20, 5))
  assert answer.stdout.split() == [here]


def test_examples_are_what_a_family_draws():
  episode = PROBE.tasks.sample(PROBE.tasks.data, jax.random.key(0))
  assert isinstance(episode.support, Examples)
  assert not np.array_equal(episode.support.inputs, episode.query.inputs)
