"""Evaluation on held-out tasks, and its statistics: mean, interval and n."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from metajax.core.algorithm import Algorithm, evaluation_key
from metajax.core.compilation import compile_hot
from metajax.core.durable_files import jsonable, write_json
from metajax.core.validation import InputError

PyTree = Any

_NORMAL_QUANTILE = 1.96  # two-sided 95 % of a normal distribution


def evaluate(
  algorithm: Algorithm, state: PyTree, seed: int = 0
) -> dict[str, np.ndarray]:
  """Evaluates a state on the held-out tasks that a run of this seed uses.

  Args:
    algorithm: whose `evaluate` is called.
    state: a trained state, of this algorithm or of one that shares its form.
    seed: the run's seed.

  Returns:
    Metric name to `[num_tasks]` (sweep: `[columns, num_tasks]`) values.

  Raises:
    InputError: if a metric is not of that form.
  """
  program = compile_hot(
    algorithm.evaluate, holds_physics=algorithm.holds_physics
  )
  key = evaluation_key(jax.random.key(seed))
  return fetch(program(algorithm.data, state, key))


def fetch(metrics: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """Brings evaluated metrics to the host and checks their form.

  Raises:
    InputError: if a metric has no axis of tasks.
  """
  fetched = {name: np.asarray(value) for name, value in metrics.items()}
  for name, values in fetched.items():
    if values.ndim == 0 or values.shape[-1] == 0:
      raise InputError(
        f'evaluated metric {name}: expected [num_tasks] values,'
        f' got shape {values.shape}'
      )
  return fetched


def means(evaluation: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Returns each metric's mean over tasks, its last axis."""
  return {
    name: np.asarray(np.mean(values, axis=-1, dtype=np.float64))
    for name, values in evaluation.items()
  }


def summarise(
  evaluation: Mapping[str, np.ndarray],
) -> dict[str, dict[str, Any]]:
  """Returns each metric's mean, 95 % confidence interval and n, as JSON.

  The half-width is `1.96 s / sqrt(n)` with the unbiased deviation `s` over
  the last axis, that of tasks. A leading axis (a sweep's) makes lists. What
  is not finite, and the interval of a single task, is null.

  Args:
    evaluation: metric name to `[..., num_tasks]` values.

  Returns:
    Metric name to `{'mean', 'ci95', 'n'}`.
  """
  averages, summary = means(evaluation), {}
  for name, values in evaluation.items():
    n = values.shape[-1]
    if n > 1:
      with np.errstate(invalid='ignore'):  # infinities have none
        deviation = np.std(values, axis=-1, ddof=1, dtype=np.float64)
      half_width = _NORMAL_QUANTILE * deviation / np.sqrt(n)
    else:
      half_width = np.full(values.shape[:-1], np.nan)
    summary[name] = {
      'mean': jsonable(averages[name]),
      'ci95': jsonable(half_width),
      'n': n,
    }
  return summary


def write_evaluation(
  path: Path,
  *,
  experiment: str,
  preset: str,
  seed: int,
  steps: int,
  metrics: Mapping[str, Mapping[str, Any]],
) -> None:
  """Writes evaluation.json: the old file or the new one, whole.

  Args:
    path: the file.
    experiment: name of the experiment, '' if it has none.
    preset: name of the preset, '' if it has none.
    seed: the run's seed.
    steps: meta-iterations done.
    metrics: as `summarise` returns them.

  Raises:
    StorageError: if it cannot be written.
  """
  content = {
    'experiment': experiment,
    'preset': preset,
    'seed': seed,
    'steps': steps,
    'metrics': metrics,
  }
  write_json(path, content)
