"""The Gaussian against SciPy and closed forms; the policy that gives it out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from metajax.nets.distributions import DiagonalGaussian
from metajax.nets.policies import GaussianPolicy


def gaussian(log_std_shape, seed=0):
  generator = np.random.default_rng(seed)
  return DiagonalGaussian(
    mean=generator.normal(size=(7, 3)),
    log_std=0.5 * generator.normal(size=log_std_shape),
  )


@pytest.fixture(autouse=True, name='float64')
def fixture_float64():
  with jax.enable_x64(True):
    yield


@pytest.mark.parametrize('shape', [(3,), (7, 3)])
def test_log_prob_is_that_of_scipy(shape):
  one = gaussian(shape)
  values = np.random.default_rng(1).normal(size=(7, 3))
  expected = scipy.stats.norm.logpdf(values, one.mean, np.exp(one.log_std))
  np.testing.assert_allclose(
    one.log_prob(values), expected.sum(axis=-1), rtol=1e-12
  )


def closed_form_kl(one, other):
  """1/2 (tr(S2^-1 S1) + (m2-m1)^T S2^-1 (m2-m1) - k + ln det S2 / det S1)."""
  variance, other_variance = (
    np.exp(2 * np.broadcast_to(g.log_std, g.mean.shape)) for g in (one, other)
  )
  difference = one.mean - other.mean
  return 0.5 * np.sum(
    variance / other_variance
    + difference**2 / other_variance
    - 1.0
    + np.log(other_variance / variance),
    axis=-1,
  )


@pytest.mark.parametrize('shape', [(3,), (7, 3)])
def test_kl_is_the_closed_form(shape):
  one, other = gaussian(shape, seed=0), gaussian(shape, seed=1)
  np.testing.assert_allclose(
    one.kl(other), closed_form_kl(one, other), rtol=1e-12
  )
  np.testing.assert_allclose(one.kl(one), 0.0, atol=1e-15)
  assert np.all(np.abs(one.kl(other) - other.kl(one)) > 1e-6)


def test_samples_have_the_moments():
  one = DiagonalGaussian(
    mean=jnp.tile(jnp.array([[1.0, -2.0]]), (100_000, 1)),
    log_std=jnp.log(jnp.array([0.5, 2.0])),
  )
  samples = np.asarray(one.sample(jax.random.key(0)))
  # Five standard errors.
  np.testing.assert_allclose(samples.mean(axis=0), [1.0, -2.0], atol=0.032)
  np.testing.assert_allclose(samples.std(axis=0), [0.5, 2.0], rtol=0.012)


def test_the_policy_holds_its_standard_deviation_above_the_bound():
  policy = GaussianPolicy(2, (4,), initial_std=0.5, minimum_std=1e-3)
  params = policy.init(jax.random.key(0), jnp.zeros(3))['params']
  outputs = policy.apply({'params': params}, jnp.zeros((6, 3)))
  assert outputs.mean.shape == (6, 2)
  np.testing.assert_allclose(jnp.exp(outputs.log_std), 0.5, rtol=1e-6)
  low = {**params, 'log_std': jnp.full((2,), -100.0)}
  outputs = policy.apply({'params': low}, jnp.zeros((6, 3)))
  np.testing.assert_allclose(jnp.exp(outputs.log_std), 1e-3, rtol=1e-6)
