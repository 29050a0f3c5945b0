"""The classifiers are the sheet's, and differentiable twice under jit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.core.validation import InputError
from metajax.learners.task_losses import cross_entropy
from metajax.nets.vision import (
  Normalisation,
  all_but_shifts,
  mini_imagenet_network,
  omniglot_network,
  omniglot_perceptron,
)


def init(network, shape):
  return jax.jit(network.init)(jax.random.key(0), jnp.zeros(shape))['params']


def num_parameters(params):
  """Counts all but the shifts."""
  counted = jax.tree.map(
    lambda leaf, adapts: leaf.size if adapts else 0,
    params,
    all_but_shifts(params),
  )
  return sum(jax.tree.leaves(counted))


@pytest.mark.parametrize(
  ('network', 'shape', 'expected'),
  [
    (omniglot_network(5), (5, 28, 28, 1), 111_749),
    (mini_imagenet_network(5), (5, 84, 84, 3), 32_645),
    # 784 x 256 + 256 x 128 + 128 x 64 + 64 x 64 + 64 x 5, and the biases.
    (omniglot_perceptron(5), (5, 28, 28, 1), 246_597),
  ],
  ids=['omniglot', 'mini_imagenet', 'perceptron'],
)
def test_sizes_are_the_papers(network, shape, expected):
  logits, variables = jax.eval_shape(
    lambda: network.init_with_output(jax.random.key(0), jnp.zeros(shape))
  )
  assert num_parameters(variables['params']) == expected
  assert logits.shape == (5, 5)


def test_shifts_are_the_only_leaves_that_do_not_adapt():
  adapts = all_but_shifts(init(omniglot_network(5, filters=2), (5, 8, 8, 1)))
  flat = {
    jax.tree_util.keystr(path): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(adapts)
  }
  assert sum(not leaf for leaf in flat.values()) == 4
  assert all(leaf == ('shift' not in name) for name, leaf in flat.items())


def test_batch_statistics_are_those_of_the_batch():
  inputs = jnp.asarray(np.random.default_rng(0).normal(3, 2, (6, 4, 5, 2)))
  layer = Normalisation('batch')
  shift = jnp.array([1.0, -1.0])
  outputs = layer.apply({'params': {'shift': shift}}, inputs)
  flat = np.asarray(inputs).reshape(-1, 2)
  expected = (flat - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-3) + np.asarray(
    shift
  )
  np.testing.assert_allclose(outputs.reshape(-1, 2), expected, rtol=1e-4)


def seen_together_and_with_fewer(kind):
  """Logits of an image among six, and among three."""
  network = omniglot_network(5, filters=4, normalisation=kind)
  images = jax.random.uniform(jax.random.key(1), (6, 28, 28, 1))
  variables = {'params': init(network, images.shape)}
  apply = jax.jit(network.apply)
  return apply(variables, images)[0], apply(variables, images[:3])[0]


@pytest.mark.parametrize('kind', ['instance', 'none'])
def test_without_batch_statistics_queries_do_not_see_each_other(kind):
  together, with_fewer = seen_together_and_with_fewer(kind)
  np.testing.assert_allclose(together, with_fewer, rtol=1e-4, atol=1e-4)


def test_with_batch_statistics_they_do():
  together, with_fewer = seen_together_and_with_fewer('batch')
  assert jnp.max(jnp.abs(together - with_fewer)) > 1e-2


def test_unknown_normalisation_is_named():
  with pytest.raises(InputError, match="normalisation.*'layer'"):
    init(omniglot_network(5, normalisation='layer'), (5, 28, 28, 1))
  with pytest.raises(InputError, match="normalisation.*'instance'"):
    init(omniglot_perceptron(5, normalisation='instance'), (5, 28, 28, 1))


@pytest.mark.parametrize(
  ('network', 'shape'),
  [
    (omniglot_network(3, filters=3), (6, 12, 12, 1)),
    (mini_imagenet_network(3, filters=3), (3, 36, 36, 2)),
    (omniglot_perceptron(3), (6, 5, 5, 1)),
  ],
  ids=['omniglot', 'mini_imagenet', 'perceptron'],
)
def test_meta_gradients_agree_with_differences(network, shape):
  with jax.enable_x64(True):
    generator = np.random.default_rng(0)
    images = jnp.asarray(generator.uniform(size=(2, *shape)))
    labels = jnp.arange(shape[0]) % 3
    params = jax.tree.map(
      lambda leaf: jnp.asarray(generator.normal(0, 0.3, leaf.shape)),
      init(network, shape),
    )

    def loss(params, images):
      return cross_entropy(network.apply({'params': params}, images), labels)

    @jax.jit
    @jax.value_and_grad
    def outer(params):
      slope = jax.grad(loss)(params, images[0])
      adapted = jax.tree.map(lambda p, s: p - 0.05 * s, params, slope)
      return loss(adapted, images[1])

    direction = jax.tree.map(
      lambda leaf: jnp.asarray(generator.normal(size=leaf.shape)), params
    )
    step = 1e-6

    def moved(distance):
      return jax.tree.map(lambda p, d: p + distance * d, params, direction)

    difference = (outer(moved(step))[0] - outer(moved(-step))[0]) / (2 * step)
    products = jax.tree.map(
      lambda g, d: jnp.sum(g * d), outer(params)[1], direction
    )
    np.testing.assert_allclose(
      sum(jax.tree.leaves(products)), difference, rtol=1e-5
    )
