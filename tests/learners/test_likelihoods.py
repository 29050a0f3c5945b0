"""Likelihoods against SciPy, and mixtures against sums by hand."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from metajax.core.validation import InputError
from metajax.learners.likelihoods import (
  bernoulli,
  categorical,
  gaussian,
  mixture,
  negative_log_likelihood,
)


def draw(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_gaussian():
  predictions, targets = draw(5, 2), draw(5, 2, seed=1)
  expected = stats.norm(predictions, 0.3).logpdf(targets).sum(axis=1)
  got = gaussian(0.3)(jnp.array(predictions), jnp.array(targets))
  np.testing.assert_allclose(got, expected, rtol=1e-4)
  loss = negative_log_likelihood(gaussian(0.3))(predictions, targets)
  np.testing.assert_allclose(loss, -expected.mean(), rtol=1e-4)


def test_bernoulli():
  logits, labels = draw(6, 1), np.float32([0, 1, 1, 0, 1, 0])[:, None]
  expected = stats.bernoulli(special.expit(logits)).logpmf(labels).sum(axis=1)
  np.testing.assert_allclose(bernoulli(logits, labels), expected, rtol=1e-4)


def test_categorical():
  logits, labels = draw(4, 3), np.array([2, 0, 1, 1])
  expected = special.log_softmax(logits, axis=1)[np.arange(4), labels]
  np.testing.assert_allclose(categorical(logits, labels), expected, rtol=1e-4)


def test_mixture():
  chances = np.array([[0.5, 0.2], [0.1, 0.8], [0.3, 0.3]])
  got = mixture(jnp.log(jnp.float32(chances)))
  each = -np.mean(np.log(chances.mean(axis=0)))
  joint = -np.log(np.prod(chances, axis=1).mean()) / 2
  np.testing.assert_allclose(got['mixture_nll'], each, rtol=1e-5)
  np.testing.assert_allclose(got['joint_mixture_nll'], joint, rtol=1e-5)
  # One model is as likely either way, however unlikely it is.
  single = mixture(jnp.array([[-500.0, -300.0]]))
  assert single == {'mixture_nll': 400.0, 'joint_mixture_nll': 400.0}


def test_a_deviation_is_positive():
  with pytest.raises(InputError, match='std: expected a finite number > 0'):
    gaussian(0.0)
