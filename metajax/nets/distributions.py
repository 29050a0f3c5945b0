"""Probability distributions that policies and posteriors give out."""

import math
from typing import NamedTuple

import jax
from jax import Array
import jax.numpy as jnp


class DiagonalGaussian(NamedTuple):
  """A Gaussian with independent elements.

  Attributes:
    mean: [..., size] float32.
    log_std: [..., size] float32, or `[size]` where it does not vary.
  """

  mean: Array
  log_std: Array

  def sample(self, key: Array) -> Array:
    """Draws `[..., size]`, one sample of each."""
    noise = jax.random.normal(key, self.mean.shape, self.mean.dtype)
    log_std = jnp.broadcast_to(self.log_std, self.mean.shape)
    return self.mean + jnp.exp(log_std) * noise

  def log_prob(self, value: Array) -> Array:
    """Returns the log density `[...]` of `value` `[..., size]`."""
    log_std = jnp.broadcast_to(self.log_std, self.mean.shape)
    standard = (value - self.mean) * jnp.exp(-log_std)
    per_element = jnp.square(standard) + 2.0 * log_std + math.log(2 * math.pi)
    return -0.5 * jnp.sum(per_element, axis=-1)

  def kl(self, other: 'DiagonalGaussian') -> Array:
    """Returns KL(self || other), `[...]`, summed over the elements."""
    log_ratio = jnp.broadcast_to(other.log_std - self.log_std, self.mean.shape)
    spread = jnp.exp(-2.0 * log_ratio)
    distance = jnp.square(self.mean - other.mean) * jnp.exp(
      -2.0 * jnp.broadcast_to(other.log_std, self.mean.shape)
    )
    return jnp.sum(log_ratio + 0.5 * (spread + distance - 1.0), axis=-1)
