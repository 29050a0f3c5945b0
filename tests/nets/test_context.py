"""The context is an input like any other, and the only thing that adapts."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.core.adaptation import gradient_adapt
from metajax.nets.context import WithContext, context_alone
from metajax.nets.perceptrons import Perceptron
from metajax.nets.vision import omniglot_network


def test_a_vector_gets_values_behind_its_own():
  inner = Perceptron((8,), output_size=2)
  network = WithContext(inner, size=3)
  inputs = jax.random.normal(jax.random.key(0), (5, 4))
  params = network.init(jax.random.key(1), inputs)['params']
  context = jnp.array([1.0, -2.0, 0.5])
  params = {**params, 'context': context}
  given = jnp.concatenate([inputs, jnp.tile(context, (5, 1))], axis=-1)
  np.testing.assert_allclose(
    network.apply({'params': params}, inputs),
    inner.apply({'params': params['network']}, given),
    rtol=1e-6,
  )


def test_an_image_gets_free_pixels():
  network = WithContext(omniglot_network(5, filters=2), size=3)
  shapes = jax.eval_shape(
    network.init, jax.random.key(0), jnp.zeros((2, 28, 28, 1))
  )['params']
  assert shapes['context'].shape == (28, 28, 3)
  kernel = shapes['network']['embedding']['convolution_0']['kernel']
  assert kernel.shape == (3, 3, 4, 2)


@pytest.mark.parametrize('size', [1, 5])
def test_only_the_context_adapts(size):
  network = WithContext(Perceptron((8,), output_size=1), size=size)
  inputs = jax.random.normal(jax.random.key(0), (5, 2))
  params = network.init(jax.random.key(1), inputs)['params']

  def loss(params, data):
    return jnp.mean((network.apply({'params': params}, data) - 1.0) ** 2)

  adapted = gradient_adapt(
    loss,
    params,
    inputs,
    num_steps=1,
    inner_lr=0.1,
    adapts=context_alone(params),
  ).params
  slope = jax.grad(loss)(params, inputs)['context']
  np.testing.assert_allclose(adapted['context'], -0.1 * slope, rtol=1e-5)
  assert jnp.max(jnp.abs(slope)) > 0
  jax.tree.map(
    np.testing.assert_array_equal, adapted['network'], params['network']
  )


def test_a_module_may_hold_it():
  class Twice(nn.Module):
    @nn.compact
    def __call__(self, inputs):
      return 2 * inputs

  network = WithContext(Twice(), size=2)
  params = network.init(jax.random.key(0), jnp.ones((1, 1)))['params']
  assert set(params) == {'context'}
