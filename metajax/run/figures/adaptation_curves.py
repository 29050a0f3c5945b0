"""A loss or return against adaptation steps, beside the paper's."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
import numpy as np

from metajax.run.figures.canvas import (
  INK,
  CurveEnd,
  colours,
  draw_band,
  finish_axes,
  label_ends,
  new_figure,
  save_figure,
  use_log_scale,
)


class Curve(NamedTuple):
  """A measured quantity against adaptation steps.

  Attributes:
    mean: [num_steps + 1] mean over tasks, before adaptation first.
    ci95: [num_steps + 1] half-width of the 95 % interval.
    steps: [num_steps + 1] adaptation steps; None: 0, 1, 2 and so on.
  """

  mean: Any
  ci95: Any
  steps: Any = None


def adaptation_curve(
  path: str | Path,
  curves: Mapping[str, Curve | tuple[Any, Any]],
  *,
  reference: Mapping[str, Mapping[float, float]] | None = None,
  title: str = '',
  ylabel: str = '',
  xlabel: str = 'adaptation steps',
  log_scale: bool = False,
  limits: tuple[float, float] | None = None,
) -> None:
  """Draws a loss or return against adaptation steps, beside the paper's.

  Args:
    path: the PNG to write.
    curves: label to per-step mean and 95 % half-width.
    reference: label to the paper's values, step to value, drawn as markers;
      a label that a curve has too takes its colour.
    title: what the figure shows.
    ylabel: the quantity and its unit.
    xlabel: what is counted.
    log_scale: whether the vertical axis is logarithmic.
    limits: least and greatest value that is shown, where a few that diverged
      would squeeze the rest; None: all.
  """
  figure, (axes,) = new_figure(1, width=6.4, height=4.2)
  ends, colour_of = [], dict(zip(curves, colours(), strict=False))
  counted = set()
  for label, given in curves.items():
    curve = Curve(*given)
    mean = np.asarray(curve.mean, float)
    half_width = _numbers_or_zero(curve.ci95)
    steps = np.arange(len(mean)) if curve.steps is None else curve.steps
    counted.update(steps)
    colour = colour_of[label]
    draw_band(axes, steps, mean, half_width, colour)
    axes.plot(
      steps, mean, color=colour, linewidth=2.0, marker='o', markersize=4.5
    )
    ends.append(CurveEnd(label, steps[-1], mean[-1], colour))
  if reference:
    _draw_reference(axes, reference, colour_of)
  if limits is not None:
    axes.set_ylim(*limits)
    ends = [end for end in ends if limits[0] <= end.y <= limits[1]]
  if log_scale:
    use_log_scale(axes)
  finish_axes(axes, title, xlabel, ylabel)
  if all(float(step).is_integer() for step in counted):
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
  label_ends(figure, axes, ends)
  save_figure(figure, path)


def _draw_reference(
  axes: Axes,
  reference: Mapping[str, Mapping[float, float]],
  colour_of: Mapping[str, str],
) -> None:
  """Draws the paper's values as markers, and what they are in a legend."""
  unmatched = colours(len(colour_of))

  def mark(
    points: Mapping[float, float], colour: str, name: str | None
  ) -> None:
    axes.plot(
      list(points),
      list(points.values()),
      linestyle='none',
      marker='D',
      markersize=8,
      markerfacecolor='white',
      markeredgecolor=colour,
      markeredgewidth=1.8,
      zorder=5,
      label=name,
    )

  for label, points in reference.items():
    mark(points, colour_of.get(label) or next(unmatched), None)
  mark({}, INK, "the paper's")
  axes.legend(frameon=False, labelcolor=INK, handletextpad=0.3)


def _numbers_or_zero(values: Any) -> np.ndarray:
  """Returns half-widths as floats; an unknown one has no width."""
  return np.nan_to_num(np.asarray(values, float))
