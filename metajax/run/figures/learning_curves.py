"""A logged metric against meta-iterations."""

from collections.abc import Mapping, Sequence
import math
from pathlib import Path
from typing import Any

import numpy as np

from metajax.run.figures.canvas import (
  CurveEnd,
  colours,
  draw_band,
  finish_axes,
  label_ends,
  new_figure,
  save_figure,
  use_log_scale,
)

_QUANTILE = 1.96  # two-sided 95 % of a normal distribution


def learning_curve(
  path: str | Path,
  histories: Mapping[str, Sequence[Mapping[str, Any]]],
  metric: str,
  *,
  title: str = '',
  ylabel: str = '',
  log_scale: bool = False,
) -> None:
  """Draws a logged metric against meta-iterations.

  Several seeds make one line, their mean, in a 95 % band over seeds. Many
  noisy rows are smoothed by a running mean, with the rows faint behind it.

  Args:
    path: the PNG to write.
    histories: label to logged rows, as in metrics.jsonl.
    metric: name of the metric; rows without it are passed over.
    title: what the figure shows.
    ylabel: the quantity and its unit; '': the metric's name.
    log_scale: whether the vertical axis is logarithmic.
  """
  figure, (axes,) = new_figure(1, width=7.0, height=3.9)
  ends = []
  for (label, rows), colour in zip(histories.items(), colours(), strict=False):
    steps, values = _logged(rows, metric)
    if not len(steps):
      continue
    mean = np.nanmean(values, axis=1)
    smooth = _running_mean(mean)
    if values.shape[1] > 1:
      draw_band(axes, steps, smooth, _running_mean(_half_width(values)), colour)
    elif len(steps) > 30:
      axes.plot(steps, mean, color=colour, alpha=0.22, linewidth=0.9)
    axes.plot(steps, smooth, color=colour, linewidth=2.0)
    ends.append(CurveEnd(label, steps[-1], smooth[-1], colour))
  if log_scale:
    use_log_scale(axes)
  finish_axes(axes, title, 'meta-iterations', ylabel or metric)
  axes.set_xlim(left=0)
  axes.xaxis.set_major_formatter(lambda value, place: f'{value:,.0f}')
  label_ends(figure, axes, ends)
  save_figure(figure, path)


def _logged(rows, metric: str) -> tuple[np.ndarray, np.ndarray]:
  """Returns steps [rows] and values [rows, seeds] of a logged metric."""
  kept = [row for row in rows if row.get(metric) is not None]
  steps = np.asarray([row['step'] for row in kept])
  values = [np.ravel(np.asarray(row[metric], float)) for row in kept]
  return steps, np.stack(values) if values else np.zeros((0, 1))


def _half_width(values: np.ndarray) -> np.ndarray:
  """Returns the 95 % half-width over the last axis."""
  deviation = np.std(values, axis=-1, ddof=1)
  return _QUANTILE * deviation / math.sqrt(values.shape[-1])


def _running_mean(values: np.ndarray) -> np.ndarray:
  """Returns values with noise of single rows removed, if there are many."""
  reach = len(values) // 60
  if reach == 0:
    return values
  window = np.ones(2 * reach + 1)
  # Near the ends the window holds fewer rows, and is divided by fewer.
  counts = np.convolve(np.ones(len(values)), window, mode='same')
  return np.convolve(values, window, mode='same') / counts
