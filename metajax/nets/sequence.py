"""Networks over sequences in which nothing looks ahead: SNAIL.

Source: Mishra, Rohaninejad, Chen and Abbeel, "A Simple Neural Attentive
Meta-Learner" (2018).
"""

from collections.abc import Sequence
import math

from flax import linen as nn
from jax import Array
import jax.numpy as jnp


def regression_snail(output_size: int = 1) -> 'Snail':
  """Returns the network that Finn 2018, section 6.4, compares on sinusoids.

  Twice four dilated convolutions of 16 channels and an attention of size 8.
  """
  layers = []
  for _ in range(2):
    layers += [TemporalConvolutions(16, (1, 2, 4, 8)), CausalAttention(8, 8)]
  return Snail(tuple(layers), output_size)


def classification_snail(ways: int, shots: int) -> 'Snail':
  """Returns the network for N-way K-shot images (Mishra 2018, appendix).

  Args:
    ways: classes, N.
    shots: support examples of a class, K.
  """
  doublings = math.ceil(math.log2(ways * shots + 1))
  dilations = tuple(2**power for power in range(doublings))
  return Snail(
    (
      CausalAttention(64, 32),
      TemporalConvolutions(128, dilations),
      CausalAttention(256, 128),
      TemporalConvolutions(128, dilations),
      CausalAttention(512, 256),
    ),
    ways,
  )


class CausalConvolution(nn.Module):
  """A convolution of two places: this one and one before it.

  Call: `inputs [length, features] -> [length, filters]`.

  Attributes:
    filters: features of the output.
    dilation: how far the other place lies back; before the first is zero.
  """

  filters: int
  dilation: int

  @nn.compact
  def __call__(self, inputs: Array) -> Array:
    before = jnp.pad(inputs, ((self.dilation, 0), (0, 0)))[: len(inputs)]
    return nn.Dense(self.filters)(jnp.concatenate([before, inputs], axis=-1))


class TemporalConvolutions(nn.Module):
  """Gated dilated convolutions, each of which adds its output to the features.

    X <- [X, tanh(C_f(X)) sigma(C_g(X))]        for every dilation

  Call: `inputs [length, features] -> [length, features + filters * dilations]`.

  Attributes:
    filters: features that each convolution adds.
    dilations: of the convolutions, in order.
  """

  filters: int
  dilations: Sequence[int]

  @nn.compact
  def __call__(self, inputs: Array) -> Array:
    hidden = inputs
    for dilation in self.dilations:
      value = CausalConvolution(self.filters, dilation)(hidden)
      gate = CausalConvolution(self.filters, dilation)(hidden)
      gated = jnp.tanh(value) * nn.sigmoid(gate)
      hidden = jnp.concatenate([hidden, gated], axis=-1)
    return hidden


class CausalAttention(nn.Module):
  """Attention of every place to itself and those before it.

    X <- [X, softmax(Q K^T / sqrt(d)) V]

  with Q, K, V linear in X, and only places t' <= t in the softmax of place t.

  Call: `inputs [length, features] -> [length, features + value_size]`.

  Attributes:
    key_size: d, features of keys and queries.
    value_size: features of what is read.
  """

  key_size: int
  value_size: int

  @nn.compact
  def __call__(self, inputs: Array) -> Array:
    queries = nn.Dense(self.key_size, name='queries')(inputs)
    keys = nn.Dense(self.key_size, name='keys')(inputs)
    values = nn.Dense(self.value_size, name='values')(inputs)
    scores = queries @ keys.T / math.sqrt(self.key_size)
    is_past = jnp.tril(jnp.ones(scores.shape, bool))
    weights = nn.softmax(jnp.where(is_past, scores, -jnp.inf), axis=-1)
    return jnp.concatenate([inputs, weights @ values], axis=-1)


class Snail(nn.Module):
  """Temporal convolutions and attention in turn, and a linear output.

  Call: `inputs [length, features] float32 -> [length, output_size] float32`;
  an output depends on inputs up to its own place alone.

  Attributes:
    layers: `TemporalConvolutions` and `CausalAttention`s, in order.
    output_size: features of the output.
  """

  layers: Sequence[nn.Module]
  output_size: int

  @nn.compact
  def __call__(self, inputs: Array) -> Array:
    hidden = inputs
    for layer in self.layers:
      hidden = layer(hidden)
    return nn.Dense(self.output_size, name='output')(hidden)
