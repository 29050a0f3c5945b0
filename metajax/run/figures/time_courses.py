"""What a quantity does in the course of an episode, condition by condition."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from metajax.core.validation import InputError, reject
from metajax.run.figures.canvas import (
  colours,
  draw_band,
  finish_axes,
  new_figure,
  save_figure,
  title_and_legend,
  use_log_scale,
)

_QUANTILE = 1.96  # two-sided 95 % of a normal distribution


def time_courses(
  path: str | Path,
  times: Sequence[float],
  panels: Mapping[str, Mapping[str, np.ndarray]],
  *,
  title: str = '',
  xlabel: str = 'time (s)',
  ylabel: str = '',
) -> None:
  """Draws a row of panels on one logarithmic axis: geometric means over time.

  The mean and its 95 % band are those of the logarithm over episodes, so that
  one episode that goes wrong does not hide the others.

  Args:
    path: the PNG to write.
    times: [steps] where the values stand.
    panels: title of a panel to name of a curve to `[episodes, steps]` values,
      > 0; what is not finite or not positive is left out.
    title: of the figure.
    xlabel: of the times.
    ylabel: what is measured.

  Raises:
    InputError: if a curve's steps are not those of the times, or there is no
      panel.
  """
  if not panels:
    raise InputError('panels: expected at least one, got none')
  figure, row = new_figure(len(panels), width=3.4 * len(panels), height=3.4)
  for axes, (name, curves) in zip(row, panels.items(), strict=True):
    for (label, given), colour in zip(curves.items(), colours(), strict=False):
      values = np.asarray(given, float)
      if values.ndim != 2 or values.shape[1] != len(times):
        raise reject(
          f'panels[{name!r}][{label!r}]',
          f'[episodes, {len(times)}]',
          values.shape,
        )
      low, mean, high = _geometric_mean(values)
      middle, half_width = 0.5 * (low + high), 0.5 * (high - low)
      draw_band(axes, np.asarray(times), middle, half_width, colour)
      axes.plot(times, mean, color=colour, linewidth=2.0, label=label)
    finish_axes(axes, name, xlabel, ylabel if axes is row[0] else '')
  use_log_scale(row[0])
  title_and_legend(figure, row[-1], title)
  save_figure(figure, path)


def _geometric_mean(values: np.ndarray) -> tuple[np.ndarray, ...]:
  """Returns its interval's low end, the mean and the high end, each [steps]."""
  kept = np.where(np.isfinite(values) & (values > 0), values, np.nan)
  logs = np.ma.masked_invalid(np.log(kept))
  mean = logs.mean(axis=0)
  half_width = _QUANTILE * logs.std(axis=0) / np.sqrt(logs.count(axis=0))
  return tuple(
    np.exp(end).filled(np.nan)
    for end in (mean - half_width, mean, mean + half_width)
  )
