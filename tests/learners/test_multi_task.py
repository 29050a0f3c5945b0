"""The mean of networks: what it averages, and what each is trained towards."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax.core.learner import Episode, Examples, Learner, TaskFamily
from metajax.core.validation import InputError
from metajax.learners.multi_task import multi_task
from metajax.testing.algorithms import check_algorithm


def constants():
  """Tasks whose answer is one number, drawn anew for each."""

  def sample(data, key):
    del data
    answer = jax.random.normal(key)
    examples = Examples(jnp.zeros((3, 1)), jnp.full((3, 1), answer))
    return Episode(answer, examples, examples)

  return TaskFamily(sample)


def guess():
  """A learner of one number, which does not adapt; a random first guess."""

  def loss(params, adapted, query, key):
    del params, key
    return jnp.mean((adapted - query.targets) ** 2), {}

  return Learner(
    init=lambda key, episode: jax.random.normal(key),
    adapt=lambda params, support, key: params,
    loss=loss,
    predict=lambda adapted, inputs: jnp.broadcast_to(adapted, inputs.shape),
  )


def averaging(penalty, weight):
  return multi_task(
    guess(),
    constants(),
    optax.sgd(0.25),
    penalty=penalty,
    penalty_weight=weight,
    iterations_per_task=4,
    steps_per_iteration=30,
    batch_size=2,
    test_learner=guess(),
    test_tasks=constants(),
    num_test_tasks=8,
  )


def run(penalty, weight, num_networks=3):
  """Returns the answers the networks were taught, and their mean after each."""
  algorithm = averaging(penalty, weight)
  state = algorithm.init(algorithm.data, jax.random.key(0))
  step = jax.jit(algorithm.step)
  answers, means = [], []
  for key in jax.random.split(jax.random.key(1), 4 * num_networks):
    taught = constants().sample((), jax.random.clone(state.task_key)).task
    done = int(state.num_done)
    state, _ = step(algorithm.data, state, key)
    if int(state.num_done) > done:
      answers.append(float(taught))
      means.append(float(state.mean))
  assert int(state.num_done) == num_networks
  return np.array(answers), np.array(means)


def test_without_a_penalty_it_is_the_mean_of_what_fits_each_task():
  answers, means = run('none', 0.0)
  np.testing.assert_allclose(
    means, np.cumsum(answers) / np.arange(1, 4), rtol=1e-4, atol=1e-6
  )


def test_a_penalty_on_the_norm_shrinks_each():
  """argmin (psi - y)^2 + c psi^2 = y / (1 + c)."""
  answers, means = run('norm', 1.0)
  np.testing.assert_allclose(
    means, np.cumsum(answers / 2.0) / np.arange(1, 4), rtol=1e-4, atol=1e-6
  )


def test_a_penalty_on_the_distance_draws_each_to_the_mean_before_it():
  """argmin (psi - y)^2 + c (psi - m)^2 = (y + c m) / (1 + c)."""
  answers, means = run('distance_to_mean', 1.0)
  networks = [answers[0]]
  for answer in answers[1:]:
    networks.append((answer + np.mean(networks)) / 2.0)
  np.testing.assert_allclose(
    means, np.cumsum(networks) / np.arange(1, 4), rtol=1e-4, atol=1e-6
  )


def test_contract():
  check_algorithm(averaging('norm', 0.1))


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (
      {'penalty': 'l1'},
      'penalty: expected one of none, norm, distance_to_mean',
    ),
    ({'weight': -1.0}, 'penalty_weight: expected'),
  ],
)
def test_bad_arguments(arguments, message):
  with pytest.raises(InputError, match=message.split(':')[0]) as raised:
    averaging(**{'penalty': 'norm', 'weight': 0.1} | arguments)
  assert len(str(raised.value).splitlines()) == 1
