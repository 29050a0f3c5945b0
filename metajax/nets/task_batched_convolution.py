"""3 x 3 convolution and pooling that stay fast when every task has weights.

Inner loops convolve with weights of their own in every task. On CPU, XLA runs
such a convolution 50 to 100 times slower than the same arithmetic as matrix
products of patches. With stride 1 it does well where one kernel serves all
images, as when tasks are worked on in turn; with stride 2, and where the
gradient of a kernel is sought, never. Elsewhere the vendor's convolution
serves. This file is the one place that knows. All forms may be differentiated
twice, backwards.
"""

import jax
from jax import Array
from jax.custom_batching import custom_vmap
import jax.numpy as jnp

# Patches of all images at once, where those of an image stay in a core's
# cache; above it, image by image.
_MOST_PIXELS_AT_ONCE = 32 * 32


def convolve(images: Array, kernel: Array, *, stride: int = 1) -> Array:
  """Convolves with a 3 x 3 kernel and zeros around the image ('SAME').

  Args:
    images: [examples, height, width, channels] float.
    kernel: [3, 3, channels, filters] float.
    stride: pixels between outputs, 1 or 2.

  Returns:
    [examples, ceil(height / stride), ceil(width / stride), filters].
  """
  if jax.default_backend() != 'cpu':
    return _convolve_by_xla(images, kernel, stride)
  if stride == 1:
    return _convolve_plainly(images, kernel)
  return _convolve_at_once(images, kernel, stride)


def max_pool(images: Array) -> Array:
  """Takes the maximum of 2 x 2 pixels; an odd last row or column is dropped.

  Args:
    images: [examples, height, width, channels] float.

  Returns:
    [examples, height // 2, width // 2, channels].
  """
  height, width = (2 * (size // 2) for size in images.shape[1:3])
  # Not a maximum over reshaped axes: with JAX 0.10 on CPU the second
  # derivative of that is wrong under jit.
  corners = [
    images[:, row:height:2, column:width:2]
    for row in (0, 1)
    for column in (0, 1)
  ]
  top = jnp.maximum(corners[0], corners[1])
  return jnp.maximum(top, jnp.maximum(corners[2], corners[3]))


def _convolve_by_xla(images: Array, kernel: Array, stride: int = 1) -> Array:
  return jax.lax.conv_general_dilated(
    images,
    kernel,
    (stride, stride),
    'SAME',
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )


def _patches(images: Array, stride: int = 1) -> Array:
  """Returns `[examples, rows, columns, 9 * channels]`, the neighbourhoods."""
  _, height, width, _ = images.shape
  before, after = zip(
    *(_padding(size, stride) for size in (height, width)), strict=True
  )
  padded = jnp.pad(
    images,
    ((0, 0), (before[0], after[0]), (before[1], after[1]), (0, 0)),
  )
  rows, columns = -(-height // stride), -(-width // stride)
  return jnp.concatenate(
    [
      padded[
        :,
        row : row + stride * (rows - 1) + 1 : stride,
        column : column + stride * (columns - 1) + 1 : stride,
      ]
      for row in range(3)
      for column in range(3)
    ],
    axis=-1,
  )


def _as_matrix(kernel: Array) -> Array:
  return kernel.reshape(-1, kernel.shape[-1])


def _padding(size: int, stride: int) -> tuple[int, int]:
  total = max(0, (-(-size // stride) - 1) * stride + 3 - size)
  return total // 2, total - total // 2


def _convolve_at_once(images: Array, kernel: Array, stride: int = 1) -> Array:
  patches = _patches(images, stride)
  # As one matrix: a product with more axes takes half as long again.
  product = patches.reshape(-1, patches.shape[-1]) @ _as_matrix(kernel)
  return product.reshape(*patches.shape[:-1], -1)


@jax.custom_vjp
def _convolve_plainly(images: Array, kernel: Array) -> Array:
  """Convolves with stride 1.

  Such a convolution and the gradient of its kernel are bilinear, and each
  one's gradients are the two again: a family that is closed, of which nothing
  but the arguments need be kept.
  """
  return _convolve_by_task(images, kernel)


@custom_vmap
def _convolve_by_task(images: Array, kernel: Array) -> Array:
  return _convolve_by_xla(images, kernel)


@_convolve_by_task.def_vmap
def _convolve_tasks(num_tasks, are_mapped, images, kernel):
  """Where tasks share the kernel, as one batch; else as matrix products."""
  images_differ, kernels_differ = are_mapped
  if kernels_differ:
    in_axes = (0 if images_differ else None, 0)
    return jax.vmap(_convolve_by_matrices, in_axes)(images, kernel), True
  outputs = _convolve_by_task(images.reshape(-1, *images.shape[2:]), kernel)
  return outputs.reshape(num_tasks, -1, *outputs.shape[1:]), True


def _convolve_by_matrices(images: Array, kernel: Array) -> Array:
  _, height, width, _ = images.shape
  if height * width <= _MOST_PIXELS_AT_ONCE:
    return _convolve_at_once(images, kernel)
  return jax.lax.map(
    lambda image: _convolve_at_once(image[None], kernel)[0], images
  )


@jax.custom_vjp
def _correlate(images: Array, outputs: Array) -> Array:
  """Returns the `[3, 3, channels, filters]` gradient of the kernel."""
  channels, filters = images.shape[-1], outputs.shape[-1]

  def add(total, pair):
    image, output = pair
    patches = _patches(image[None]).reshape(-1, 9 * channels)
    return total + patches.T @ output.reshape(-1, filters), None

  start = jnp.zeros((9 * channels, filters), images.dtype)
  total, _ = jax.lax.scan(add, start, (images, outputs))
  return total.reshape(3, 3, channels, filters)


_convolve_plainly.defvjp(
  lambda images, kernel: (_convolve_plainly(images, kernel), (images, kernel)),
  lambda kept, gradient: (
    _convolve_plainly(gradient, _turned(kept[1])),
    _correlate(kept[0], gradient),
  ),
)
_correlate.defvjp(
  lambda images, outputs: (_correlate(images, outputs), (images, outputs)),
  lambda kept, gradient: (
    _convolve_plainly(kept[1], _turned(gradient)),
    _convolve_plainly(kept[0], gradient),
  ),
)


def _turned(kernel: Array) -> Array:
  """Returns the kernel that carries gradients from outputs back to inputs."""
  return kernel[::-1, ::-1].swapaxes(2, 3)
