"""Stacked LSTMs against NumPy, and step by step against one scan."""

import jax
import jax.numpy as jnp
import numpy as np

from metajax.nets.recurrent import StackedLstm

NETWORK = StackedLstm((4, 3), 2)


def network_params(input_size):
  carry = NETWORK.first_carry()
  inputs = jnp.zeros((input_size,))
  params = NETWORK.init(jax.random.key(0), carry, inputs)['params']
  # Biases start at zero, where a wrong one would not show.
  return jax.tree.map(
    lambda leaf: (
      leaf + 0.1 * jnp.sin(jnp.arange(leaf.size)).reshape(leaf.shape)
    ),
    params,
  )


def sigma(x):
  return 1.0 / (1.0 + np.exp(-x))


def steps_by_hand(params, carry, inputs):
  params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
  carry = [[np.asarray(leaf, np.float64) for leaf in layer] for layer in carry]
  outputs = []
  for hidden in np.asarray(inputs, np.float64):
    for number, layer in enumerate(carry):
      weights, (c, h) = params[f'OptimizedLSTMCell_{number}'], layer
      i, f, g, o = (
        hidden @ weights[f'i{gate}']['kernel']
        + h @ weights[f'h{gate}']['kernel']
        + weights[f'h{gate}']['bias']
        for gate in 'ifgo'
      )
      c = sigma(f) * c + sigma(i) * np.tanh(g)
      hidden = sigma(o) * np.tanh(c)
      layer[:] = c, hidden
    output = params['Dense_0']
    outputs.append(hidden @ output['kernel'] + output['bias'])
  return carry, np.stack(outputs)


def test_a_stack_computes_what_numpy_computes():
  params = network_params(5)
  inputs = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
  carry = jax.tree.map(lambda leaf: leaf + 0.3, NETWORK.first_carry())
  got = NETWORK.unroll(params, carry, inputs)
  expected = steps_by_hand(params, carry, inputs)
  np.testing.assert_allclose(got[1], expected[1], rtol=1e-5, atol=1e-6)
  for layer, other in zip(got[0], expected[0], strict=True):
    for a, b in zip(layer, other, strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_one_scan_is_the_steps_one_after_another():
  params = network_params(5)
  inputs = np.random.default_rng(1).normal(size=(7, 3, 5)).astype(np.float32)
  carry, outputs = NETWORK.first_carry(3), []
  for step in inputs:
    carry, output = NETWORK.apply({'params': params}, carry, step)
    outputs.append(output)
  last, together = NETWORK.unroll(params, NETWORK.first_carry(3), inputs)
  np.testing.assert_allclose(together, jnp.stack(outputs), rtol=1e-5, atol=1e-6)
  for a, b in zip(jax.tree.leaves(last), jax.tree.leaves(carry), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_sequences_of_a_batch_do_not_touch_each_other():
  params = network_params(5)
  inputs = np.random.default_rng(2).normal(size=(4, 2, 5)).astype(np.float32)
  _, outputs = NETWORK.unroll(params, NETWORK.first_carry(2), inputs)
  for i in range(2):
    _, alone = NETWORK.unroll(params, NETWORK.first_carry(), inputs[:, i])
    np.testing.assert_allclose(outputs[:, i], alone, rtol=1e-5, atol=1e-6)


def test_a_hidden_state_begins_at_zero_with_the_sizes_of_the_layers():
  carry = NETWORK.first_carry(7)
  assert [cell.shape for cell, _ in carry] == [(7, 4), (7, 3)]
  assert [output.shape for _, output in carry] == [(7, 4), (7, 3)]
  assert all((leaf == 0.0).all() for leaf in jax.tree.leaves(carry))
