"""Fast weights add to the slow ones, and are read from gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.core.validation import InputError
from metajax.nets.fast_weights import (
  HEAD,
  LINEAR,
  AugmentedClassifier,
  coordinates,
  cosine_attention,
  from_coordinates,
  kernels,
  log_and_sign,
  with_kernels,
)
from metajax.nets.vision import omniglot_network

NETWORK = AugmentedClassifier(3, filters=2, features=4, num_convolutions=2)
LAYERS = NETWORK.layers
IMAGES = jax.random.uniform(jax.random.key(0), (5, 8, 8, 1))
PARAMS = jax.jit(NETWORK.init)(jax.random.key(1), IMAGES)['params']


def answer(fast=None, params=PARAMS):
  return jax.jit(NETWORK.apply)({'params': params}, IMAGES, fast)


def random_kernels(layers, *, examples=()):
  """Returns fast weights of all sizes, one of them for each example."""
  keys = jax.random.split(jax.random.key(2), len(layers))
  return {
    name: jax.random.normal(key, (*examples, *kernel.shape))
    for key, (name, kernel) in zip(
      keys, kernels(PARAMS, layers).items(), strict=True
    )
  }


def test_without_fast_weights_it_is_the_network_of_omniglot():
  """The one that MAML and SNAIL have, under a ReLU and a head."""
  network = AugmentedClassifier(3, filters=2, features=4)
  params = dict(network.init(jax.random.key(1), IMAGES)['params'])
  found = network.apply({'params': params}, IMAGES)
  head, linear = params.pop(HEAD), params.pop(LINEAR)
  features = omniglot_network(4, filters=2).apply(
    {'params': {'embedding': params, 'head': linear}}, IMAGES
  )
  np.testing.assert_allclose(found.features, features, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(
    found.logits,
    np.maximum(features, 0.0) @ head['kernel'] + head['bias'][None],
    rtol=1e-5,
    atol=1e-6,
  )


def test_fast_weights_of_zero_change_nothing():
  shifted = jax.tree.map(lambda leaf: leaf + 0.3, PARAMS)
  zeros = jax.tree.map(jnp.zeros_like, random_kernels(LAYERS))
  found, expected = answer(zeros, shifted), answer(params=shifted)
  np.testing.assert_allclose(found.logits, expected.logits, rtol=1e-5)
  np.testing.assert_allclose(found.features, expected.features, rtol=1e-5)


def test_slow_and_fast_paths_of_the_last_layers_are_added():
  """Against the equation, in NumPy."""
  fast = random_kernels((LINEAR, HEAD))
  linear, head = PARAMS[LINEAR], PARAMS[HEAD]
  # The linear layer's inputs: its answers where its weights are the identity.
  narrow = AugmentedClassifier(3, filters=2, features=2, num_convolutions=2)
  through = {
    LINEAR: {'kernel': jnp.eye(2), 'bias': jnp.zeros(2)},
    HEAD: {'kernel': jnp.zeros((2, 3)), 'bias': jnp.zeros(3)},
  }
  inputs = narrow.apply({'params': {**PARAMS, **through}}, IMAGES).features
  slow = inputs @ linear['kernel'] + np.asarray(linear['bias'])[None]
  quick = inputs @ fast[LINEAR]
  hidden = np.maximum(slow, 0.0) + np.maximum(quick, 0.0)
  found = answer(fast)
  np.testing.assert_allclose(found.features, slow + quick, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(
    found.logits,
    hidden @ (head['kernel'] + fast[HEAD]) + np.asarray(head['bias'])[None],
    rtol=1e-5,
    atol=1e-6,
  )


def test_a_convolution_adds_its_fast_path_after_the_relu():
  """Fast weights that equal the slow ones double what the layer says."""
  name = 'convolution_1'
  found = answer(kernels(PARAMS, (name,)))
  # Doubled is the layer where the linear one's weights are.
  linear = PARAMS[LINEAR]
  doubled = {**PARAMS, LINEAR: {**linear, 'kernel': 2.0 * linear['kernel']}}
  np.testing.assert_allclose(
    found.features, answer(params=doubled).features, rtol=1e-4, atol=1e-5
  )


@pytest.mark.parametrize('layers', [(LINEAR, HEAD), ('convolution_1',)])
def test_every_input_may_have_weights_of_its_own(layers):
  """Of those whose weights are another's, each is answered as by it."""
  own = random_kernels(layers, examples=(5,))
  network = AugmentedClassifier(
    3, filters=2, features=4, num_convolutions=2, normalisation='instance'
  )

  @jax.jit
  def apply(images, fast):
    return network.apply({'params': PARAMS}, images, fast).logits

  together = apply(IMAGES, own)
  for index in range(5):
    alone = apply(
      IMAGES[index : index + 1], jax.tree.map(lambda w, i=index: w[i], own)
    )
    np.testing.assert_allclose(together[index], alone[0], rtol=1e-4, atol=1e-5)


def test_an_unknown_layer_is_refused():
  message = "fast: .*'lineal'; did you mean linear"
  with pytest.raises(InputError, match=message):
    answer({'lineal': jnp.zeros((2, 4))})


def test_only_the_named_kernels_are_replaced():
  fast = random_kernels((LINEAR,))
  replaced = with_kernels(PARAMS, fast)
  assert replaced[LINEAR]['kernel'] is fast[LINEAR]
  assert replaced[LINEAR]['bias'] is PARAMS[LINEAR]['bias']
  assert replaced[HEAD] is PARAMS[HEAD]


def test_log_and_sign_by_hand():
  gradients = jnp.array([np.e**-3.5, -(np.e**-7.0), -1.0, np.e**7.0])
  np.testing.assert_allclose(
    log_and_sign(gradients * 1.00001),
    [[-0.5, 1.0], [-1.0, -1.0], [0.0, -1.0], [1.0, 1.0]],
    atol=1e-4,
  )
  small = jnp.array([0.0, 0.25 * np.e**-7.0, -0.5 * np.e**-7.0])
  np.testing.assert_allclose(
    log_and_sign(small), [[-1.0, 0.0], [-1.0, 0.25], [-1.0, -0.5]], rtol=1e-5
  )
  with pytest.raises(InputError, match='p: expected'):
    log_and_sign(small, p=0.0)


def test_log_and_sign_has_finite_slopes_everywhere():
  slopes = jax.vmap(jax.jacfwd(log_and_sign))(jnp.array([0.0, 1e-30, 0.5]))
  np.testing.assert_allclose(
    slopes, [[0.0, np.e**7], [0.0, np.e**7], [2.0 / 7.0, 0.0]], rtol=1e-5
  )


def test_coordinates_come_back():
  own = random_kernels(LAYERS, examples=(5,))
  like = kernels(PARAMS, LAYERS)
  vectors = coordinates(own)
  assert vectors.shape == (5, sum(kernel.size for kernel in like.values()))
  for found, first in (
    (from_coordinates(vectors, like), own),
    (
      from_coordinates(vectors[1], like),
      {name: w[1] for name, w in own.items()},
    ),
  ):
    for name in LAYERS:
      np.testing.assert_array_equal(found[name], first[name])


def test_attention_by_hand():
  """At angles of 90 and 0 degrees, whatever the lengths."""
  keys = jnp.array([[5.0, 0.0], [0.0, 0.1]])
  found = cosine_attention(jnp.array([[0.0, 3.0]]), keys)
  np.testing.assert_allclose(
    found, [[1.0 / (1.0 + np.e), np.e / (1.0 + np.e)]], rtol=1e-5
  )
  slopes = jax.grad(lambda x: cosine_attention(x, x)[0, 0])(jnp.zeros((2, 2)))
  assert np.all(np.isfinite(slopes))
