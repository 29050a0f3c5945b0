"""Convolutions agree with XLA's own, and so do two orders of gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.nets import task_batched_convolution
from metajax.nets.task_batched_convolution import convolve, max_pool

FORMS = {
  'strided': (2, 9, 10, 2),
  'plain': (2, 6, 7, 1),
  'image by image': (2, 6, 7, 1),
}


@pytest.fixture(params=FORMS)
def case(request, monkeypatch):
  """Images, a kernel and a stride, and the form that they are to take."""
  if request.param == 'image by image':
    monkeypatch.setattr(task_batched_convolution, '_MOST_PIXELS_AT_ONCE', 1)
  examples, height, width, stride = FORMS[request.param]
  generator = np.random.default_rng(0)
  with jax.enable_x64(True):
    yield (
      jnp.asarray(generator.normal(size=(examples, height, width, 2))),
      jnp.asarray(generator.normal(size=(3, 3, 2, 4))),
      stride,
    )


def by_xla(images, kernel, *, stride):
  return jax.lax.conv_general_dilated(
    images,
    kernel,
    (stride, stride),
    'SAME',
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )


def inner_step(convolution, images, kernel, stride):
  """A loss after a gradient step: its gradient needs second derivatives."""

  def inner_loss(kernel):
    return jnp.mean(jnp.sin(convolution(images, kernel, stride=stride)))

  adapted = kernel - 0.5 * jax.grad(inner_loss)(kernel)
  return jnp.mean(jnp.cos(convolution(images, adapted, stride=stride)))


def test_outputs_are_those_of_xla(case):
  images, kernel, stride = case
  np.testing.assert_allclose(
    jax.jit(convolve, static_argnames='stride')(images, kernel, stride=stride),
    by_xla(images, kernel, stride=stride),
    atol=1e-12,
  )


def test_two_orders_of_gradients_are_those_of_xla(case):
  images, kernel, stride = case
  ours = jax.jit(
    jax.grad(lambda *pair: inner_step(convolve, *pair, stride), (0, 1))
  )(images, kernel)
  expected = jax.jit(
    jax.grad(lambda *pair: inner_step(by_xla, *pair, stride), (0, 1))
  )(images, kernel)
  for found, wanted in zip(ours, expected, strict=True):
    np.testing.assert_allclose(found, wanted, atol=1e-12)


def test_tasks_and_seeds_have_weights_of_their_own(case):
  images, kernel, stride = case
  scales = jnp.array([[1.0, 2.0], [3.0, 4.0]])

  @jax.jit
  @functools.partial(jax.grad, argnums=(0, 1))
  def gradient(images, kernel):
    return inner_step(convolve, images, kernel, stride)

  batched = jax.jit(
    jax.vmap(jax.vmap(lambda scale: gradient(images, scale * kernel)))
  )(scales)
  for seed in range(2):
    for task in range(2):
      alone = gradient(images, scales[seed, task] * kernel)
      for found, wanted in zip(batched, alone, strict=True):
        np.testing.assert_allclose(found[seed, task], wanted, atol=1e-12)


@pytest.mark.parametrize('in_axes', [(0, 0), (0, None), (None, 0)])
def test_tasks_may_share_images_or_weights(case, in_axes):
  images, kernel, stride = case
  scales = jnp.array([1.0, 2.0, 3.0])
  pair = [
    leaf if axis is None else leaf[None] * scales.reshape(3, 1, 1, 1, 1)
    for leaf, axis in zip((images, kernel), in_axes, strict=True)
  ]
  gradient = jax.grad(
    lambda *pair: inner_step(convolve, *pair, stride), argnums=(0, 1)
  )
  batched = jax.jit(jax.vmap(gradient, in_axes))(*pair)
  for task in range(3):
    alone = jax.jit(gradient)(
      *(
        leaf if axis is None else leaf[task]
        for leaf, axis in zip(pair, in_axes, strict=True)
      )
    )
    for found, wanted in zip(batched, alone, strict=True):
      np.testing.assert_allclose(found[task], wanted, atol=1e-12)


def test_pooling_takes_the_maximum_and_drops_odd_edges():
  images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 7, 3)))
  pooled = max_pool(images)
  assert pooled.shape == (2, 2, 3, 3)
  for row in range(2):
    for column in range(3):
      np.testing.assert_array_equal(
        pooled[:, row, column],
        np.max(
          images[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2],
          axis=(1, 2),
        ),
      )


def test_pooling_has_the_right_second_derivatives_under_jit():
  with jax.enable_x64(True):
    generator = np.random.default_rng(1)
    images = jnp.asarray(generator.normal(size=(2, 12, 12, 3)))
    kernels = [
      jnp.asarray(generator.normal(size=(3, 3, 3, 4))),
      jnp.asarray(generator.normal(size=(3, 3, 4, 4))),
    ]

    def network(kernels):
      hidden = images
      for kernel in kernels:
        hidden = max_pool(jax.nn.relu(convolve(hidden, kernel)))
      return jnp.mean(jnp.sin(hidden))

    def outer(kernels):
      adapted = jax.tree.map(
        lambda kernel, slope: kernel - 0.3 * slope,
        kernels,
        jax.grad(network)(kernels),
      )
      return network(adapted)

    compiled = jax.jit(jax.grad(outer))(kernels)
    step = 1e-6
    for layer in range(2):
      direction = jnp.asarray(generator.normal(size=kernels[layer].shape))

      def along(distance, layer=layer, direction=direction):
        moved = list(kernels)
        moved[layer] = kernels[layer] + distance * direction
        return outer(moved)

      difference = (along(step) - along(-step)) / (2 * step)
      np.testing.assert_allclose(
        jnp.sum(compiled[layer] * direction), difference, rtol=1e-6
      )
