"""Several functions that a learner holds possible, beside the true one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

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


class SampledFunctions(NamedTuple):
  """One regression task, and what a learner thinks of it.

  Attributes:
    inputs: [points] where the functions are drawn, ascending.
    truth: [points] the task's own function.
    support_inputs: [shots] what the learner was given.
    support_targets: [shots] and the answers.
    samples: [samples, points] the functions that were drawn.
    single: [points] what a learner of one function says.
    title: what the task is.
  """

  inputs: Any
  truth: Any
  support_inputs: Any
  support_targets: Any
  samples: Any
  single: Any
  title: str = ''


def sampled_functions(
  path: str | Path,
  tasks: Sequence[SampledFunctions],
  *,
  title: str = '',
  samples_label: str = 'samples',
  single_label: str = 'MAML',
) -> None:
  """Draws tasks in a row: the truth, the samples, a single function, support.

  Args:
    path: the PNG to write.
    tasks: one a panel, at least one.
    title: what the figure shows.
    samples_label: who drew the samples.
    single_label: whose the single function is.
  """
  figure, row = new_figure(len(tasks), width=2.9 * len(tasks) + 0.7, height=3.6)
  for axes, task in zip(row, tasks, strict=True):
    for index, values in enumerate(np.asarray(task.samples)):
      axes.plot(
        task.inputs,
        values,
        color=PALETTE[2],
        alpha=0.55,
        linewidth=1.1,
        linestyle='--',
        label=samples_label if index == 0 else None,
      )
    axes.plot(
      task.inputs,
      task.single,
      color=PALETTE[0],
      linewidth=1.8,
      label=single_label,
    )
    axes.plot(
      task.inputs, task.truth, color=INK, linewidth=1.6, label='true function'
    )
    draw_support(axes, task.support_inputs, task.support_targets)
    finish_axes(axes, task.title, 'x', 'y' if axes is row[0] else '')
  title_and_legend(figure, row[0], title)
  save_figure(figure, path)
