"""Figures of what was learned, from plain numpy arrays.

Figures are drawn without a display and without global state. Where there is
room, curves are named at their ends, and a band is always a 95 % interval.
"""

from collections.abc import Iterator, Mapping, Sequence
import io
import itertools
import math
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
import numpy as np

from metajax.run.durable_files import write_whole

# Told apart by people who see fewer colours, too (Okabe and Ito 2008).
PALETTE = (
  '#0072B2',  # blue
  '#D55E00',  # vermilion
  '#009E73',  # green
  '#CC79A7',  # purple
  '#E69F00',  # orange
  '#56B4E9',  # sky
)
INK = '#2B2B33'
MUTED = '#8A8A94'
GRID = '#E6E6EA'

_DOTS_PER_INCH = 150
_QUANTILE = 1.96  # two-sided 95 % of a normal distribution


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


class FunctionFit(NamedTuple):
  """One regression task as a learner meets it.

  Attributes:
    inputs: [points] where the functions are drawn, ascending.
    truth: [points] the task's own function.
    support_inputs: [shots] what the learner was given.
    support_targets: [shots] and the answers.
    predictions: label to [points] prediction, in the order of adaptation
      ('before', 'after 1 step').
  """

  inputs: Any
  truth: Any
  support_inputs: Any
  support_targets: Any
  predictions: Mapping[str, Any]


class PathFit(NamedTuple):
  """One navigation task as a learner meets it.

  Attributes:
    goal: [2] position.
    before: [episodes, time, 2] positions before adaptation.
    after: [episodes, time, 2] positions after it.
  """

  goal: Any
  before: Any
  after: Any


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
  figure, (axes,) = _figure(1, width=7.0, height=3.9)
  ends = []
  for (label, rows), color in zip(histories.items(), _colors(), strict=False):
    steps, values = _logged(rows, metric)
    if not len(steps):
      continue
    mean = np.nanmean(values, axis=1)
    smooth = _running_mean(mean)
    if values.shape[1] > 1:
      _band(axes, steps, smooth, _running_mean(_half_width(values)), color)
    elif len(steps) > 30:
      axes.plot(steps, mean, color=color, alpha=0.22, linewidth=0.9)
    axes.plot(steps, smooth, color=color, linewidth=2.0)
    ends.append((label, steps[-1], smooth[-1], color))
  if log_scale:
    _use_log_scale(axes)
  _finish(axes, title, 'meta-iterations', ylabel or metric)
  axes.set_xlim(left=0)
  _thousands(axes)
  _label_ends(figure, axes, ends)
  _save(figure, path)


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
  figure, (axes,) = _figure(1, width=6.4, height=4.2)
  ends, colors = [], dict(zip(curves, _colors(), strict=False))
  for label, given in curves.items():
    curve = Curve(*given)
    mean = np.asarray(curve.mean, float)
    half_width = _numbers_or_zero(curve.ci95)
    steps = np.arange(len(mean)) if curve.steps is None else curve.steps
    color = colors[label]
    _band(axes, steps, mean, half_width, color)
    axes.plot(
      steps, mean, color=color, linewidth=2.0, marker='o', markersize=4.5
    )
    ends.append((label, steps[-1], mean[-1], color))
  unmatched = _colors(len(curves))
  for label, points in (reference or {}).items():
    color = colors.get(label) or next(unmatched)
    axes.plot(
      list(points),
      list(points.values()),
      linestyle='none',
      marker='D',
      markersize=8,
      markerfacecolor='white',
      markeredgecolor=color,
      markeredgewidth=1.8,
      zorder=5,
    )
  if reference:
    axes.plot(
      [],
      [],
      linestyle='none',
      marker='D',
      markersize=8,
      markerfacecolor='white',
      markeredgecolor=INK,
      markeredgewidth=1.8,
      label="the paper's",
    )
    axes.legend(frameon=False, labelcolor=INK, handletextpad=0.3)
  if limits is not None:
    axes.set_ylim(*limits)
    ends = [end for end in ends if limits[0] <= end[2] <= limits[1]]
  if log_scale:
    _use_log_scale(axes)
  _finish(axes, title, xlabel, ylabel)
  axes.xaxis.set_major_locator(MaxNLocator(integer=True))
  _label_ends(figure, axes, ends)
  _save(figure, path)


def function_fits(
  path: str | Path,
  fits: Sequence[FunctionFit],
  *,
  title: str = '',
  xlabel: str = 'x',
  ylabel: str = 'y',
) -> None:
  """Draws several regression tasks in a row: truth, support, predictions.

  Args:
    path: the PNG to write.
    fits: one a task, at least one.
    title: what the figure shows.
    xlabel: the input and its unit.
    ylabel: the target and its unit.
  """
  figure, row = _figure(len(fits), width=2.9 * len(fits) + 0.7, height=3.6)
  for axes, fit in zip(row, fits, strict=True):
    axes.plot(
      fit.inputs, fit.truth, color=INK, linewidth=1.6, label='true function'
    )
    last = len(fit.predictions) - 1
    for index, (label, prediction) in enumerate(fit.predictions.items()):
      axes.plot(
        fit.inputs,
        prediction,
        color=_shade(index, last),
        linewidth=2.2 if index == last else 1.6,
        linestyle='--' if index == 0 < last else '-',
        label=label,
      )
    axes.plot(
      fit.support_inputs,
      fit.support_targets,
      linestyle='none',
      marker='^',
      markersize=7.5,
      color=PALETTE[4],
      markeredgecolor='white',
      markeredgewidth=0.8,
      zorder=5,
      label='support',
    )
    _finish(axes, '', xlabel, ylabel if axes is row[0] else '')
  _title_and_legend(figure, row[0], title)
  _save(figure, path)


def paths(
  path: str | Path,
  fits: Sequence[PathFit],
  *,
  title: str = '',
  limit: float | None = None,
) -> None:
  """Draws the paths of several navigation tasks, before and after adaptation.

  Args:
    path: the PNG to write.
    fits: one a task, at least one.
    title: what the figure shows.
    limit: half the side of the square that is shown,; None: what
      holds the goals and the adapted paths.
  """
  limit = _limit(fits) if limit is None else limit
  figure, row = _figure(len(fits), width=2.6 * len(fits) + 0.7, height=3.8)
  for axes, fit in zip(row, fits, strict=True):
    for positions, color, label, width in (
      (fit.before, MUTED, 'before', 1.1),
      (fit.after, PALETTE[0], 'after adaptation', 1.7),
    ):
      for index, episode in enumerate(np.asarray(positions)):
        axes.plot(
          *episode.T,
          color=color,
          linewidth=width,
          alpha=0.75,
          solid_capstyle='round',
          label=label if index == 0 else None,
        )
    start = np.asarray(fit.after)[0, 0]
    axes.plot(
      *start,
      marker='o',
      markersize=6,
      color=INK,
      linestyle='none',
      zorder=5,
      label='start',
    )
    axes.plot(
      *np.asarray(fit.goal),
      marker='*',
      markersize=15,
      color=PALETTE[1],
      markeredgecolor='white',
      markeredgewidth=0.9,
      linestyle='none',
      zorder=6,
      label='goal',
    )
    _finish(axes, '', 'x', 'y' if axes is row[0] else '')
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit))
    axes.set_box_aspect(1)
    for axis in (axes.xaxis, axes.yaxis):
      axis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 5, 10]))
  _title_and_legend(figure, row[0], title)
  _save(figure, path)


def _figure(columns: int, *, width: float, height: float):
  """Returns a figure of `width` x `height` inches, and its row of axes."""
  figure = Figure(figsize=(width, height), layout='constrained')
  FigureCanvasAgg(figure)
  grid = figure.subplots(1, columns, sharey=columns > 1, squeeze=False)
  return figure, list(grid[0])


def _colors(start: int = 0) -> Iterator[str]:
  """Yields the palette's colours from a place on, over and over."""
  return itertools.islice(itertools.cycle(PALETTE), start, None)


def _limit(fits: Sequence[PathFit]) -> float:
  """Returns half the side of the square that holds goals and adapted paths."""
  seen = [np.abs(np.asarray(fit.goal)).max() for fit in fits]
  seen += [np.abs(np.asarray(fit.after)).max() for fit in fits]
  return 1.12 * float(max(seen))


def _shade(index: int, last: int) -> Any:
  """Returns the colour of a stage of adaptation: grey, pale blue, blue."""
  if index == last:
    return PALETTE[0]
  return MUTED if index == 0 else PALETTE[5]


def _finish(axes: Axes, title: str, xlabel: str, ylabel: str) -> None:
  axes.set_title(title, loc='left', color=INK, fontsize=12, fontweight='bold')
  axes.set_xlabel(xlabel, color=INK)
  axes.set_ylabel(ylabel, color=INK)
  axes.grid(True, color=GRID, linewidth=0.8)
  axes.set_axisbelow(True)
  axes.tick_params(colors=MUTED, labelcolor=INK, length=0)
  axes.spines[['top', 'right']].set_visible(False)
  axes.spines[['left', 'bottom']].set_color(GRID)


def _title_and_legend(figure: Figure, axes: Axes, title: str) -> None:
  """Puts one legend under a row of axes that share their meaning."""
  if title:
    figure.suptitle(
      title, x=0.01, ha='left', color=INK, fontsize=12, fontweight='bold'
    )
  handles, labels = axes.get_legend_handles_labels()
  figure.legend(
    handles,
    labels,
    loc='outside lower center',
    ncols=len(labels),
    frameon=False,
    labelcolor=INK,
  )


def _band(axes: Axes, steps, mean, half_width, color: str) -> None:
  axes.fill_between(
    steps,
    mean - half_width,
    mean + half_width,
    color=color,
    alpha=0.16,
    linewidth=0,
  )


def _label_ends(figure: Figure, axes: Axes, ends) -> None:
  """Writes each curve's name behind its end, moved apart where they meet."""
  if not ends:
    return
  figure.draw_without_rendering()
  to_points = 72 / figure.dpi
  placed = -math.inf
  for label, x, y, color in sorted(ends, key=lambda end: end[2]):
    if not math.isfinite(y):
      continue
    at = axes.transData.transform((x, y))[1] * to_points
    height = max(at, placed + 13.0)
    placed = height
    axes.annotate(
      label,
      (x, y),
      xytext=(8, height - at),
      textcoords='offset points',
      color=color,
      va='center',
      fontweight='bold',
      annotation_clip=False,
    )


def _use_log_scale(axes: Axes) -> None:
  """Makes the vertical axis logarithmic, with plain numbers at 1, 2 and 5."""
  axes.set_yscale('log')
  axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
  axes.yaxis.set_major_formatter(lambda value, place: f'{value:g}')
  axes.yaxis.set_minor_locator(NullLocator())


def _thousands(axes: Axes) -> None:
  axes.xaxis.set_major_formatter(lambda value, place: f'{value:,.0f}')


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


def _numbers_or_zero(values: Any) -> np.ndarray:
  """Returns half-widths as floats; an unknown one has no width."""
  return np.nan_to_num(np.asarray(values, float))


def _save(figure: Figure, path: str | Path) -> None:
  """Writes the PNG: the old one or the new one, whole."""
  png = io.BytesIO()
  figure.savefig(png, format='png', dpi=_DOTS_PER_INCH)
  write_whole(path, png.getvalue())
