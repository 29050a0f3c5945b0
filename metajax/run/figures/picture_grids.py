"""Many named pictures on one sheet."""

from collections.abc import Mapping
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
import numpy as np

from metajax.core.validation import InputError, check_count, reject
from metajax.run.figures.canvas import INK, save_figure

_INCHES = 1.05  # height of a picture


def picture_grid(
  path: str | Path, pictures: Mapping[str, np.ndarray], *, num_columns: int
) -> None:
  """Draws pictures in rows, each under its name.

  Args:
    path: the PNG to write.
    pictures: name to `[height, width, 3]` uint8; all have the same size.
    num_columns: pictures side by side.

  Raises:
    InputError: if there is no picture, or one is not of that form.
  """
  if not pictures:
    raise InputError('pictures: expected at least one, got none')
  check_count('num_columns', num_columns)
  shape = np.shape(next(iter(pictures.values())))
  for name, picture in pictures.items():
    if picture.shape != shape or len(shape) != 3 or picture.dtype != np.uint8:
      raise reject(
        f'pictures[{name!r}]',
        f'{[*shape[:2], 3]} uint8',
        f'{list(picture.shape)} {picture.dtype}',
      )
  num_columns = min(num_columns, len(pictures))
  num_rows = -(-len(pictures) // num_columns)
  figure = Figure(
    figsize=(
      _INCHES * num_columns * shape[1] / shape[0],
      (_INCHES + 0.2) * num_rows,
    ),
    layout='constrained',
  )
  FigureCanvasAgg(figure)
  cells = list(figure.subplots(num_rows, num_columns, squeeze=False).flat)
  for axes in cells:
    axes.set_axis_off()
  for axes, (name, picture) in zip(cells, pictures.items(), strict=False):
    axes.imshow(picture, interpolation='nearest')
    axes.set_title(name, color=INK, fontsize=7, loc='left', pad=2)
  save_figure(figure, path)
