"""The contract that every algorithm keeps, for a user's own one too."""

import jax
import jax.numpy as jnp
import numpy as np

from metajax.core.algorithm import (
  SKIPPED,
  Algorithm,
  evaluation_key,
  init_key,
  step_key,
)
from metajax.core.compilation import compile_hot
from metajax.core.learner import Metrics
from metajax.core.validation import check_count
from metajax.testing.comparison import (
  assert_close,
  assert_equal_bits,
  assert_finite,
)


def check_algorithm(
  algorithm: Algorithm,
  *,
  num_steps: int = 50,
  tolerance: float = 1e-4,
  compare_eager: bool = True,
) -> None:
  """Checks that `algorithm` keeps the contract of an algorithm.

  One compiled step serves all steps; numbers stay finite and none is skipped;
  equal keys give equal bits; what is compiled agrees with what is not; and the
  state is complete: a run that is compiled anew and goes on from a copy of the
  state ends with the bits of the run that was never interrupted. The metrics
  of a step are numbers (under a sweep, one a column), those of an evaluation
  one number a task.

  Args:
    algorithm: the algorithm.
    num_steps: meta-iterations of the run, >= 2.
    tolerance: allowed relative difference between the compiled first step and
      the same not compiled.
    compare_eager: whether to make that comparison. Op by op a step takes
      seconds, and one that simulates bodies takes minutes.

  Raises:
    AssertionError: if the contract is broken; the message says where.
    InputError: if `num_steps` is out of its range.
  """
  check_count('num_steps', num_steps, minimum=2)
  run_key = jax.random.key(0)
  half = num_steps // 2
  init = _compiled(algorithm, algorithm.init)
  step, count_traces = _counting_step(algorithm)

  def run(step, state, first, last):
    metrics = {}
    for i in range(first, last):
      state, metrics = step(algorithm.data, state, step_key(run_key, i))
      _check_step_metrics(metrics)
    return state, metrics

  state = init(algorithm.data, init_key(run_key))
  assert_equal_bits(
    'init with equal keys', init(algorithm.data, init_key(run_key)), state
  )
  if compare_eager:
    with jax.default_matmul_precision('highest'):
      eager = algorithm.step(algorithm.data, state, step_key(run_key, 0))
    assert_close(
      'step, compiled and not', run(step, state, 0, 1), eager, tolerance
    )

  middle, _ = run(step, state, 0, half)
  kept = jax.tree.map(_copied, middle)
  end = run(step, middle, half, num_steps)
  assert count_traces() == 1, (
    f'step: traced {count_traces()} times in {num_steps} steps'
  )
  assert_finite('state', end[0])

  fresh_step, _ = _counting_step(algorithm)
  again, _ = run(fresh_step, init(algorithm.data, init_key(run_key)), 0, half)
  assert_equal_bits('two runs with equal keys', again, middle)
  resumed = run(fresh_step, kept, half, num_steps)
  assert_equal_bits('a resumed run', resumed, end)

  evaluate = _compiled(algorithm, algorithm.evaluate)
  evaluation = evaluate(algorithm.data, end[0], evaluation_key(run_key))
  _check_evaluation(evaluation, end[1][SKIPPED].shape)
  assert_equal_bits(
    'evaluate with equal keys',
    evaluate(algorithm.data, end[0], evaluation_key(run_key)),
    evaluation,
  )


def _compiled(algorithm: Algorithm, function):
  return compile_hot(function, holds_physics=algorithm.holds_physics)


def _counting_step(algorithm: Algorithm):
  """Returns the compiled step and a function that tells its traces."""
  count = 0

  def step(data, state, key):
    nonlocal count
    count += 1
    return algorithm.step(data, state, key)

  return _compiled(algorithm, step), lambda: count


def _copied(leaf):
  """Takes a leaf through the host's memory, as a checkpoint does."""
  if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    bits = jnp.asarray(np.array(jax.random.key_data(leaf)))
    return jax.random.wrap_key_data(bits, impl=jax.random.key_impl(leaf))
  return jnp.asarray(np.array(leaf))


def _check_step_metrics(metrics: Metrics) -> None:
  assert SKIPPED in metrics, f'step: expected the metric {SKIPPED}'
  shape = jnp.shape(metrics[SKIPPED])
  for name, value in metrics.items():
    assert isinstance(name, str), f'step: expected a name, got {name!r}'
    assert jnp.shape(value) == shape, (
      f'step: metric {name!r}: expected the shape {shape}, got '
      f'{jnp.shape(value)}'
    )
  assert_finite('step: metrics', metrics)
  assert not np.any(metrics[SKIPPED]), 'step: an update was skipped'


def _check_evaluation(metrics: Metrics, columns: tuple[int, ...]) -> None:
  assert metrics, 'evaluate: no metrics'
  num_tasks = {jnp.shape(value)[-1:] for value in metrics.values()}
  expected = f'evaluate: expected one number a task, got the axes {num_tasks}'
  assert len(num_tasks) == 1, expected
  assert num_tasks != {()}, expected
  shape = (*columns, *num_tasks.pop())
  assert shape[-1] >= 2, 'evaluate: expected at least two tasks'
  for name, value in metrics.items():
    assert isinstance(name, str), f'evaluate: expected a name, got {name!r}'
    assert jnp.shape(value) == shape, (
      f'evaluate: {name!r}: expected the shape {shape}, got {jnp.shape(value)}'
    )
  assert_finite('evaluate', metrics)
