"""Where classifiers of the plane draw their lines, beside the true one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.lines import Line2D
import numpy as np

from metajax.run.figures.canvas import (
  INK,
  PALETTE,
  draw_support,
  finish_axes,
  new_figure,
  save_figure,
  title_and_legend,
)


class DecisionBoundaries(NamedTuple):
  """One task in the plane, and what a learner thinks of it.

  Attributes:
    axis: [points] of both inputs, ascending.
    truth: [points, points] bool, what is positive; the first axis is that of
      the second input, as in a picture.
    support: [shots, 2] what the learner was given, all positive.
    samples: [samples, points, points] logits of the classifiers drawn.
    single: [points, points] logits of a learner of one classifier.
  """

  axis: Any
  truth: Any
  support: Any
  samples: Any
  single: Any


def decision_boundaries(
  path: str | Path,
  tasks: Sequence[DecisionBoundaries],
  *,
  title: str = '',
  samples_label: str = 'samples',
  single_label: str = 'MAML',
) -> None:
  """Draws tasks in a row, with the curves on which a class is even odds.

  Args:
    path: the PNG to write.
    tasks: one a panel, at least one.
    title: what the figure shows.
    samples_label: who drew the samples.
    single_label: whose the single classifier is.
  """
  figure, row = new_figure(len(tasks), width=2.9 * len(tasks) + 0.7, height=3.9)
  samples, single = PALETTE[2], PALETTE[0]
  for axes, task in zip(row, tasks, strict=True):
    grid = (task.axis, task.axis)
    truth = np.asarray(task.truth, float)
    axes.contourf(*grid, truth, levels=(0.5, 1.5), colors=[INK], alpha=0.12)
    # Where all logits have one sign there is no curve to draw.
    for logits in np.asarray(task.samples):
      if logits.min() < 0 < logits.max():
        axes.contour(
          *grid, logits, levels=(0,), colors=[samples], linewidths=1.1
        )
    if np.min(task.single) < 0 < np.max(task.single):
      axes.contour(
        *grid, task.single, levels=(0,), colors=[single], linewidths=2.0
      )
    draw_support(axes, *np.asarray(task.support).T)
    axes.set_aspect('equal')
    finish_axes(axes, '', 'first input', '')
  row[0].set_ylabel('second input', color=INK)
  for label, colour in ((samples_label, samples), (single_label, single)):
    row[0].add_line(Line2D([], [], color=colour, label=label))
  title_and_legend(figure, row[0], title)
  save_figure(figure, path)
