"""The contract that every learner keeps, for a user's own one too."""

from collections.abc import Callable

import jax
from jax import Array
import jax.numpy as jnp

from metajax.core.compilation import compile_hot
from metajax.core.learner import Learner, PyTree, TaskFamily
from metajax.core.validation import check_count
from metajax.testing.comparison import (
  assert_close,
  assert_equal_bits,
  assert_finite,
)


def check_learner(
  learner: Learner,
  tasks: TaskFamily,
  *,
  inputs: Callable[[PyTree], PyTree] = lambda query: query.inputs,
  num_tasks: int = 3,
  tolerance: float = 1e-5,
) -> None:
  """Checks that `learner` keeps the contract of a learner on `tasks`.

  Equal keys give equal parameters and others give others; the loss is one
  finite number, its metrics a flat dictionary of numbers, and its gradient
  finite and not zero; what is compiled agrees with what is not, and a batch of
  tasks with one task after another; one compiled program serves all tasks.

  Args:
    learner: the learner.
    tasks: a family that it can learn.
    inputs: picks what `learner.predict` is given from a query.
    num_tasks: tasks to compare a batch with, >= 2.
    tolerance: allowed relative difference between two ways to compute the
      same.

  Raises:
    AssertionError: if the contract is broken; the message says where.
    InputError: if `num_tasks` is out of its range.
  """
  check_count('num_tasks', num_tasks, minimum=2)

  def keys(stream: int) -> Array:
    # Made anew for every use: a key is used once.
    return jax.random.split(jax.random.key(stream), num_tasks)

  def new_params(seed: int) -> PyTree:
    episode = tasks.sample(tasks.data, keys(1)[0])
    return learner.init(jax.random.key(seed), episode)

  params = new_params(0)
  assert_finite('init', params)
  assert_equal_bits('init with equal keys', params, new_params(0))
  others = new_params(1)
  assert any(
    not jnp.array_equal(a, b)
    for a, b in zip(
      jax.tree.leaves(params), jax.tree.leaves(others), strict=True
    )
  ), 'init: different keys gave the same parameters'

  num_traces = 0

  def one(params, data, key):
    nonlocal num_traces
    num_traces += 1
    sample_key, adapt_key, loss_key = jax.random.split(key, 3)
    episode = tasks.sample(data, sample_key)

    def objective(params):
      adapted = learner.adapt(params, episode.support, adapt_key)
      loss, metrics = learner.loss(params, adapted, episode.query, loss_key)
      return loss, (metrics, learner.predict(adapted, inputs(episode.query)))

    (loss, (metrics, outputs)), gradient = jax.value_and_grad(
      objective, has_aux=True
    )(params)
    return {
      'loss': loss,
      'metrics': metrics,
      'predict': outputs,
      'gradient': gradient,
    }

  eager = one(params, tasks.data, keys(2)[0])
  _check_layout(eager, params)
  assert_finite('learner', eager)

  num_traces = 0
  compiled = compile_hot(one)
  in_loop = [compiled(params, tasks.data, key) for key in keys(2)]
  assert num_traces == 1, (
    f'learner: traced {num_traces} times for {num_tasks} tasks of equal shapes'
  )
  assert_close('compiled and not', in_loop[0], eager, tolerance)
  assert_equal_bits(
    'equal tasks and keys', in_loop[0], compiled(params, tasks.data, keys(2)[0])
  )
  batch = compile_hot(jax.vmap(one, in_axes=(None, None, 0)))(
    params, tasks.data, keys(2)
  )
  stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *in_loop)
  assert_close('a batch and a loop', batch, stacked, tolerance)


def _check_layout(answer: dict[str, PyTree], params: PyTree) -> None:
  loss = answer['loss']
  is_float = jnp.issubdtype(loss.dtype, jnp.floating)
  assert is_float, f'loss: expected a float, got {loss.dtype}'
  assert loss.shape == (), f'loss: expected one number, got {loss.shape}'
  for name, value in answer['metrics'].items():
    assert isinstance(name, str), f'metrics: expected a name, got {name!r}'
    assert jnp.shape(value) == (), (
      f'metrics[{name!r}]: expected a number, got {value!r}'
    )
  largest = max(
    float(jnp.max(jnp.abs(leaf), initial=0.0))
    for leaf in jax.tree.leaves(answer['gradient'])
  )
  assert largest > 0.0, 'gradient: the loss does not depend on the parameters'
  assert jax.tree.structure(answer['gradient']) == jax.tree.structure(params)
