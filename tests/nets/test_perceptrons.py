"""Shapes, counts, and the gradient of the bias transformation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.nets.perceptrons import Perceptron


def count(params):
  return sum(leaf.size for leaf in jax.tree.leaves(params))


def test_the_network_of_the_sinusoid_experiment():
  network = Perceptron((40, 40), 1)
  params = network.init(jax.random.key(0), jnp.zeros((5, 1)))['params']
  # (1 + 1) 40 + (40 + 1) 40 + (40 + 1) 1, as the paper's tables count.
  assert count(params) == 1761
  outputs = network.apply({'params': params}, jnp.zeros((5, 1)))
  assert outputs.shape == (5, 1)
  assert outputs.dtype == jnp.float32
  for layer in params.values():
    np.testing.assert_array_equal(layer['bias'], 0.0)


def test_a_perceptron_computes_what_numpy_computes():
  network = Perceptron((4, 3), 2)
  inputs = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
  params = network.init(jax.random.key(1), inputs)['params']
  hidden = inputs
  for i in range(3):
    layer = params[f'Dense_{i}']
    hidden = hidden @ np.asarray(layer['kernel']) + np.asarray(layer['bias'])
    if i < 2:
      hidden = np.maximum(hidden, 0.0)
  np.testing.assert_allclose(
    network.apply({'params': params}, inputs), hidden, rtol=1e-5, atol=1e-6
  )


@pytest.mark.parametrize('shape', [(5,), (2, 5), (3, 2, 5)])
def test_leading_axes_are_kept(shape):
  network = Perceptron((4,), 2, bias_transformation_size=3)
  params = network.init(jax.random.key(0), jnp.ones((5,)))['params']
  outputs = network.apply({'params': params}, jnp.ones(shape))
  assert outputs.shape == (*shape[:-1], 2)
  np.testing.assert_allclose(
    outputs.reshape(-1, 2)[-1],
    network.apply({'params': params}, jnp.ones((5,))),
    rtol=1e-6,
  )


def test_glorot_weights():
  network = Perceptron((400,), 1)
  params = network.init(jax.random.key(0), jnp.zeros((1, 100)))['params']
  limit = np.sqrt(6.0 / (100 + 400))
  kernel = np.asarray(params['Dense_0']['kernel'])
  assert np.max(np.abs(kernel)) <= limit
  np.testing.assert_allclose(np.std(kernel), limit / np.sqrt(3), rtol=0.02)


def test_gradient_through_the_bias_transformation():
  """Finn 2018, section 4.3.1: dL/dW2 = (dL/dy) z^T and dL/dz = W2^T dL/dy."""
  size, num_inputs, num_outputs, alpha = 4, 3, 2, 0.1
  network = Perceptron((), num_outputs, bias_transformation_size=size)
  generator = np.random.default_rng(0)
  inputs = generator.normal(size=num_inputs)
  pull = generator.normal(size=num_outputs)  # dL/dy of L = pull . y
  with jax.enable_x64(True):
    params = network.init(jax.random.key(0), jnp.asarray(inputs))['params']
    gradient = jax.grad(
      lambda params: network.apply({'params': params}, inputs) @ pull
    )(params)
  z = np.asarray(params['bias_transformation'])
  w2 = np.asarray(params['Dense_0']['kernel'])[num_inputs:].T
  bias = np.asarray(params['Dense_0']['bias'])
  dw2 = np.asarray(gradient['Dense_0']['kernel'])[num_inputs:].T
  dz = np.asarray(gradient['bias_transformation'])
  np.testing.assert_allclose(dw2, np.outer(pull, z), rtol=1e-5)
  np.testing.assert_allclose(dz, w2.T @ pull, rtol=1e-5)
  np.testing.assert_allclose(gradient['Dense_0']['bias'], pull, rtol=1e-5)

  # The bias that one inner step makes of it.
  moved = jax.tree.map(
    lambda p, g: np.asarray(p) - alpha * np.asarray(g), params, gradient
  )
  new_w2 = np.asarray(moved['Dense_0']['kernel'])[num_inputs:].T
  new_bias = new_w2 @ moved['bias_transformation'] + moved['Dense_0']['bias']
  expected = (
    (w2 - alpha * np.outer(pull, z)) @ (z - alpha * w2.T @ pull)
    + bias
    - alpha * pull
  )
  np.testing.assert_allclose(new_bias, expected, rtol=1e-5, atol=1e-6)


def test_the_bias_transformation_adds_no_functions():
  inputs = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
  transformed = Perceptron((5,), 2, bias_transformation_size=4)
  params = transformed.init(jax.random.key(0), inputs)['params']
  first = params['Dense_0']
  plain = {
    'Dense_0': {
      'kernel': first['kernel'][:3],
      'bias': params['bias_transformation'] @ first['kernel'][3:]
      + first['bias'],
    },
    'Dense_1': params['Dense_1'],
  }
  np.testing.assert_allclose(
    transformed.apply({'params': params}, inputs),
    Perceptron((5,), 2).apply({'params': plain}, inputs),
    rtol=1e-5,
    atol=1e-6,
  )
