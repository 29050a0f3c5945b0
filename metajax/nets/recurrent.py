"""Recurrent networks."""

from collections.abc import Sequence

from flax import linen as nn
import jax
from jax import Array
import jax.numpy as jnp

from metajax.core.learner import Params

# Of each layer its cell and its output, [..., hidden_size] float32.
Carry = tuple[tuple[Array, Array], ...]


class StackedLstm(nn.Module):
  """LSTM layers on top of each other, and a linear output.

  Of layer l with the input x (Hochreiter and Schmidhuber 1997), sigma the
  logistic function:

    i, f, o = sigma(W_{i,f,o} [x, h] + b),  g = tanh(W_g [x, h] + b)
    c <- f c + i g,  h <- o tanh(c)

  Call: `(carry, inputs [..., input_size]) -> (carry, outputs
  [..., output_size] float32)`, one step of time.

  Attributes:
    hidden_sizes: units of each layer.
    output_size: units of the output.
  """

  hidden_sizes: Sequence[int]
  output_size: int

  @nn.compact
  def __call__(self, carry: Carry, inputs: Array) -> tuple[Carry, Array]:
    hidden, layers = inputs, []
    for size, layer in zip(self.hidden_sizes, carry, strict=True):
      layer, hidden = nn.OptimizedLSTMCell(size)(layer, hidden)
      layers.append(layer)
    return tuple(layers), nn.Dense(self.output_size)(hidden)

  def first_carry(self, *axes: int) -> Carry:
    """Returns the hidden state of one that has seen nothing: zeros.

    Args:
      *axes: axes in front, one size each; none for a single sequence.

    Returns:
      The carry, two `[*axes, hidden_size]` float32 a layer.
    """
    return tuple(
      (jnp.zeros((*axes, size)), jnp.zeros((*axes, size)))
      for size in self.hidden_sizes
    )

  def unroll(
    self, params: Params, carry: Carry, inputs: Array
  ) -> tuple[Carry, Array]:
    """Runs over consecutive steps, as one `lax.scan`.

    Args:
      params: the network's parameters.
      carry: the hidden state before the first step.
      inputs: [steps, ..., input_size] float32, in the order of time.

    Returns:
      The hidden state after the last step, and the outputs
      `[steps, ..., output_size]` float32.
    """

    def step(carry, inputs):
      carry, outputs = self.apply({'params': params}, carry, inputs)
      assert isinstance(outputs, Array)
      return carry, outputs

    return jax.lax.scan(step, carry, inputs)
