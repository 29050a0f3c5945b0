"""Frames in a row."""

import numpy as np
from PIL import Image
import pytest

from metajax.core.validation import InputError
from metajax.run.figures.filmstrips import filmstrip


def test_every_frame_is_in_the_picture(tmp_path):
  path = tmp_path / 'strip.png'
  frames = np.zeros((3, 8, 8, 3), np.uint8)
  frames[0, ..., 0] = frames[1, ..., 1] = frames[2, ..., 2] = 200
  filmstrip(path, {'one': frames, 'two': frames[::-1]}, title='Colours')
  picture = np.asarray(Image.open(path).convert('RGB')).astype(int)
  for channel in range(3):
    others = [c for c in range(3) if c != channel]
    alone = (picture[..., channel] == 200) & (picture[..., others] == 0).all(-1)
    assert alone.mean() > 0.15


def test_rows_must_be_frames_of_one_number(tmp_path):
  path = tmp_path / 'strip.png'
  with pytest.raises(InputError, match='rows: expected at least one'):
    filmstrip(path, {})
  frames = np.zeros((3, 8, 8, 3), np.uint8)
  with pytest.raises(InputError, match=r"'two'\]: expected \[3, height"):
    filmstrip(path, {'one': frames, 'two': frames[:2]})
  with pytest.raises(InputError, match='uint8'):
    filmstrip(path, {'one': frames.astype(float)})
