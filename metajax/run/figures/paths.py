"""Navigation tasks as a learner meets them: the paths it takes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.ticker import MaxNLocator
import numpy as np

from metajax.run.figures.canvas import (
  INK,
  MUTED,
  PALETTE,
  finish_axes,
  new_figure,
  save_figure,
  title_and_legend,
)


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
    limit: half the side of the square that is shown; None: what holds the
      goals and the adapted paths.
  """
  limit = _limit(fits) if limit is None else limit
  figure, row = new_figure(len(fits), width=2.6 * len(fits) + 0.7, height=3.8)
  for axes, fit in zip(row, fits, strict=True):
    for positions, colour, label, width in (
      (fit.before, MUTED, 'before', 1.1),
      (fit.after, PALETTE[0], 'after adaptation', 1.7),
    ):
      for index, episode in enumerate(np.asarray(positions)):
        axes.plot(
          *episode.T,
          color=colour,
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
    finish_axes(axes, '', 'x', 'y' if axes is row[0] else '')
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit))
    axes.set_box_aspect(1)
    for axis in (axes.xaxis, axes.yaxis):
      axis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 5, 10]))
  title_and_legend(figure, row[0], title)
  save_figure(figure, path)


def _limit(fits: Sequence[PathFit]) -> float:
  """Returns half the side of the square that holds goals and adapted paths."""
  seen = [np.abs(np.asarray(fit.goal)).max() for fit in fits]
  seen += [np.abs(np.asarray(fit.after)).max() for fit in fits]
  return 1.12 * float(max(seen))
