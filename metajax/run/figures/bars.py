"""Bars: one group a condition, one bar a method, with 95 % intervals."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from metajax.core.validation import InputError
from metajax.run.figures.canvas import (
  INK,
  colours,
  finish_axes,
  new_figure,
  save_figure,
  title_and_legend,
)

_GROUP_WIDTH = 0.82


def bars(
  path: str | Path,
  groups: Mapping[str, Mapping[str, tuple[float, float]]],
  *,
  title: str = '',
  ylabel: str = '',
) -> None:
  """Draws groups of bars, the methods in the same order in each.

  Args:
    path: the picture, `.png`.
    groups: condition to method to (mean, half-width of the 95 % interval). A
      method that a condition lacks leaves its place empty there.
    title: of the figure.
    ylabel: what is measured.

  Raises:
    InputError: if there is nothing to draw.
  """
  methods = list(
    dict.fromkeys(name for group in groups.values() for name in group)
  )
  if not methods:
    raise InputError('groups: expected at least one bar, got none')
  width = _GROUP_WIDTH / len(methods)
  figure, (axes,) = new_figure(
    1, width=2.2 + 0.32 * len(methods) * len(groups), height=4.0
  )
  for place, (method, colour) in enumerate(
    zip(methods, colours(), strict=False)
  ):
    at = [i for i, group in enumerate(groups.values()) if method in group]
    cells = np.array(
      [group[method] for group in groups.values() if method in group], float
    )
    offset = (place - (len(methods) - 1) / 2) * width
    axes.bar(
      np.array(at) + offset,
      cells[:, 0],
      0.9 * width,
      yerr=cells[:, 1],
      color=colour,
      ecolor=INK,
      error_kw={'elinewidth': 1.0},
      label=method,
    )
  axes.axhline(0.0, color=INK, linewidth=0.8)
  finish_axes(axes, '', '', ylabel)
  axes.grid(False, axis='x')
  axes.set_xticks(range(len(groups)), list(groups), color=INK)
  title_and_legend(figure, axes, title)
  save_figure(figure, path)
