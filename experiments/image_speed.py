"""How fast MAML on images is beside the same mathematics written by hand.

Both sides take Adam's step on the mean loss of the same tasks, one task after
another. By hand, nothing of metajax computes: the convolutions are the
fastest that were found for one core, the layers plain functions.
"""

from collections.abc import Callable
import functools
import math
from typing import Any, NamedTuple

import jax
from jax import Array
import jax.numpy as jnp
import optax

from experiments.timing import time_in_turn
from metajax.core.compilation import compile_hot
from metajax.core.learner import Episode, Examples, TaskFamily
from metajax.core.meta_training import MetaTrainState, meta_train
from metajax.learners.maml import maml
from metajax.learners.task_losses import cross_entropy
from metajax.nets.vision import (
  all_but_shifts,
  mini_imagenet_network,
  omniglot_network,
)

_MIB = 2**20
_NUM_EPISODES = 16
_NUM_LAYERS = 4
_EPSILON = 1e-3
_OUTER_LR = 1e-3


class Workload(NamedTuple):
  """A meta-step to be timed.

  Attributes:
    shape: height, width and channels of an image.
    ways: classes of a task.
    query_shots: query images of a class; there is one support image.
    inner_lr: alpha.
    num_inner_steps: gradient steps.
    meta_batch_size: tasks of a meta-step.
    pools: whether the network pools, as MiniImagenet's, or strides.
  """

  shape: tuple[int, int, int]
  ways: int
  query_shots: int
  inner_lr: float
  num_inner_steps: int
  meta_batch_size: int
  pools: bool = False


_OMNIGLOT = Workload((28, 28, 1), 5, 1, 0.4, 1, 32)
WORKLOADS = {
  'Omniglot, 5-way, 1 step, 32 tasks': _OMNIGLOT,
  'Omniglot, 20-way, 5 steps, 16 tasks': Workload(
    (28, 28, 1), 20, 1, 0.1, 5, 16
  ),
  'MiniImagenet, 5-way, 5 steps, 4 tasks': Workload(
    (84, 84, 3), 5, 15, 0.01, 5, 4, pools=True
  ),
}


def image_steps(rounds: int) -> None:
  """Prints the time of a meta-step of each workload, and the ratio.

  Args:
    rounds: timed rounds of each side.
  """
  for name, workload in WORKLOADS.items():
    print(f'  {name}')
    data = _episodes(workload)
    state = _initial(workload, data)
    programs = {
      'ours': _compiled(_step(workload), data, state),
      'by hand': _compiled(
        functools.partial(_step_by_hand, workload),
        data,
        _state_by_hand(state.params['model']),
      ),
    }
    calls = {side: call for side, (call, _) in programs.items()}
    losses = {side: float(call()['meta/loss']) for side, call in calls.items()}
    timings = time_in_turn(calls, rounds)
    for side, timing in timings.items():
      print(
        f'    {side:8} {1e3 * timing.median:8.1f} ms, least '
        f'{1e3 * timing.least:.1f}; {programs[side][1]:.0f} MiB of buffers; '
        f'first loss {losses[side]:.4f}'
      )
    for what in ('median', 'least'):
      ours, theirs = (getattr(timings[side], what) for side in calls)
      print(f'    ours over by hand, {what}: {ours / theirs - 1:+.1%}')


def image_memory() -> None:
  """Prints the buffers that the compiler plans for several inner loops."""
  plans = {}
  for name, num_steps, options in (
    ('second order', 5, {}),
    ('second order', 20, {}),
    ('second order, rematerialised', 20, {'rematerialise': True}),
    ('first order', 1, {'first_order': True}),
    ('first order', 5, {'first_order': True}),
    ('first order', 20, {'first_order': True}),
  ):
    workload = _OMNIGLOT._replace(num_inner_steps=num_steps, meta_batch_size=1)
    data = _episodes(workload)
    _, mib = _compiled(
      _step(workload, **options), data, _initial(workload, data)
    )
    plans[name, num_steps] = mib
    print(f'  {num_steps:2} steps, {name:29} {mib:6.1f} MiB')
  kept = plans['second order, rematerialised', 20] / plans['second order', 20]
  print(f'  20 steps, rematerialised over plain: {kept:.0%}')
  growth = plans['first order', 20] / plans['first order', 5]
  print(f'  first order, 20 steps over 5: {growth:.2f}')


def _episodes(workload: Workload) -> tuple[Array, Array]:
  """Returns support and query images, `[episodes, examples, ...]` uint8."""
  key = jax.random.key(0)
  support, query = (
    jax.random.randint(
      jax.random.fold_in(key, shots),
      (_NUM_EPISODES, shots * workload.ways, *workload.shape),
      0,
      256,
      dtype=jnp.uint8,
    )
    for shots in (1, workload.query_shots)
  )
  return support, query


def _draw(data, key) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
  """Returns images and labels of the support and of the query of a task."""
  index = jax.random.randint(key, (), 0, _NUM_EPISODES)
  ways = data[0].shape[1]
  support, query = (
    (
      images[index].astype(jnp.float32) / 255.0,
      jnp.repeat(jnp.arange(ways), images.shape[1] // ways),
    )
    for images in data
  )
  return support, query


def _algorithm(workload: Workload, **options: bool):
  network = (
    mini_imagenet_network(workload.ways)
    if workload.pools
    else omniglot_network(workload.ways)
  )

  def sample(data, key):
    support, query = _draw(data, key)
    return Episode((), Examples(*support), Examples(*query))

  learner = maml(
    network,
    cross_entropy,
    inner_lr=workload.inner_lr,
    what_adapts=all_but_shifts,
    num_inner_steps=workload.num_inner_steps,
    **options,
  )
  return meta_train(
    learner,
    TaskFamily(sample, _episodes(workload)),
    optax.adam(_OUTER_LR),
    meta_batch_size=workload.meta_batch_size,
    task_chunk_size=1,
  )


def _step(workload: Workload, **options: bool) -> Callable[..., Any]:
  algorithm = _algorithm(workload, **options)
  return lambda data, state, key: algorithm.step((data, ()), state, key)


def _initial(workload: Workload, data: tuple[Array, Array]) -> MetaTrainState:
  algorithm = _algorithm(workload)
  return compile_hot(algorithm.init)((data, ()), jax.random.key(1))


def _compiled(step, data, state) -> tuple[Callable[[], Any], float]:
  """Returns what takes the step again and again, and its buffers in MiB."""
  key = jax.random.key(2)
  program = compile_hot(step).lower(data, state, key).compile()

  def call():
    nonlocal state
    state, metrics = program(data, state, key)
    return metrics

  return call, program.memory_analysis().temp_size_in_bytes / _MIB


# What follows is by hand: nothing of metajax computes.


def _state_by_hand(model):
  """Returns `(params, mean, square, count)` of Adam, with plain lists."""
  embedding, head = model['embedding'], model['head']
  layers = []
  for i in range(_NUM_LAYERS):
    convolution = embedding[f'convolution_{i}']
    shift = embedding[f'normalisation_{i}']['shift']
    layers.append((convolution['kernel'], convolution['bias'], shift))
  params = (layers, (head['kernel'], head['bias']))
  # Copies: neither side shares a buffer with the other.
  params = jax.tree.map(jnp.copy, params)
  zeros = jax.tree.map(jnp.zeros_like, params)
  return params, zeros, jax.tree.map(jnp.copy, zeros), jnp.int32(0)


def _step_by_hand(workload: Workload, data, state, key):
  params, mean, square, count = state
  keys = jax.random.split(key, workload.meta_batch_size)

  def task_loss(params, key):
    support, query = _draw(data, jax.random.split(key, 3)[0])
    adapted = params
    for _ in range(workload.num_inner_steps):
      layers, head = jax.grad(_loss_by_hand)(adapted, support, workload.pools)
      # The shifts stay.
      layers = [(k, b, jnp.zeros_like(shift)) for k, b, shift in layers]
      adapted = jax.tree.map(
        lambda p, g: p - workload.inner_lr * g, adapted, (layers, head)
      )
    return _loss_by_hand(adapted, query, workload.pools)

  def add(total, key):
    found = jax.value_and_grad(task_loss)(params, key)
    return jax.tree.map(jnp.add, total, found), None

  start = (jnp.float32(0), jax.tree.map(jnp.zeros_like, params))
  total, _ = jax.lax.scan(add, start, keys)
  loss, gradient = jax.tree.map(lambda x: x / len(keys), total)
  count += 1
  mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, gradient)
  square = jax.tree.map(
    lambda s, g: 0.999 * s + 0.001 * g * g, square, gradient
  )
  params = jax.tree.map(
    lambda p, m, s: (
      p
      - _OUTER_LR
      * (m / (1 - 0.9**count))
      / (jnp.sqrt(s / (1 - 0.999**count)) + 1e-8)
    ),
    params,
    mean,
    square,
  )
  return (params, mean, square, count), {'meta/loss': loss}


def _loss_by_hand(params, examples, pools):
  layers, (weight, bias) = params
  hidden, labels = examples
  for kernel, convolution_bias, shift in layers:
    hidden = (_convolved if pools else _strided)(hidden, kernel)
    hidden = hidden + convolution_bias[None, None, None]
    flat = hidden.reshape(-1, hidden.shape[-1])
    scale = jax.lax.rsqrt(jnp.var(flat, axis=0) + _EPSILON)
    flat = (flat - jnp.mean(flat, axis=0)[None]) * scale[None] + shift[None]
    hidden = jax.nn.relu(flat.reshape(hidden.shape))
    if pools:
      size = 2 * (hidden.shape[1] // 2)
      a, b, c, d = (
        hidden[:, i:size:2, j:size:2] for i in (0, 1) for j in (0, 1)
      )
      hidden = jnp.maximum(jnp.maximum(a, b), jnp.maximum(c, d))
  if pools:
    features = hidden.reshape(len(labels), -1)
  else:
    features = jnp.mean(hidden, axis=(1, 2))
  logits = features @ weight + bias[None]
  chosen = jax.nn.log_softmax(logits)[jnp.arange(len(labels)), labels]
  return -logits.shape[-1] * jnp.mean(chosen)


def _slices(images, stride, before, after):
  """Returns the nine shifted images side by side."""
  padded = jnp.pad(images, ((0, 0), (before, after), (before, after), (0, 0)))
  size = math.ceil(images.shape[1] / stride)
  last = stride * (size - 1) + 1
  return jnp.concatenate(
    [
      padded[:, i : i + last : stride, j : j + last : stride]
      for i in range(3)
      for j in range(3)
    ],
    axis=-1,
  )


def _strided(images, kernel):
  """Convolves with stride 2, by one matrix product."""
  odd = images.shape[1] % 2
  patches = _slices(images, 2, odd, 1)
  product = patches.reshape(-1, patches.shape[-1]) @ kernel.reshape(
    -1, kernel.shape[-1]
  )
  return product.reshape(*patches.shape[:-1], -1)


@jax.custom_vjp
def _convolved(images, kernel):
  """Convolves with stride 1, as XLA does; weights' gradients image by image."""
  return jax.lax.conv_general_dilated(
    images, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
  )


@jax.custom_vjp
def _correlated(images, outputs):
  def add(total, pair):
    image, output = pair
    patches = _slices(image[None], 1, 1, 1)
    patches = patches.reshape(-1, patches.shape[-1])
    return total + patches.T @ output.reshape(-1, output.shape[-1]), None

  channels, filters = images.shape[-1], outputs.shape[-1]
  start = jnp.zeros((9 * channels, filters), images.dtype)
  total, _ = jax.lax.scan(add, start, (images, outputs))
  return total.reshape(3, 3, channels, filters)


def _turned(kernel):
  return kernel[::-1, ::-1].swapaxes(2, 3)


_convolved.defvjp(
  lambda images, kernel: (_convolved(images, kernel), (images, kernel)),
  lambda kept, gradient: (
    _convolved(gradient, _turned(kept[1])),
    _correlated(kept[0], gradient),
  ),
)
_correlated.defvjp(
  lambda images, outputs: (_correlated(images, outputs), (images, outputs)),
  lambda kept, gradient: (
    _convolved(kept[1], _turned(gradient)),
    _convolved(kept[0], gradient),
  ),
)
