"""Histograms that are to be compared: one above the other, on one axis."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from metajax.core.validation import InputError
from metajax.run.figures.canvas import (
  colours,
  finish_axes,
  new_figure,
  save_figure,
  title_and_legend,
  use_log_scale,
)

_NUM_BINS = 40


def histograms(
  path: str | Path,
  panels: Mapping[str, Mapping[str, Sequence[float]]],
  *,
  title: str = '',
  xlabel: str = '',
) -> None:
  """Draws a row of panels, each with several histograms on a log axis.

  Args:
    path: the picture, `.png`.
    panels: title of a panel to name of a histogram to its values, > 0; what is
      not finite or not positive is left out.
    title: of the figure.
    xlabel: what is measured.

  Raises:
    InputError: if a panel has nothing to draw.
  """
  figure, row = new_figure(len(panels), width=3.4 * len(panels), height=3.2)
  for axes, (name, values) in zip(row, panels.items(), strict=True):
    kept = {
      label: np.asarray(given, float).ravel() for label, given in values.items()
    }
    kept = {
      label: given[np.isfinite(given) & (given > 0)]
      for label, given in kept.items()
    }
    everything = np.concatenate(list(kept.values()) or [np.zeros(0)])
    if not everything.size:
      raise InputError(f'panels[{name!r}]: expected positive values, got none')
    low, high = everything.min(), everything.max() * (1 + 1e-6)
    edges = np.geomspace(low, max(high, low * 1.01), _NUM_BINS + 1)
    for (label, given), colour in zip(kept.items(), colours(), strict=False):
      axes.hist(given, edges, color=colour, alpha=0.55, label=label)
      if given.size:
        axes.axvline(np.median(given), color=colour, linewidth=1.5)
    use_log_scale(axes, 'x')
    finish_axes(axes, name, xlabel, 'windows' if axes is row[0] else '')
  title_and_legend(figure, row[-1], title)
  save_figure(figure, path)
