"""What all figures share."""

import numpy as np

from metajax.run.figures.canvas import (
  INK,
  CurveEnd,
  label_ends,
  new_figure,
  save_figure,
)


def test_a_figure_is_whole_or_not_there(tmp_path):
  figure, _ = new_figure(1, width=3.0, height=2.0)
  save_figure(figure, tmp_path / 'a.png')
  assert [entry.name for entry in tmp_path.iterdir()] == ['a.png']


def test_names_of_curves_that_end_together_stand_apart():
  figure, (axes,) = new_figure(1, width=3.0, height=2.0)
  axes.plot([0, 1], [0, 1])
  label_ends(
    figure, axes, [CurveEnd(name, 1, 1.0, INK) for name in ('a', 'b', 'c')]
  )
  heights = sorted(text.xyann[1] for text in axes.texts)
  assert len(heights) == 3
  assert min(np.diff(heights)) > 12.0  # points
