"""What the functions that a learner samples of one task tell of it."""

import jax
from jax import Array
import jax.numpy as jnp

from metajax.core.learner import Examples, Metrics
from metajax.tasks.ambiguous_regression import goodness_of_fit

# A sampled function is called a line or a sinusoid from this R^2 on.
_GOOD_FIT = 0.95
_QUARTER = 4


def function_measures(
  predictions: Array, query: Examples, support: Examples
) -> Metrics:
  """Measures sampled functions on a task.

  Args:
    predictions: [samples, points, 1] float32, of each sampled function.
    query: the task's points without noise.
    support: what the learner was given.

  Returns:
    [] float32 each: `squared_error`, the mean over samples; `best_error`, that
    of the best sample; `variance`, over samples, averaged over points;
    `variance_near` and `variance_far`, the same over the quarter of the points
    that lies nearest to the support's and the one that lies farthest;
    `variance_tells_error`, Spearman's correlation over points between the
    variance and the squared error of the samples' mean; `are_lines` and
    `are_sinusoids`, shares of samples; `holds_both_kinds`, whether there is
    one of each; 0 or 1.
  """
  outputs, inputs = predictions[..., 0], query.inputs[:, 0]
  targets = query.targets[:, 0]
  errors = jnp.mean(jnp.square(outputs - targets[None]), axis=1)
  variance = jnp.var(outputs, axis=0)
  distances = jnp.abs(inputs[:, None] - support.inputs[None, :, 0])
  by_distance = variance[jnp.argsort(jnp.min(distances, axis=1))]
  quarter = max(inputs.size // _QUARTER, 1)
  mean_error = jnp.square(jnp.mean(outputs, axis=0) - targets)
  as_line, as_sinusoid = jax.vmap(lambda one: goodness_of_fit(inputs, one))(
    outputs
  )
  is_line = (as_line > _GOOD_FIT) & (as_line >= as_sinusoid)
  is_sinusoid = (as_sinusoid > _GOOD_FIT) & (as_sinusoid > as_line)
  return {
    'squared_error': jnp.mean(errors),
    'best_error': jnp.min(errors),
    'variance': jnp.mean(variance),
    'variance_near': jnp.mean(by_distance[:quarter]),
    'variance_far': jnp.mean(by_distance[-quarter:]),
    'variance_tells_error': rank_correlation(variance, mean_error),
    'are_lines': _share(is_line),
    'are_sinusoids': _share(is_sinusoid),
    'holds_both_kinds': _share(jnp.any(is_line) & jnp.any(is_sinusoid)),
  }


def rank_correlation(first: Array, second: Array) -> Array:
  """Returns Spearman's correlation of [points] values without ties.

  Where all values of one are equal their order is that of the points.
  """
  ranks = [jnp.argsort(jnp.argsort(values)) for values in (first, second)]
  return jnp.corrcoef(*(r.astype(jnp.float32) for r in ranks))[0, 1]


def _share(flags: Array) -> Array:
  return jnp.mean(flags.astype(jnp.float32))
