"""What all figures share."""

import numpy as np

from metajax.run.figures.canvas import (
  INK,
  CurveEnd,
  label_ends,
  new_figure,
  save_figure,
  title_and_legend,
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


def test_names_of_curves_that_end_at_the_top_do_not_leave_the_axes():
  figure, (axes,) = new_figure(1, width=3.0, height=2.0)
  axes.plot([0, 1], [0, 1])
  axes.set_ylim(0, 1)
  ends = [CurveEnd(name, 1, 1.0, INK) for name in 'abc']
  label_ends(figure, axes, [*ends, CurveEnd('low', 1, 0.1, INK)])
  heights = [text.xyann[1] for text in axes.texts]
  np.testing.assert_allclose(heights, [0.0, -32.5, -19.5, -6.5], atol=1e-6)


def test_a_long_title_keeps_within_a_narrow_figure():
  figure, (axes,) = new_figure(1, width=3.0, height=3.0)
  axes.plot([0, 1], [0, 1], label='a')
  title_and_legend(figure, axes, 'What it does in the course of an episode')
  figure.draw_without_rendering()
  (title,) = figure.texts
  assert title.get_window_extent().x1 <= figure.bbox.x1


def test_a_legend_of_two_rows_reads_row_by_row():
  figure, (axes,) = new_figure(1, width=12.0, height=3.0)
  for name in 'abcdef':
    axes.plot([0, 1], [0, 1], label=name)
  title_and_legend(figure, axes, '')
  figure.draw_without_rendering()
  (legend,) = figure.legends
  corners = {
    text.get_text(): text.get_window_extent().corners()[0]
    for text in legend.get_texts()
  }
  assert len({round(y) for _, y in corners.values()}) == 2
  read = sorted(
    corners, key=lambda name: (-round(corners[name][1]), corners[name][0])
  )
  assert ''.join(read) == 'abcdef'
