"""Regression tasks as a learner meets them: truth, support, predictions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from metajax.run.figures.canvas import (
  INK,
  MUTED,
  PALETTE,
  draw_support,
  finish_axes,
  new_figure,
  save_figure,
  title_and_legend,
)


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
  figure, row = new_figure(len(fits), width=2.9 * len(fits) + 0.7, height=3.6)
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
    draw_support(axes, fit.support_inputs, fit.support_targets)
    finish_axes(axes, '', xlabel, ylabel if axes is row[0] else '')
  title_and_legend(figure, row[0], title)
  save_figure(figure, path)


def _shade(index: int, last: int) -> Any:
  """Returns the colour of a stage of adaptation: grey, pale blue, blue."""
  if index == last:
    return PALETTE[0]
  return MUTED if index == 0 else PALETTE[5]
