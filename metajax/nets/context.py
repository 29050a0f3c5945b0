"""A learned input beside the input: the context vector."""

from flax import linen as nn
import jax
from jax import Array
import jax.numpy as jnp

from metajax.core.learner import Params, PyTree
from metajax.core.validation import check_count

_NAME = 'context'


class WithContext(nn.Module):
  """A network that is given free parameters beside its input.

  The context-vector baseline adapts those and nothing else (Rei 2015; Finn
  2018, section 4.6). A vector input gets `size` values behind its own; an
  image gets `size` channels, whose every pixel is free.

  Call: `inputs [examples, ..., features] -> what the network returns`.

  Attributes:
    network: a module that takes inputs with `size` more features.
    size: values, or channels, >= 1.
  """

  network: nn.Module
  size: int

  @nn.compact
  def __call__(self, inputs: Array) -> Array:
    check_count('size', self.size)
    context = self.param(
      _NAME, nn.initializers.zeros, (*inputs.shape[1:-1], self.size)
    )
    beside = jnp.broadcast_to(context[None], (inputs.shape[0], *context.shape))
    return self.network(jnp.concatenate([inputs, beside], axis=-1))


def context_alone(params: Params) -> PyTree:
  """Says of every leaf whether it is the context, for a `what_adapts`.

  Args:
    params: parameters of a module with a leaf `context`.

  Returns:
    A pytree of bools like `params`.
  """
  return jax.tree_util.tree_map_with_path(
    lambda path, _: path[0].key == _NAME, params
  )
