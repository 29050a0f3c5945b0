"""Policies: observations in, a distribution over actions out."""

from collections.abc import Callable, Sequence
import math

from flax import linen as nn
from jax import Array
import jax.numpy as jnp

from metajax.core.learner import Params
from metajax.nets.distributions import DiagonalGaussian
from metajax.nets.perceptrons import Perceptron


class GaussianPolicy(nn.Module):
  """A Gaussian policy: a perceptron for the mean, a learned standard deviation.

  The standard deviation does not depend on the observation. Glorot weights,
  zero biases (Finn 2018, section 4.6.3; Duan et al. 2016).

  With `context_size` free parameters z, the same whatever is observed, are
  concatenated to the observation. They are the leaf `context` and start at
  zero; a policy that adapts them alone is the context vector that MAML is
  compared with (Finn 2018, section 4.6.3; Rei 2015).

  Call: `observations [..., observation_size] -> DiagonalGaussian` over
  `[..., action_size]`.

  Attributes:
    action_size: length of an action.
    hidden_sizes: units of each hidden layer of the mean.
    activation: elementwise function after every hidden layer.
    initial_std: standard deviation to begin with.
    minimum_std: lower bound of the standard deviation.
    context_size: length of z; 0 for none.
  """

  action_size: int
  hidden_sizes: Sequence[int] = (100, 100)
  activation: Callable[[Array], Array] = nn.relu
  initial_std: float = 1.0
  minimum_std: float = 1e-6
  context_size: int = 0

  @nn.compact
  def __call__(self, observations: Array) -> DiagonalGaussian:
    if self.context_size:
      context = self.param(
        'context', nn.initializers.zeros, (self.context_size,)
      )
      shape = (*observations.shape[:-1], self.context_size)
      observations = jnp.concatenate(
        [observations, jnp.broadcast_to(context, shape)], axis=-1
      )
    mean = Perceptron(
      self.hidden_sizes, self.action_size, self.activation, name='mean'
    )(observations)
    log_std = self.param(
      'log_std',
      nn.initializers.constant(math.log(self.initial_std)),
      (self.action_size,),
    )
    return DiagonalGaussian(
      mean, jnp.maximum(log_std, math.log(self.minimum_std))
    )

  def distribution(
    self, params: Params, observations: Array
  ) -> DiagonalGaussian:
    """Returns pi(. | observations) of given parameters.

    Args:
      params: the policy's parameters.
      observations: [..., observation_size] float32.

    Returns:
      The distribution over actions, `[..., action_size]`.
    """
    actions = self.apply({'params': params}, observations)
    assert isinstance(actions, DiagonalGaussian)
    return actions
