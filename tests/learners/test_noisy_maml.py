"""MAML with noise on its gradients, against MAML and against arithmetic."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.core.learner import Episode, Examples
from metajax.core.validation import InputError
from metajax.learners.maml import maml
from metajax.learners.noisy_maml import noisy_maml, noisy_maml_samples
from metajax.nets.perceptrons import Perceptron
from metajax.tasks.ambiguous_regression import lines_and_sinusoids
from metajax.testing.learners import check_learner

NETWORK = Perceptron((8,), 1, activation=jnp.tanh)
LINEAR = Perceptron((), 1)
TASKS = lines_and_sinusoids(shots=5, query_shots=5)
SETTINGS = {'inner_lr': 0.05, 'num_inner_steps': 2}


def test_noisy_maml_keeps_the_contract_of_a_learner():
  check_learner(noisy_maml(LINEAR, noise_std=0.5, **SETTINGS), TASKS)


def test_the_sampler_keeps_the_contract_of_a_learner():
  learner = noisy_maml_samples(LINEAR, noise_std=0.5, num_samples=3, **SETTINGS)
  check_learner(learner, TASKS)


@pytest.mark.parametrize('clip', [None, 0.3])
def test_without_noise_it_is_maml(clip):
  episode = TASKS.sample((), jax.random.key(0))
  plain = maml(NETWORK, clip=clip, **SETTINGS)
  params = plain.init(jax.random.key(1), episode)

  def loss(learner, params):
    adapted = learner.adapt(params, episode.support, jax.random.key(2))
    return learner.loss(params, adapted, episode.query, jax.random.key(3))[0]

  expected = jax.value_and_grad(lambda p: loss(plain, p))(params)
  noiseless = noisy_maml(NETWORK, noise_std=0.0, clip=clip, **SETTINGS)
  got = jax.value_and_grad(lambda p: loss(noiseless, p))(params)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
    got,
    expected,
  )
  sampler = noisy_maml_samples(
    NETWORK, noise_std=0.0, num_samples=2, clip=clip, **SETTINGS
  )
  np.testing.assert_allclose(loss(sampler, params), expected[0], rtol=1e-5)
  phis = sampler.adapt(params, episode.support, jax.random.key(2))
  np.testing.assert_array_equal(*phis['Dense_0']['kernel'])


@pytest.mark.parametrize('num_steps', [1, 3, 7])
def test_noise_adds_up_as_arithmetic_says(num_steps):
  """Of a quadratic: after k steps the deviation of a weight is known.

  w <- w - alpha (2 w + s e),  Var = alpha^2 s^2 sum_j (1 - 2 alpha)^(2 j)
  """
  inner_lr, std = 0.1, 2.0
  learner = noisy_maml_samples(
    Perceptron((), 1),
    inner_lr=inner_lr,
    noise_std=std,
    num_samples=6000,
    num_inner_steps=num_steps,
  )
  # At x = -1 and 1 the loss is b^2 + k^2: neither weight feels the other.
  support = Examples(jnp.array([[-1.0], [1.0]]), jnp.zeros((2, 1)))
  params = {
    'model': {'Dense_0': {'kernel': jnp.ones((1, 1)), 'bias': jnp.ones((1,))}}
  }
  phis = learner.adapt(params, support, jax.random.key(0))['Dense_0']
  shrink = 1.0 - 2.0 * inner_lr
  variance = (inner_lr * std) ** 2 * sum(
    shrink ** (2 * step) for step in range(num_steps)
  )
  kernel, bias = phis['kernel'].ravel(), phis['bias'].ravel()
  for weight in (kernel, bias):
    np.testing.assert_allclose(np.std(weight), variance**0.5, rtol=0.05)
    np.testing.assert_allclose(
      np.mean(weight), shrink**num_steps, atol=4 * (variance / 6000) ** 0.5
    )
  assert abs(np.corrcoef(kernel, bias)[0, 1]) < 0.06


def test_samples_depend_on_the_key_alone():
  learner = noisy_maml_samples(
    NETWORK, noise_std=0.5, num_samples=3, **SETTINGS
  )
  episode: Episode = TASKS.sample((), jax.random.key(0))
  params = learner.init(jax.random.key(1), episode)
  first, again, other = (
    learner.adapt(params, episode.support, jax.random.key(seed))
    for seed in (0, 0, 1)
  )
  jax.tree.map(np.testing.assert_array_equal, first, again)
  kernel = first['Dense_0']['kernel']
  assert np.all(np.std(kernel, axis=0) > 0.0)
  assert not np.any(kernel == other['Dense_0']['kernel'])


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'noise_std': -1.0}, 'noise_std: expected a number in .*, got -1.0'),
    ({'inner_lr': -0.1}, 'inner_lr: expected a finite number > 0, got -0.1'),
    ({'num_inner_steps': 1.5}, 'num_inner_steps: expected an integer >= 0'),
  ],
)
@pytest.mark.parametrize('make', [noisy_maml, noisy_maml_samples])
def test_what_cannot_be_is_said(make, settings, message):
  with pytest.raises(InputError, match=message):
    make(NETWORK, **{'noise_std': 0.5} | SETTINGS | settings)
