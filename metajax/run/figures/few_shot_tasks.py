"""The images of one few-shot task, a row a class."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
import numpy as np

from metajax.core.validation import reject
from metajax.run.figures.canvas import INK, save_figure

_INCHES = 0.62  # height of an image
_MOST_COLUMNS = 10


def few_shot_task(
  path: str | Path,
  support: np.ndarray,
  query: np.ndarray,
  *,
  title: str = '',
) -> None:
  """Draws a task: what is learned from, and what is to be told apart.

  Args:
    path: the PNG to write.
    support: [ways, shots, height, width, 1 or 3] float in [0, 1].
    query: [ways, query_shots, height, width, 1 or 3] float in [0, 1].
    title: what the figure shows.

  Raises:
    InputError: if they are not images of the same classes.
  """
  for name, images in (('support', support), ('query', query)):
    if images.ndim != 5 or images.shape[-1] not in (1, 3):
      raise reject(
        name,
        '[ways, shots, height, width, 1 or 3]',
        list(images.shape),
      )
  if len(support) != len(query):
    raise reject('query', f'{len(support)} classes', len(query))
  parts = [images[:, :_MOST_COLUMNS] for images in (support, query)]
  widths = [images.shape[1] for images in parts]
  figure = Figure(
    figsize=(
      _INCHES * (sum(widths) + 1.0) + 0.6,
      _INCHES * len(support) + 0.7,
    ),
    layout='constrained',
  )
  FigureCanvasAgg(figure)
  figure.suptitle(title, color=INK, fontsize=9)
  pair = figure.subplots(1, 2, width_ratios=widths)
  for axes, name, images in zip(pair, ('support', 'query'), parts, strict=True):
    ways, _, height, width, _ = images.shape
    sheet = np.concatenate(np.concatenate(images, axis=2), axis=0)
    axes.imshow(
      sheet.squeeze(-1) if sheet.shape[-1] == 1 else sheet,
      cmap='gray',
      vmin=0.0,
      vmax=1.0,
    )
    axes.set_title(name, color=INK, fontsize=8)
    axes.set_xticks([])
    axes.set_yticks(
      [height * (way + 0.5) for way in range(ways)],
      [str(way) for way in range(ways)] if name == 'support' else [''] * ways,
      fontsize=7,
      color=INK,
    )
    axes.tick_params(length=0)
    for edge in range(1, ways):
      axes.axhline(height * edge - 0.5, color='w', linewidth=0.8)
    for edge in range(1, images.shape[1]):
      axes.axvline(width * edge - 0.5, color='w', linewidth=0.8)
    for side in axes.spines.values():
      side.set_visible(False)
  save_figure(figure, path)
