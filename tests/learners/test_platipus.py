"""PLATIPUS against closed forms, against MAML, and as a method."""

import dataclasses

from flax.traverse_util import flatten_dict
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax.core.algorithm import init_key, step_key
from metajax.core.learner import Episode, Examples, TaskFamily
from metajax.core.meta_training import meta_train
from metajax.core.validation import InputError
from metajax.learners.likelihoods import gaussian, mixture
from metajax.learners.maml import maml
from metajax.learners.noisy_maml import noisy_maml_samples
from metajax.learners.platipus import (
  LOG_STD_RANGE,
  PlatipusConfig,
  WeightDistribution,
  kl_divergence,
  platipus,
  platipus_samples,
  sample_weights,
)
from metajax.nets.perceptrons import Perceptron
from metajax.tasks.ambiguous_regression import lines_and_sinusoids
from metajax.testing.learners import check_learner

NETWORK = Perceptron((8,), 1, activation=jnp.tanh)
LINEAR = Perceptron((), 1)
TASKS = lines_and_sinusoids(shots=5, query_shots=5)
SETTINGS = {'inner_lr': 0.05, 'kl_weight': 0.1, 'num_inner_steps': 1}


@pytest.mark.parametrize(
  'settings',
  [
    {},
    {
      'prior_sees_support': False,
      'posterior_sees_support': True,
      'first_order': True,
      'clip': 1.0,
    },
  ],
  ids=['default', 'all_options'],
)
def test_platipus_keeps_the_contract_of_a_learner(settings):
  check_learner(platipus(LINEAR, **SETTINGS, **settings), TASKS)


def test_the_sampler_keeps_the_contract_of_a_learner():
  learner = platipus_samples(
    LINEAR, inner_lr=0.05, num_samples=3, num_inner_steps=1
  )
  check_learner(learner, TASKS)


def random_weights(seed):
  generator = np.random.default_rng(seed)
  shapes = {'a': (3, 2), 'b': ()}
  return {name: generator.normal(size=shape) for name, shape in shapes.items()}


def flat(tree):
  return np.concatenate(
    [np.ravel(leaf).astype(np.float64) for leaf in jax.tree.leaves(tree)]
  )


def test_divergence_is_that_of_monte_carlo():
  q = WeightDistribution(random_weights(0), random_weights(1))
  p = WeightDistribution(random_weights(2), random_weights(3))
  (q_mean, q_std), (p_mean, p_std) = (
    (flat(d.mean), np.exp(flat(d.log_std))) for d in (q, p)
  )
  noise = np.random.default_rng(4).normal(size=(400_000, q_mean.size))
  draws = q_mean + q_std * noise
  log_q = -0.5 * noise**2 - np.log(q_std)
  log_p = -0.5 * ((draws - p_mean) / p_std) ** 2 - np.log(p_std)
  values = np.sum(log_q - log_p, axis=1)
  got = kl_divergence(*jax.tree.map(jnp.float32, (q, p)))
  error = values.std() / np.sqrt(values.size)
  assert error < 0.02 * values.mean()
  np.testing.assert_allclose(got, values.mean(), atol=4 * error)


def test_drawn_weights_have_mean_and_deviation():
  distribution = jax.tree.map(
    jnp.float32, WeightDistribution(random_weights(0), random_weights(1))
  )
  draws = jax.vmap(lambda key: sample_weights(distribution, key))(
    jax.random.split(jax.random.key(0), 20_000)
  )
  for name, mean in distribution.mean.items():
    std = np.exp(distribution.log_std[name])
    assert np.all(np.abs(draws[name].mean(axis=0) - mean) < 0.04 * std)
    np.testing.assert_allclose(draws[name].std(axis=0), std, rtol=0.03)


def episode_and_params(learner, network_seed=1, task_seed=0):
  episode = TASKS.sample((), jax.random.key(task_seed))
  return episode, learner.init(jax.random.key(network_seed), episode)


def objective(learner, params, support, query, seed=3):
  adapted = learner.adapt(params, support, jax.random.key(2))
  return learner.loss(params, adapted, query, jax.random.key(seed))


def test_equal_data_and_equal_numbers_have_no_divergence():
  learner = platipus(NETWORK, **SETTINGS)
  episode, params = episode_and_params(learner)
  _, metrics = objective(learner, params, episode.support, episode.support)
  assert metrics['kl'] == 0.0
  # It is the query that q has seen, and not the support.
  _, metrics = objective(learner, params, episode.support, episode.query)
  assert metrics['kl'] > 0.0


@pytest.mark.parametrize('clip', [None, 0.5])
def test_without_variance_and_shifts_it_is_maml(clip):
  episode = TASKS.sample((), jax.random.key(0))
  reference = maml(NETWORK, inner_lr=0.05, num_inner_steps=2, clip=clip)
  learner = platipus(NETWORK, **SETTINGS | {'num_inner_steps': 2}, clip=clip)
  params = learner.init(jax.random.key(1), episode)
  params |= {
    name: jax.tree.map(jnp.zeros_like, params[name])
    for name in ('prior_gamma', 'posterior_gamma')
  }

  def loss_and_gradient(learner, params):
    def loss(mean):
      return objective(
        learner, params | {'model': mean}, episode.support, episode.query
      )[0]

    value, gradient = jax.jit(jax.value_and_grad(loss))(params['model'])
    return np.append(flat(gradient), value)

  expected = loss_and_gradient(reference, params)
  errors = []
  for log_std in (-6.0, LOG_STD_RANGE[0]):
    stds = jax.tree.map(
      lambda leaf, value=log_std: jnp.full_like(leaf, value), params['model']
    )
    small = params | {'prior_log_std': stds, 'posterior_log_std': stds}
    errors.append(np.abs(loss_and_gradient(learner, small) - expected).max())
  scale = np.abs(expected).max()
  assert errors[1] < 2e-3 * scale
  # What is left is the noise: it vanishes with the deviation, in proportion.
  ratio = np.exp(-6.0 - LOG_STD_RANGE[0])
  assert 0.3 * ratio < errors[0] / errors[1] < 3.0 * ratio


@pytest.mark.parametrize('posterior_sees_support', [False, True])
def test_objective_and_its_gradients_on_a_linear_gaussian_model(
  posterior_sees_support,
):
  """Against float64 algebra: L(w, D) = |X w - y|^2 / J."""
  inner_lr, kl_weight = 0.1, 0.3
  generator = np.random.default_rng(0)

  def draw(points):
    inputs = generator.normal(size=(points, 2))
    return inputs, generator.normal(size=points)

  support, query = draw(4), draw(5)

  def examples(data):
    return Examples(jnp.float32(data[0]), jnp.float32(data[1])[:, None])

  learner = platipus(
    LINEAR,
    inner_lr=inner_lr,
    kl_weight=kl_weight,
    num_inner_steps=1,
    posterior_sees_support=posterior_sees_support,
  )
  episode = Episode((), examples(support), examples(query))
  params = jax.tree.map(
    lambda leaf: jnp.float32(generator.normal(size=leaf.shape)),
    learner.init(jax.random.key(0), episode),
  )
  mu, log_s, log_v, gamma_p, gamma_q = (
    flat(params[name])
    for name in (
      'model',
      'prior_log_std',
      'posterior_log_std',
      'prior_gamma',
      'posterior_gamma',
    )
  )
  zero = jax.tree.map(jnp.zeros_like, params['model'])
  noise = flat(
    sample_weights(WeightDistribution(zero, zero), jax.random.key(3))
  )

  def loss_and_slope(data, weights):
    # The bias comes before the kernel.
    design = np.concatenate([np.ones((len(data[1]), 1)), data[0]], axis=1)
    residual = design @ weights - data[1]
    slope = 2.0 / len(residual) * design.T @ residual
    return np.mean(residual**2), slope, 2.0 / len(residual) * design.T @ design

  g_p = loss_and_slope(support, mu)[1]
  g_q = loss_and_slope(query, mu)[1]
  g_q = g_q + g_p if posterior_sees_support else g_q
  m_p, m_q = mu - gamma_p * g_p, mu - gamma_q * g_q
  theta = m_q + np.exp(log_v) * noise
  _, slope, curvature = loss_and_slope(support, theta)
  query_loss, pull, _ = loss_and_slope(query, theta - inner_lr * slope)
  # d L(phi) / d theta, through the step.
  pull = pull - inner_lr * curvature @ pull
  apart = (m_q - m_p) / np.exp(2 * log_s)
  ratio = np.exp(2 * (log_v - log_s))
  kl = 0.5 * np.sum(
    2 * (log_s - log_v) + ratio + (m_q - m_p) ** 2 / np.exp(2 * log_s) - 1
  )
  expected = {
    'posterior_gamma': -g_q * (pull + kl_weight * apart),
    'prior_gamma': g_p * kl_weight * apart,
    'posterior_log_std': pull * np.exp(log_v) * noise + kl_weight * (ratio - 1),
    'prior_log_std': kl_weight
    * (1 - ratio - (m_q - m_p) ** 2 / np.exp(2 * log_s)),
  }

  def loss(params):
    return objective(learner, params, episode.support, episode.query)

  (value, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(params)
  np.testing.assert_allclose(metrics['query_nll'], query_loss, rtol=1e-4)
  np.testing.assert_allclose(metrics['kl'], kl, rtol=1e-4)
  np.testing.assert_allclose(value, query_loss + kl_weight * kl, rtol=1e-4)
  for name, slope in expected.items():
    np.testing.assert_allclose(
      flat(gradient[name]), slope, rtol=2e-3, atol=1e-4, err_msg=name
    )


def test_gradient_of_the_mean_is_that_of_finite_differences():
  """It passes through both shifts, the draw and the steps."""
  with jax.enable_x64(True):
    learner = platipus(
      NETWORK, **SETTINGS, initial_gamma=0.05, initial_log_std=-2.0
    )
    episode, params = jax.tree.map(jnp.float64, episode_and_params(learner))

    @jax.jit
    def loss(mean):
      return objective(
        learner, params | {'model': mean}, episode.support, episode.query
      )[0]

    gradient = jax.grad(loss)(params['model'])
    direction = jax.tree.map(
      lambda leaf: jnp.array(np.random.default_rng(0).normal(size=leaf.shape)),
      params['model'],
    )
    step = 1e-5

    def moved(sign):
      return loss(
        jax.tree.map(
          lambda m, d: m + sign * step * d, params['model'], direction
        )
      )

    slope = (moved(1.0) - moved(-1.0)) / (2 * step)
    np.testing.assert_allclose(
      optax.tree.vdot(gradient, direction), slope, rtol=1e-6
    )


def test_variance_follows_the_posterior_of_bayesian_regression():
  """Of a linear model, as of the exact posterior, from more and more points.

  k steps on |X w - y|^2 / K shrink an error by A = (I - alpha H)^k, so that
  the samples' variance at x is [1, x] A S A^T [1, x]^T.
  """
  inner_lr, num_steps, std = 0.1, 5, 0.5
  learner = platipus_samples(
    LINEAR, inner_lr=inner_lr, num_samples=4000, num_inner_steps=num_steps
  )
  random = np.random.default_rng(0)
  at = np.linspace(-2, 2, 9)
  places = np.stack([np.ones(9), at], axis=1)
  inputs = random.uniform(-2, 2, size=(30, 20, 1))
  draw = jax.jit(jax.vmap(learner.adapt, in_axes=(None, 0, 0)))
  variances, posteriors = [], []
  for shots in (1, 2, 4, 20):
    support = Examples(
      jnp.float32(inputs[:, :shots]), jnp.zeros((30, shots, 1))
    )
    episode = jax.tree.map(lambda leaf: leaf[0], Episode((), support, support))
    params = learner.init(jax.random.key(0), episode)
    params['prior_log_std'] = jax.tree.map(
      lambda leaf: jnp.full_like(leaf, np.log(std)), params['prior_log_std']
    )
    phis = draw(params, support, jax.random.split(jax.random.key(1), 30))
    outputs = jax.vmap(learner.predict, in_axes=(0, None))(
      phis, jnp.float32(at)[:, None]
    )
    variance = np.var(outputs[..., 0], axis=1)

    design = np.concatenate(
      [np.ones((30, shots, 1)), inputs[:, :shots]], axis=2
    )
    gram = np.einsum('tki,tkj->tij', design, design)
    shrink = np.stack(
      [
        np.linalg.matrix_power(
          np.eye(2) - inner_lr * 2.0 / shots * g, num_steps
        )
        for g in gram
      ]
    )
    projected = np.einsum('pi,tij->tpj', places, shrink)
    np.testing.assert_allclose(
      variance, std**2 * np.sum(projected**2, axis=-1), rtol=0.15
    )
    exact = np.linalg.inv(np.eye(2) / std**2 + gram / 0.3**2)
    posteriors.append(np.einsum('pi,tij,pj->tp', places, exact, places))
    variances.append(variance)

  means = np.mean(variances, axis=(1, 2))
  exact_means = np.mean(posteriors, axis=(1, 2))
  assert np.all(np.diff(means) < 0)
  assert np.all(np.diff(exact_means) < 0)
  # From one point: where one is large, the other is.
  correlations = [
    np.corrcoef(v, p)[0, 1]
    for v, p in zip(variances[0], posteriors[0], strict=True)
  ]
  assert np.mean(correlations) > 0.9


def test_samples_depend_on_the_key_and_on_nothing_of_q():
  learner = platipus_samples(NETWORK, inner_lr=0.05, num_samples=4)
  episode, params = episode_and_params(learner)
  adapt = jax.jit(learner.adapt)

  def draw(params, seed=0):
    return adapt(params, episode.support, jax.random.key(seed))

  first = draw(params)
  others = {
    name: jax.tree.map(lambda leaf: leaf + 1.0, params[name])
    for name in ('posterior_log_std', 'posterior_gamma')
  }
  for again in (draw(params), draw(params | others)):
    jax.tree.map(np.testing.assert_array_equal, first, again)
  for name, leaf in flatten_dict(first).items():
    assert not np.allclose(leaf, flatten_dict(draw(params, 1))[name])
    assert np.all(np.std(leaf, axis=0) > 0.0)
  outputs = learner.predict(first, episode.query.inputs)
  assert outputs.shape == (4, 5, 1)
  by_hand = [
    NETWORK.apply(
      {'params': jax.tree.map(lambda leaf, s=s: leaf[s], first)},
      episode.query.inputs,
    )
    for s in range(4)
  ]
  np.testing.assert_allclose(outputs, np.stack(by_hand), rtol=1e-5, atol=1e-6)


def test_a_sampler_reports_its_models():
  learner = platipus_samples(NETWORK, inner_lr=0.05, num_samples=4)
  episode, params = episode_and_params(learner)
  phis = learner.adapt(params, episode.support, jax.random.key(0))
  loss, metrics = learner.loss(params, phis, episode.query, jax.random.key(1))
  outputs = np.asarray(learner.predict(phis, episode.query.inputs), np.float64)
  errors = np.mean(
    (outputs - np.asarray(episode.query.targets)) ** 2, axis=(1, 2)
  )
  np.testing.assert_allclose(loss, errors.mean(), rtol=1e-5)
  np.testing.assert_allclose(metrics['best_loss'], errors.min(), rtol=1e-5)
  np.testing.assert_allclose(
    metrics['predictive_variance'], outputs.var(axis=0).mean(), rtol=1e-4
  )


def slopes_of_unknown_sign(noise_std=0.1) -> TaskFamily:
  """Returns y = s max(x, 0), s = -1 or 1, told of at x < 0 only."""

  def sample(data, key):
    del data
    sign_key, support_key, query_key, noise_key = jax.random.split(key, 4)
    sign = jax.random.rademacher(sign_key, (), jnp.float32)
    inputs = jnp.concatenate(
      [
        jax.random.uniform(support_key, (3, 1), minval=-2.0, maxval=0.0),
        jax.random.uniform(query_key, (8, 1), minval=-2.0, maxval=2.0),
      ]
    )
    noise = noise_std * jax.random.normal(noise_key, inputs.shape)
    examples = Examples(inputs, sign * jnp.maximum(inputs, 0.0) + noise)
    return Episode(
      sign,
      jax.tree.map(lambda x: x[:3], examples),
      jax.tree.map(lambda x: x[3:], examples),
    )

  return TaskFamily(sample)


def train(learner, num_steps):
  algorithm = meta_train(
    learner,
    slopes_of_unknown_sign(),
    optax.adam(5e-3),
    meta_batch_size=8,
  )
  run_key = jax.random.key(0)

  @jax.jit
  def whole(data):
    def body(state, index):
      return algorithm.step(data, state, step_key(run_key, index))[0], None

    state = algorithm.init(data, init_key(run_key))
    return jax.lax.scan(body, state, jnp.arange(num_steps))[0]

  return whole(algorithm.data).params


@pytest.mark.slow
@pytest.mark.slow
def test_samples_hold_both_answers_where_the_support_tells_none():
  network, settings = Perceptron((16,), 1), {'inner_lr': 0.02}
  likelihood = gaussian(0.3)

  def loss(outputs, targets):
    return -jnp.mean(likelihood(outputs, targets))

  def measures(outputs, targets):
    return mixture(jax.vmap(lambda one: likelihood(one, targets))(outputs))

  steps = {'num_inner_steps': 1}
  params = train(
    platipus(network, loss, kl_weight=1 / 8, **settings, **steps), 4000
  )
  maml_params = train(maml(network, loss, **settings, **steps), 4000)
  samplers = {
    'platipus': platipus_samples(
      network, loss, num_samples=20, measures=measures, **settings, **steps
    ),
    'maml': noisy_maml_samples(
      network,
      loss,
      noise_std=0.0,
      num_samples=1,
      measures=measures,
      **settings,
      **steps,
    ),
  }

  def meet(learner, params):
    @jax.jit
    @jax.vmap
    def one(key):
      sample_key, adapt_key, loss_key = jax.random.split(key, 3)
      episode = slopes_of_unknown_sign().sample((), sample_key)
      phis = learner.adapt(params, episode.support, adapt_key)
      places = jnp.array([[-1.0], [1.0]])
      _, metrics = learner.loss(params, phis, episode.query, loss_key)
      return learner.predict(phis, places)[..., 0], metrics

    return jax.device_get(one(jax.random.split(jax.random.key(9), 200)))

  outputs, metrics = meet(samplers['platipus'], params)
  single, maml_metrics = meet(samplers['maml'], maml_params)
  # Where the support tells the answer, samples agree on it.
  left, right = outputs[..., 0], outputs[..., 1]
  assert np.sqrt(np.mean(left**2)) < 0.3
  assert np.std(right, axis=1).mean() > 3 * np.std(left, axis=1).mean()
  # Where it does not, MAML says the mean; of PLATIPUS nearly every task has
  # samples near both answers.
  assert np.abs(single[..., 1]).mean() < 0.4
  near = [np.any(np.abs(right - sign) < 0.5, axis=1) for sign in (-1.0, 1.0)]
  assert np.mean(near[0] & near[1]) > 0.9
  assert (
    metrics['joint_mixture_nll'].mean()
    < maml_metrics['joint_mixture_nll'].mean() - 0.3
  )


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'kl_weight': -1.0}, r'kl_weight: expected a number in .*, got -1.0'),
    ({'inner_lr': 0.0}, 'inner_lr: expected a finite number > 0, got 0.0'),
    ({'initial_log_std': 3.0}, 'initial_log_std: expected .*, got 3.0'),
    ({'initial_gamma': float('nan')}, 'initial_gamma: expected a finite'),
    ({'clip': 0.0}, 'clip: expected a finite number > 0, got 0.0'),
    ({'num_inner_steps': -1}, 'num_inner_steps: expected an integer >= 0'),
  ],
)
def test_what_cannot_be_is_said(settings, message):
  with pytest.raises(InputError, match=message):
    platipus(NETWORK, **SETTINGS | settings)


def test_a_sampler_draws_at_least_one():
  with pytest.raises(InputError, match='num_samples: expected an integer >= 1'):
    platipus_samples(NETWORK, inner_lr=0.1, num_samples=0)


def test_every_float_of_the_config_may_be_swept():
  floats = [
    field.name
    for field in dataclasses.fields(PlatipusConfig)
    if isinstance(field.default, float)
  ]
  assert len(jax.tree.leaves(PlatipusConfig())) == len(floats)
