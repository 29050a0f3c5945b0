"""Image classifiers of few-shot learning (Finn 2018, section 4.6.2)."""

from collections.abc import Callable, Sequence

from flax import linen as nn
import jax
from jax import Array
import jax.numpy as jnp

from metajax.core.learner import Params, PyTree
from metajax.core.validation import check_choice, check_count
from metajax.nets.task_batched_convolution import convolve, max_pool

Initialiser = Callable[..., Array]

NORMALISATIONS = ('batch', 'instance', 'none')
_EPSILON = 1e-3


def omniglot_network(
  ways: int, *, filters: int = 64, normalisation: str = 'batch'
) -> 'ConvolutionalClassifier':
  """Returns the classifier of Omniglot: strides of two, and no pooling.

  At 28 x 28 and 5 ways it has 111,749 parameters without the shifts. The
  release draws the head from N(0, 1); as any other layer it learns sooner.

  Args:
    ways: classes, >= 2.
    filters: of each of the four convolutions, >= 1.
    normalisation: as of `Normalisation`.
  """
  return ConvolutionalClassifier(
    ways,
    filters=filters,
    downsampling='stride',
    normalisation=normalisation,
  )


def mini_imagenet_network(
  ways: int, *, filters: int = 32, normalisation: str = 'batch'
) -> 'ConvolutionalClassifier':
  """Returns the classifier of MiniImagenet: max-pooling, and a flat head.

  At 84 x 84 x 3 and 5 ways it has 32,645 parameters without the shifts.

  Args:
    ways: classes, >= 2.
    filters: of each of the four convolutions, >= 1.
    normalisation: as of `Normalisation`.
  """
  return ConvolutionalClassifier(
    ways,
    filters=filters,
    downsampling='pool',
    normalisation=normalisation,
  )


def omniglot_perceptron(
  ways: int, *, normalisation: str = 'batch'
) -> 'NormalisedPerceptron':
  """Returns the classifier of Omniglot without convolutions.

  Args:
    ways: classes, >= 2.
    normalisation: as of `Normalisation`; 'instance' is refused when it is
      called, because a vector has no pixels.
  """
  return NormalisedPerceptron(
    (256, 128, 64, 64), ways, normalisation=normalisation
  )


def all_but_shifts(params: Params) -> PyTree:
  """Says that everything adapts but the shifts of the normalisation.

  Those are meta-learned, and the same in every task; for `maml`'s
  `what_adapts`.
  """
  return jax.tree_util.tree_map_with_path(
    lambda path, _: path[-1].key != 'shift', params
  )


class Normalisation(nn.Module):
  """Normalises every channel and adds a learned shift; no learned scale.

  Call: `inputs [examples, ..., channels] -> the same shape`.

  The statistics are always those of what is given: of the support in an inner
  step, of the query in the outer loss, in training and at meta-test alike.
  With 'batch' a prediction hence depends on the other queries beside it (it
  is transductive); with 'instance' every image is normalised by itself, and
  it does not.

  Attributes:
    kind: 'batch': over examples and pixels; 'instance': over pixels; 'none':
      the shift alone.
  """

  kind: str = 'batch'

  @nn.compact
  def __call__(self, inputs: Array) -> Array:
    check_choice('normalisation', self.kind, NORMALISATIONS)
    shift = self.param('shift', nn.initializers.zeros, inputs.shape[-1:])
    if self.kind == 'none':
      return inputs + jnp.expand_dims(shift, range(inputs.ndim - 1))
    if self.kind == 'instance' and inputs.ndim == 2:
      check_choice('normalisation', self.kind, ('batch', 'none'))
    if self.kind == 'instance':
      normal = jax.vmap(_normalised)(inputs)
    else:
      normal = _normalised(inputs)
    return normal + jnp.expand_dims(shift, range(inputs.ndim - 1))


def _normalised(inputs: Array) -> Array:
  """Gives every channel of `[..., channels]` mean zero and variance one."""
  # One axis to reduce over: on CPU several take longer.
  flat = inputs.reshape(-1, inputs.shape[-1])
  scale = jax.lax.rsqrt(jnp.var(flat, axis=0) + _EPSILON)
  normal = (flat - jnp.mean(flat, axis=0)[None]) * scale[None]
  return normal.reshape(inputs.shape)


class Convolution(nn.Module):
  """A 3 x 3 convolution with a bias.

  Call: `images [examples, height, width, channels] -> [examples, height /
  stride, width / stride, filters]`, rounded up.
  """

  filters: int
  stride: int = 1

  @nn.compact
  def __call__(self, images: Array) -> Array:
    kernel = self.param(
      'kernel',
      nn.initializers.glorot_uniform(),
      (3, 3, images.shape[-1], self.filters),
    )
    bias = self.param('bias', nn.initializers.zeros, (self.filters,))
    convolved = convolve(images, kernel, stride=self.stride)
    return convolved + bias[None, None, None]


class ConvolutionalEmbedding(nn.Module):
  """Four modules of convolution, normalisation and ReLU, then a vector.

  Call: `images [examples, height, width, channels] float32 in [0, 1] ->
  [examples, features] float32`.

  Attributes:
    filters: of each convolution.
    downsampling: 'stride': convolutions with stride 2, and the features are
      the mean over the last map; 'pool': stride 1 and 2 x 2 max-pooling, and
      the features are the last map, flat.
    normalisation: as of `Normalisation`.
    num_layers: modules, each of which halves the image.
  """

  filters: int
  downsampling: str
  normalisation: str = 'batch'
  num_layers: int = 4

  @nn.compact
  def __call__(self, images: Array) -> Array:
    check_count('filters', self.filters)
    check_choice('downsampling', self.downsampling, ('stride', 'pool'))
    pools = self.downsampling == 'pool'
    hidden = images
    for layer in range(self.num_layers):
      hidden = Convolution(
        self.filters, stride=1 if pools else 2, name=f'convolution_{layer}'
      )(hidden)
      hidden = Normalisation(self.normalisation, name=f'normalisation_{layer}')(
        hidden
      )
      hidden = nn.relu(hidden)
      if pools:
        hidden = max_pool(hidden)
    if pools:
      return hidden.reshape(hidden.shape[0], -1)
    return jnp.mean(hidden, axis=(1, 2))


class ConvolutionalClassifier(nn.Module):
  """A convolutional embedding and a linear head.

  Call: `images [examples, height, width, channels] float32 in [0, 1] ->
  [examples, ways] float32`, the logits.

  Attributes:
    ways: classes.
    filters: as of `ConvolutionalEmbedding`, and so are the next two.
    downsampling: 'stride' or 'pool'.
    normalisation: 'batch', 'instance' or 'none'.
    head_init: initialiser of the head's weights; its bias starts at zero.
  """

  ways: int
  filters: int
  downsampling: str
  normalisation: str = 'batch'
  head_init: Initialiser = nn.initializers.glorot_uniform()

  @nn.compact
  def __call__(self, images: Array) -> Array:
    check_count('ways', self.ways, minimum=2)
    features = ConvolutionalEmbedding(
      self.filters, self.downsampling, self.normalisation, name='embedding'
    )(images)
    return nn.Dense(self.ways, kernel_init=self.head_init, name='head')(
      features
    )


class NormalisedPerceptron(nn.Module):
  """A perceptron with normalised hidden layers, of images as vectors.

  Call: `images [examples, ...] float32 in [0, 1] -> [examples, ways]
  float32`, the logits.

  Attributes:
    hidden_sizes: units of each hidden layer.
    ways: classes.
    normalisation: 'batch' or 'none', as of `Normalisation`.
    kernel_init: initialiser of all weights; the biases start at zero.
  """

  hidden_sizes: Sequence[int]
  ways: int
  normalisation: str = 'batch'
  kernel_init: Initialiser = nn.initializers.truncated_normal(0.01)

  @nn.compact
  def __call__(self, images: Array) -> Array:
    check_count('ways', self.ways, minimum=2)
    hidden = images.reshape(images.shape[0], -1)
    for layer, size in enumerate(self.hidden_sizes):
      hidden = nn.Dense(
        size, kernel_init=self.kernel_init, name=f'dense_{layer}'
      )(hidden)
      hidden = Normalisation(self.normalisation, name=f'normalisation_{layer}')(
        hidden
      )
      hidden = nn.relu(hidden)
    return nn.Dense(self.ways, kernel_init=self.kernel_init, name='head')(
      hidden
    )
