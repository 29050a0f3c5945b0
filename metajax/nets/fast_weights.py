"""Networks with fast weights beside the slow ones, and what generates them.

Source: Munkhdalai and Yu, "Meta Networks" (2017). Slow weights are learned
over many tasks. Fast weights are made anew for a task, or for a single input,
out of gradients of a loss on the task's examples.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from flax import linen as nn
import jax
from jax import Array
from jax.flatten_util import ravel_pytree
import jax.numpy as jnp

from metajax.core.learner import Params
from metajax.core.validation import check_choice, check_count, check_positive
from metajax.nets.task_batched_convolution import convolve
from metajax.nets.vision import Convolution, Normalisation

# Of each layer that has fast weights its kernel: one for all inputs, or with
# an axis in front one for every input.
FastWeights = Mapping[str, Array]

# The last two layers of an `AugmentedClassifier`.
LINEAR, HEAD = 'linear', 'head'

_STRIDE = 2
_SMALLEST_SQUARE = 1e-8  # of a vector's norm


class Answers(NamedTuple):
  """What an `AugmentedClassifier` says of its inputs.

  Attributes:
    features: [examples, features] float32, before the ReLU.
    logits: [examples, ways] float32.
  """

  features: Array
  logits: Array


class AugmentedClassifier(nn.Module):
  """The classifier of Omniglot, any of whose layers may have fast weights.

  Convolutions with strides of two, normalised; a linear layer; a softmax
  layer. Without fast weights, all but the last are `omniglot_network`, and
  what follows is a ReLU and a linear head. With fast weights W* beside the
  slow ones W a layer is augmented (Munkhdalai and Yu 2017):

    relu(W x + b) + relu(W* x)         hidden layers, normalised before relu
    W x + b + W* x                     logits, and the features as a key

  Biases and shifts are slow alone: fast weights of zero change nothing.

  Call: `(images [examples, height, width, channels] float32 in [0, 1],
  fast) -> Answers`, fast a mapping from names in `layers` to kernels.

  Attributes:
    ways: classes.
    filters: of each convolution.
    features: units of the linear layer.
    normalisation: as of `Normalisation`.
    num_convolutions: each of which halves the image.
  """

  ways: int
  filters: int = 64
  features: int = 64
  normalisation: str = 'batch'
  num_convolutions: int = 4

  @property
  def layers(self) -> tuple[str, ...]:
    """Names of the layers that may have fast weights, in their order."""
    convolutions = (f'convolution_{i}' for i in range(self.num_convolutions))
    return (*convolutions, LINEAR, HEAD)

  @nn.compact
  def __call__(self, images: Array, fast: FastWeights | None = None) -> Answers:
    check_count('ways', self.ways, minimum=2)
    check_count('filters', self.filters)
    check_count('features', self.features)
    fast = {} if fast is None else fast
    for name in fast:
      check_choice('fast', name, self.layers)
    hidden = images
    for layer in range(self.num_convolutions):
      hidden = self._convolve(hidden, layer, fast.get(f'convolution_{layer}'))
    hidden = jnp.mean(hidden, axis=(1, 2))
    glorot = nn.initializers.glorot_uniform()
    slow = nn.Dense(self.features, kernel_init=glorot, name=LINEAR)(hidden)
    features, activated = slow, nn.relu(slow)
    if LINEAR in fast:
      quick = _multiply(hidden, fast[LINEAR])
      features, activated = features + quick, activated + nn.relu(quick)
    logits = nn.Dense(self.ways, kernel_init=glorot, name=HEAD)(activated)
    if HEAD in fast:
      logits += _multiply(activated, fast[HEAD])
    return Answers(features, logits)

  def _convolve(self, images, layer, fast):
    normalise = Normalisation(self.normalisation, name=f'normalisation_{layer}')
    slow = Convolution(
      self.filters, stride=_STRIDE, name=f'convolution_{layer}'
    )(images)
    activated = nn.relu(normalise(slow))
    if fast is None:
      return activated
    without_shift = {'params': {'shift': jnp.zeros((self.filters,))}}
    quick = Normalisation(self.normalisation, parent=None).apply(
      without_shift, _convolve_with(images, fast)
    )
    assert isinstance(quick, Array)
    return activated + nn.relu(quick)


def kernels(params: Params, layers: Sequence[str]) -> FastWeights:
  """Returns the slow kernels of some layers, which fast ones are shaped like.

  Args:
    params: those of an `AugmentedClassifier`.
    layers: names of layers.
  """
  return {name: params[name]['kernel'] for name in layers}


def with_kernels(params: Params, replacements: FastWeights) -> Params:
  """Returns the parameters with other slow kernels in some layers.

  Args:
    params: those of an `AugmentedClassifier`.
    replacements: name of the layer to its new kernel.
  """
  replaced = {
    name: {**params[name], 'kernel': kernel}
    for name, kernel in replacements.items()
  }
  return {**params, **replaced}


def log_and_sign(gradients: Array, *, p: float = 7.0) -> Array:
  """Makes numbers of many magnitudes fit for a network.

    (log|g| / p, sign g)   if |g| >= e^-p,   else (-1, e^p g)

  (Andrychowicz et al. 2016, appendix A; Munkhdalai and Yu 2017.)

  Args:
    gradients: [...] float.
    p: magnitudes below e^-p count as small, > 0.

  Returns:
    [..., 2] float.

  Raises:
    InputError: if p is not positive.
  """
  check_positive('p', p)
  size = jnp.abs(gradients)
  is_small = size < jnp.exp(-p)
  # The logarithm of a small one is not taken, so that it has no gradient.
  log = jnp.log(jnp.where(is_small, 1.0, size)) / p
  return jnp.stack(
    [
      jnp.where(is_small, -1.0, log),
      jnp.where(is_small, jnp.exp(p) * gradients, jnp.sign(gradients)),
    ],
    axis=-1,
  )


def coordinates(weights: FastWeights) -> Array:
  """Returns the kernels of every example as one vector.

  Args:
    weights: kernels with an axis of examples in front.

  Returns:
    [examples, coordinates].
  """
  return jax.vmap(lambda one: ravel_pytree(dict(one))[0])(weights)


def from_coordinates(vectors: Array, like: FastWeights) -> FastWeights:
  """Returns the kernels that `coordinates` made a vector of.

  Args:
    vectors: [coordinates], or with an axis of examples in front.
    like: kernels of the same names and shapes, without that axis.
  """
  unravel = ravel_pytree(dict(like))[1]
  return unravel(vectors) if vectors.ndim == 1 else jax.vmap(unravel)(vectors)


def cosine_attention(questions: Array, keys: Array) -> Array:
  """Returns how much each question heeds each key.

    a = softmax_i(cos(r, r_i))       (Munkhdalai and Yu 2017)

  Args:
    questions: [questions, features] float.
    keys: [keys, features] float.

  Returns:
    [questions, keys] float, > 0; each row adds up to 1.
  """
  return jax.nn.softmax(_to_unit_length(questions) @ _to_unit_length(keys).T)


def _to_unit_length(vectors):
  squares = jnp.sum(jnp.square(vectors), axis=-1, keepdims=True)
  return vectors * jax.lax.rsqrt(squares + _SMALLEST_SQUARE)


def _multiply(inputs: Array, kernel: Array) -> Array:
  if kernel.ndim == 2:
    return inputs @ kernel
  return jnp.einsum('ei,eio->eo', inputs, kernel)


def _convolve_with(images: Array, kernel: Array) -> Array:
  if kernel.ndim == 4:
    return convolve(images, kernel, stride=_STRIDE)
  return jax.vmap(lambda x, w: convolve(x[None], w, stride=_STRIDE)[0])(
    images, kernel
  )
