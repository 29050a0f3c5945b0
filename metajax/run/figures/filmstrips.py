"""Frames in a row, one row an episode."""

from collections.abc import Mapping
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
import numpy as np

from metajax.core.validation import InputError, reject
from metajax.run.figures.canvas import INK, save_figure

_INCHES = 1.5  # height of a frame


def filmstrip(
  path: str | Path, rows: Mapping[str, np.ndarray], *, title: str = ''
) -> None:
  """Draws frames side by side, a named row for each episode.

  Args:
    path: the PNG to write.
    rows: name of a row to `[frames, height, width, 3]` uint8; all rows have as
      many frames.
    title: of the figure.

  Raises:
    InputError: if there is no row, or one is not of that form.
  """
  if not rows:
    raise InputError('rows: expected at least one, got none')
  frames = {name: np.asarray(row) for name, row in rows.items()}
  columns = len(next(iter(frames.values())))
  for name, row in frames.items():
    if row.ndim != 4 or row.shape[0] != columns or row.dtype != np.uint8:
      expected = f'[{columns}, height, width, 3] uint8'
      raise reject(f'rows[{name!r}]', expected, f'{row.shape} {row.dtype}')
  height, width = next(iter(frames.values())).shape[1:3]
  figure = Figure(
    figsize=(
      _INCHES * columns * width / height,
      _INCHES * len(frames) + 0.35,
    ),
    layout='constrained',
  )
  FigureCanvasAgg(figure)
  grid = figure.subplots(len(frames), columns, squeeze=False)
  for cells, (name, row) in zip(grid, frames.items(), strict=True):
    for axes, frame in zip(cells, row, strict=True):
      axes.imshow(frame, interpolation='nearest')
      axes.set_xticks([])
      axes.set_yticks([])
      axes.spines[:].set_visible(False)
    cells[0].set_ylabel(name, color=INK)
  if title:
    figure.suptitle(
      title, x=0.01, ha='left', color=INK, fontsize=12, fontweight='bold'
    )
  save_figure(figure, path)
