"""SNAIL's blocks against their equations, and none looks ahead."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.nets.sequence import (
  CausalAttention,
  CausalConvolution,
  Snail,
  TemporalConvolutions,
  classification_snail,
  regression_snail,
)


def tokens(length, features, seed=0):
  return jax.random.normal(jax.random.key(seed), (length, features))


def applied(network, inputs):
  found, variables = jax.jit(network.init_with_output)(
    jax.random.key(1), inputs
  )
  return variables['params'], np.asarray(found)


def test_a_convolution_sees_this_place_and_one_before_it():
  inputs = tokens(5, 3)
  params, found = applied(CausalConvolution(4, dilation=2), inputs)
  dense = jax.tree.map(np.asarray, params['Dense_0'])
  now, before = np.asarray(inputs), np.zeros((5, 3), np.float32)
  before[2:] = now[:3]
  expected = before @ dense['kernel'][:3] + now @ dense['kernel'][3:]
  np.testing.assert_allclose(found, expected + dense['bias'], rtol=1e-5)


def test_attention_by_hand():
  inputs = tokens(4, 3)
  params, found = applied(CausalAttention(key_size=2, value_size=5), inputs)
  x = np.asarray(inputs, np.float64)

  def linear(name):
    layer = jax.tree.map(np.asarray, params[name])
    return x @ layer['kernel'] + layer['bias']

  queries, keys, values = map(linear, ('queries', 'keys', 'values'))
  for place in range(4):
    scores = keys[: place + 1] @ queries[place] / np.sqrt(2.0)
    weights = np.exp(scores) / np.exp(scores).sum()
    np.testing.assert_allclose(
      found[place],
      np.concatenate([x[place], weights @ values[: place + 1]]),
      rtol=1e-4,
      atol=1e-6,
    )


def test_temporal_convolutions_keep_what_they_were_given():
  inputs = tokens(6, 3)
  _, found = applied(TemporalConvolutions(4, (1, 2)), inputs)
  assert found.shape == (6, 3 + 4 * 2)
  np.testing.assert_array_equal(found[:, :3], inputs)
  assert np.all(np.abs(found[:, 3:]) < 1.0)


@pytest.mark.parametrize(
  'network',
  [
    Snail((TemporalConvolutions(2, (1, 2)), CausalAttention(2, 2)), 1),
    pytest.param(regression_snail(), marks=pytest.mark.slow),
  ],
  ids=['small', 'regression'],
)
def test_no_output_looks_ahead_and_the_last_sees_all(network):
  inputs = tokens(6, 2)
  params, found = applied(network, inputs)

  def outputs(inputs):
    return network.apply({'params': params}, inputs)[:, 0]

  jacobian = np.asarray(jax.jit(jax.jacobian(outputs))(inputs))
  size = np.abs(jacobian).sum(axis=-1)
  assert found.shape == (6, 1)
  assert np.all(size[np.triu_indices(6, 1)] == 0.0)
  assert np.all(size[-1] > 0.0)


def test_dilations_reach_over_the_whole_of_a_classification_task():
  network = classification_snail(ways=5, shots=5)
  reach = 1 + sum(network.layers[1].dilations)
  assert reach >= 5 * 5 + 1


@pytest.mark.slow
def test_a_classification_task_gets_an_output_a_place_and_way():
  _, found = applied(classification_snail(ways=5, shots=5), tokens(26, 7))
  assert found.shape == (26, 5)


def test_attention_has_a_finite_gradient():
  inputs = tokens(3, 2)
  network = CausalAttention(key_size=2, value_size=2)
  params, _ = applied(network, inputs)
  gradient = jax.grad(
    lambda params: jnp.sum(network.apply({'params': params}, inputs) ** 2)
  )(params)
  assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))
