"""MAML against closed forms, against itself by hand, and as a method."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax.core.algorithm import init_key, step_key
from metajax.core.learner import Episode
from metajax.core.meta_training import meta_train
from metajax.learners.maml import fine_tuning_curve, maml
from metajax.nets.perceptrons import Perceptron
from metajax.tasks.regression import sinusoids
from metajax.testing.learners import check_learner
from metajax.testing.probes import linear_regressions

NETWORK = Perceptron((8,), 1, activation=jnp.tanh)
TASKS = sinusoids(shots=5, query_shots=5)


def train(algorithm, num_steps, seed=0):
  run_key = jax.random.key(seed)

  def body(state, i):
    state, _ = algorithm.step(algorithm.data, state, step_key(run_key, i))
    return state, None

  @jax.jit
  def whole(data):
    state = algorithm.init(data, init_key(run_key))
    return jax.lax.scan(body, state, jnp.arange(num_steps))[0]

  return whole(algorithm.data).params


@pytest.mark.parametrize(
  'settings',
  [
    {},
    {'num_inner_steps': 7, 'learn_inner_lr': True},
    {'num_inner_steps': 0},
  ],
  ids=['one_step', 'learned_step_sizes', 'no_step'],
)
def test_maml_keeps_the_contract_of_a_learner(settings):
  check_learner(maml(NETWORK, inner_lr=0.05, **settings), TASKS)


def test_the_curve_of_fine_tuning_keeps_the_contract_of_a_learner():
  check_learner(fine_tuning_curve(NETWORK, inner_lr=0.05, num_steps=2), TASKS)


@pytest.mark.parametrize('learned', [False, True])
def test_the_curve_is_that_of_steps_taken_by_hand(learned):
  learner = maml(
    NETWORK, inner_lr=0.05, num_inner_steps=2, learn_inner_lr=learned
  )
  curve = fine_tuning_curve(NETWORK, inner_lr=0.05, num_steps=3)
  episode = TASKS.sample((), jax.random.key(0))
  params = learner.init(jax.random.key(1), episode)
  sizes = [0.05] * 3
  if learned:
    # The last learned size serves the steps beyond.
    params['inner_lr'] = jax.tree.map(
      lambda _: jnp.array([0.02, 0.08]), params['inner_lr']
    )
    sizes = [0.02, 0.08, 0.08]

  def mean_squared_error(theta, examples):
    layers = [theta['Dense_0'], theta['Dense_1']]
    hidden = jnp.tanh(
      examples.inputs @ layers[0]['kernel'] + layers[0]['bias'][None]
    )
    outputs = hidden @ layers[1]['kernel'] + layers[1]['bias'][None]
    return jnp.mean((outputs - examples.targets) ** 2)

  adapted = curve.adapt(params, episode.support, jax.random.key(2))
  loss, metrics = curve.loss(params, adapted, episode.query, jax.random.key(3))
  theta, expected = params['model'], []
  for size in [*sizes, None]:
    expected.append(mean_squared_error(theta, episode.query))
    if size is not None:
      gradient = jax.grad(mean_squared_error)(theta, episode.support)
      theta = jax.tree.map(lambda p, g, s=size: p - s * g, theta, gradient)
  got = [metrics[f'query_loss/step_{k}'] for k in range(4)]
  np.testing.assert_allclose(got, expected, rtol=1e-5)
  np.testing.assert_allclose(loss, expected[-1], rtol=1e-5)
  outputs = curve.predict(adapted, episode.query.inputs)
  assert outputs.shape == (4, 5, 1)
  np.testing.assert_allclose(
    jnp.mean((outputs - episode.query.targets[None]) ** 2, axis=(1, 2)),
    expected,
    rtol=1e-5,
  )


@pytest.mark.parametrize('num_inner_steps', [0, 1, 3])
@pytest.mark.parametrize('first_order', [False, True])
def test_training_ends_at_the_known_optimum(num_inner_steps, first_order):
  probe, inner_lr = linear_regressions(), 0.15
  algorithm = meta_train(
    maml(
      Perceptron((), 1),
      inner_lr=inner_lr,
      num_inner_steps=num_inner_steps,
      first_order=first_order,
    ),
    probe.tasks,
    optax.sgd(optax.exponential_decay(0.2, 1000, 0.1)),
    meta_batch_size=32,
  )
  dense = train(algorithm, 3000)['model']['Dense_0']
  got = np.append(np.asarray(dense['kernel'])[:, 0], dense['bias'])

  optimum = functools.partial(
    probe.optimum, inner_lr=inner_lr, num_inner_steps=num_inner_steps
  )
  own = optimum(first_order=first_order)
  error = np.linalg.norm(got - own)
  assert error < 0.01 * np.linalg.norm(own)
  if num_inner_steps > 0:
    # The optima of the other methods are told apart.
    others = [optimum(first_order=not first_order)]
    others.append(probe.optimum(inner_lr=inner_lr, num_inner_steps=0))
    for other in others:
      assert error < 0.2 * np.linalg.norm(own - other)


def test_the_known_optimum_is_one():
  probe = linear_regressions()
  best = probe.optimum(inner_lr=0.15)
  loss = probe.meta_loss(best, inner_lr=0.15)
  for direction in np.random.default_rng(0).normal(size=(20, best.size)):
    assert probe.meta_loss(best + 0.1 * direction, inner_lr=0.15) > loss


def shuffled(episode: Episode, key) -> Episode:
  """Takes from the support which target belongs to which input."""
  targets = jax.random.permutation(key, episode.support.targets)
  return episode._replace(support=episode.support._replace(targets=targets))


@pytest.fixture(name='trained', scope='module')
def fixture_trained():
  network = Perceptron((40, 40), 1)
  tasks = sinusoids(shots=10, query_shots=10)
  params = {}
  for name, num_inner_steps in (('maml', 1), ('pretrained', 0)):
    algorithm = meta_train(
      maml(network, inner_lr=0.01, num_inner_steps=num_inner_steps),
      tasks,
      optax.adam(2e-3),
      meta_batch_size=25,
    )
    params[name] = train(algorithm, 3000)
  return network, params


def query_losses(network, params, shuffle=False):
  """Per task, after 0, 1 and 2 steps: [tasks, 3]."""
  tasks = sinusoids(shots=10, query_shots=100)
  curve = fine_tuning_curve(network, inner_lr=0.01, num_steps=2)

  @jax.jit
  @jax.vmap
  def one(key):
    sample_key, shuffle_key, adapt_key, loss_key = jax.random.split(key, 4)
    episode = tasks.sample((), sample_key)
    if shuffle:
      episode = shuffled(episode, shuffle_key)
    adapted = curve.adapt(params, episode.support, adapt_key)
    _, metrics = curve.loss(params, adapted, episode.query, loss_key)
    return jnp.stack([metrics[f'query_loss/step_{k}'] for k in range(3)])

  return np.asarray(one(jax.random.split(jax.random.key(99), 4000)))


def test_maml_learns_to_adapt_to_sinusoids(trained):
  network, params = trained
  before, after, _ = query_losses(network, params['maml']).mean(axis=0)
  assert after < 0.5 * before
  # The best function of the input alone costs 3.01.
  assert after < 0.6 * 3.01


def test_shuffled_labels_give_no_gain(trained):
  network, params = trained
  before, after, _ = query_losses(network, params['maml'], shuffle=True).mean(
    axis=0
  )
  assert after > 0.9 * before


def test_pretraining_is_bounded_by_the_best_function_of_the_input(trained):
  network, params = trained
  losses = query_losses(network, params['pretrained'])
  interval = 1.96 * losses[:, 0].std(ddof=1) / np.sqrt(len(losses))
  # 3.01 is the mean over tasks; so many tasks have one within the interval.
  assert losses[:, 0].mean() > 3.01 - interval
  maml_losses = query_losses(network, params['maml'])
  assert maml_losses[:, 1].mean() < 0.7 * losses[:, 1].mean()


def test_second_order_is_not_first_order():
  episode = TASKS.sample((), jax.random.key(0))

  def gradient(first_order):
    learner = maml(NETWORK, inner_lr=0.1, first_order=first_order)
    params = learner.init(jax.random.key(1), episode)

    def objective(params):
      adapted = learner.adapt(params, episode.support, jax.random.key(2))
      return learner.loss(params, adapted, episode.query, jax.random.key(3))[0]

    return jax.flatten_util.ravel_pytree(jax.grad(objective)(params))[0]

  first, second = gradient(True), gradient(False)
  assert jnp.linalg.norm(first - second) > 0.1 * jnp.linalg.norm(second)
