"""Multi-layer perceptrons."""

from collections.abc import Callable, Sequence

from flax import linen as nn
from jax import Array
import jax.numpy as jnp

Initialiser = Callable[..., Array]


class Perceptron(nn.Module):
  """A multi-layer perceptron with a linear output.

  With `bias_transformation_size` a learned vector z is concatenated to the
  input, so that the first layer computes W1 x + W2 z + b: the same functions
  as without, but a richer gradient for the bias (Finn 2018, section 7.1.4).
  Like every other parameter z is meta-learned and adapts.

  Call: `inputs [..., input_size] float -> [..., output_size] float32`.

  Attributes:
    hidden_sizes: units of each hidden layer.
    output_size: units of the output.
    activation: elementwise function after every hidden layer.
    bias_transformation_size: length of z; 0 for none.
    kernel_init: initialiser of the weights; the biases start at zero.
  """

  hidden_sizes: Sequence[int]
  output_size: int
  activation: Callable[[Array], Array] = nn.relu
  bias_transformation_size: int = 0
  kernel_init: Initialiser = nn.initializers.glorot_uniform()

  @nn.compact
  def __call__(self, inputs: Array) -> Array:
    hidden = inputs
    if self.bias_transformation_size:
      z = self.param(
        'bias_transformation',
        nn.initializers.normal(1.0),
        (self.bias_transformation_size,),
      )
      shape = (*inputs.shape[:-1], self.bias_transformation_size)
      hidden = jnp.concatenate([inputs, jnp.broadcast_to(z, shape)], axis=-1)
    for size in self.hidden_sizes:
      hidden = nn.Dense(size, kernel_init=self.kernel_init)(hidden)
      hidden = self.activation(hidden)
    return nn.Dense(self.output_size, kernel_init=self.kernel_init)(hidden)
