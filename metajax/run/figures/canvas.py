"""What all figures share: colours, axes, bands, names of curves, the file.

Figures are drawn without a display and without global state. Where there is
room, curves are named at their ends, and a band is always a 95 % interval.
"""

from collections.abc import Iterator, Sequence
import io
import itertools
import math
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
import numpy as np
from numpy.typing import ArrayLike

from metajax.core.durable_files import write_whole

# Told apart by people who see fewer colours, too (Okabe and Ito 2008; the last
# of Tol 2021).
PALETTE = (
  '#0072B2',  # blue
  '#D55E00',  # vermilion
  '#009E73',  # green
  '#CC79A7',  # purple
  '#E69F00',  # orange
  '#56B4E9',  # sky
  '#6B6B76',  # grey
  '#F0E442',  # yellow
  '#882255',  # wine
)
INK = '#2B2B33'
MUTED = '#8A8A94'

_GRID = '#E6E6EA'
_DOTS_PER_INCH = 150
_LEGEND_COLUMNS = 4
_INCHES_A_LEGEND_COLUMN = 2.0
_NAME_HEIGHT = 13.0  # points


class CurveEnd(NamedTuple):
  """Where a drawn curve ends.

  Attributes:
    name: of the curve.
    x: its last step.
    y: its last value.
    colour: its colour.
  """

  name: str
  x: float
  y: float
  colour: str


def new_figure(
  columns: int, *, width: float, height: float
) -> tuple[Figure, list[Axes]]:
  """Returns a figure, and its row of axes, which share their vertical axis.

  Args:
    columns: axes in the row.
    width: inches.
    height: inches.
  """
  figure = Figure(figsize=(width, height), layout='constrained')
  FigureCanvasAgg(figure)
  grid = figure.subplots(1, columns, sharey=columns > 1, squeeze=False)
  return figure, list(grid[0])


def colours(start: int = 0) -> Iterator[str]:
  """Yields the palette's colours from a place on, over and over."""
  return itertools.islice(itertools.cycle(PALETTE), start, None)


def draw_support(axes: Axes, first: ArrayLike, second: ArrayLike) -> None:
  """Marks the points that a learner was given: [shots] of each coordinate."""
  axes.plot(
    first,
    second,
    linestyle='none',
    marker='^',
    markersize=7.5,
    color=PALETTE[4],
    markeredgecolor='white',
    markeredgewidth=0.8,
    zorder=5,
    label='support',
  )


def finish_axes(axes: Axes, title: str, xlabel: str, ylabel: str) -> None:
  """Gives axes their title and names, a faint grid and no frame."""
  axes.set_title(title, loc='left', color=INK, fontsize=12, fontweight='bold')
  axes.set_xlabel(xlabel, color=INK)
  axes.set_ylabel(ylabel, color=INK)
  axes.grid(True, color=_GRID, linewidth=0.8)
  axes.set_axisbelow(True)
  axes.tick_params(colors=MUTED, labelcolor=INK, length=0)
  axes.spines[['top', 'right']].set_visible(False)
  axes.spines[['left', 'bottom']].set_color(_GRID)


def title_and_legend(figure: Figure, axes: Axes, title: str) -> None:
  """Puts one legend under a row of axes that share their meaning."""
  if title:
    figure.suptitle(
      title,
      x=0.01,
      ha='left',
      color=INK,
      fontsize=12,
      fontweight='bold',
      wrap=True,
    )
  handles, labels = axes.get_legend_handles_labels()
  that_fit = max(1, int(figure.get_figwidth() / _INCHES_A_LEGEND_COLUMN))
  ncols = max(1, min(len(labels), _LEGEND_COLUMNS, that_fit))
  # A legend is filled column by column, and read row by row.
  order = [
    place
    for column in range(ncols)
    for place in range(column, len(labels), ncols)
  ]
  figure.legend(
    [handles[place] for place in order],
    [labels[place] for place in order],
    loc='outside lower center',
    ncols=ncols,
    frameon=False,
    labelcolor=INK,
  )


def draw_band(
  axes: Axes,
  steps: np.ndarray,
  mean: np.ndarray,
  half_width: np.ndarray,
  colour: str,
) -> None:
  """Shades a 95 % interval: [n] steps, their means and half-widths."""
  axes.fill_between(
    steps,
    mean - half_width,
    mean + half_width,
    color=colour,
    alpha=0.16,
    linewidth=0,
  )


def label_ends(figure: Figure, axes: Axes, ends: Sequence[CurveEnd]) -> None:
  """Writes each curve's name behind its end, moved apart where they meet."""
  shown = [end for end in ends if math.isfinite(end.y)]
  if not shown:
    return
  figure.draw_without_rendering()
  to_points = 72 / figure.dpi
  shown.sort(key=lambda end: (end.x, end.y))
  for _, together in itertools.groupby(shown, key=lambda end: end.x):
    group = list(together)
    points = axes.transData.transform([(end.x, end.y) for end in group])
    heights = points[:, 1] * to_points
    top = axes.bbox.y1 * to_points - 0.5 * _NAME_HEIGHT
    apart = _apart(heights, highest=top)
    for end, height, wanted in zip(group, heights, apart, strict=True):
      axes.annotate(
        end.name,
        (end.x, end.y),
        xytext=(8, wanted - height),
        textcoords='offset points',
        color=end.colour,
        va='center',
        fontweight='bold',
        annotation_clip=False,
      )


def _apart(heights: Sequence[float], *, highest: float) -> list[float]:
  """Moves ascending heights apart, up, or down where there is no more room."""
  apart, lowest = [], -math.inf
  for height in heights:
    apart.append(max(height, lowest))
    lowest = apart[-1] + _NAME_HEIGHT
  for index in reversed(range(len(apart))):
    apart[index] = min(apart[index], highest)
    highest = apart[index] - _NAME_HEIGHT
  return apart


def use_log_scale(axes: Axes, which: str = 'y') -> None:
  """Makes the axis `x` or `y` logarithmic, with plain numbers at 1, 2 and 5."""
  axes.set(**{f'{which}scale': 'log'})
  axis = axes.xaxis if which == 'x' else axes.yaxis
  axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
  axis.set_major_formatter(lambda value, place: f'{value:g}')
  axis.set_minor_locator(NullLocator())


def save_figure(figure: Figure, path: str | Path) -> None:
  """Writes the PNG: the old one or the new one, whole."""
  png = io.BytesIO()
  figure.savefig(png, format='png', dpi=_DOTS_PER_INCH)
  write_whole(path, png.getvalue())
