"""A sheet of pictures, as it lies on disk."""

import matplotlib.image
import numpy as np
import pytest

from metajax.core.validation import InputError
from metajax.run.figures.picture_grids import picture_grid


def test_every_picture_is_on_the_sheet(tmp_path):
  colours = np.array(
    [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0), (0, 250, 250)],
    np.uint8,
  )
  pictures = {
    f'scene {i}': np.broadcast_to(colour, (8, 16, 3)).copy()
    for i, colour in enumerate(colours)
  }
  picture_grid(tmp_path / 'sheet.png', pictures, num_columns=3)
  drawn = matplotlib.image.imread(tmp_path / 'sheet.png')[..., :3]
  for colour in colours:
    here = (np.abs(drawn - colour / 255.0) < 0.02).all(axis=-1)
    rows, columns = np.nonzero(here)
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert width == pytest.approx(2 * height, rel=0.1)
    assert here.sum() > 0.95 * height * width


@pytest.mark.parametrize(
  ('pictures', 'message'),
  [
    ({}, 'pictures: expected at least one'),
    ({'a': np.zeros((4, 4, 3))}, r"pictures\['a'\]: expected .*uint8"),
    (
      {'a': np.zeros((4, 4, 3), np.uint8), 'b': np.zeros((4, 5, 3), np.uint8)},
      r"pictures\['b'\]: expected \[4, 4, 3\] uint8, got '\[4, 5, 3\] uint8'",
    ),
  ],
)
def test_what_is_no_picture_is_named(tmp_path, pictures, message):
  with pytest.raises(InputError, match=message):
    picture_grid(tmp_path / 'sheet.png', pictures, num_columns=2)
  assert not (tmp_path / 'sheet.png').exists()
