"""Videos, read back."""

import subprocess

import numpy as np
from PIL import Image
import pytest

from metajax.core.validation import InputError
from metajax.run.frames import write_frames


def colours():
  """Four frames, each of one colour."""
  frames = np.zeros((4, 16, 24, 3), np.uint8)
  frames[0, ..., 0] = frames[1, ..., 1] = frames[2, ..., 2] = 200
  frames[3] = 120
  return frames


def test_a_gif_has_the_frames_and_their_time(tmp_path):
  write_frames(tmp_path / 'film.gif', colours(), frames_per_s=10.0)
  with Image.open(tmp_path / 'film.gif') as film:
    assert film.n_frames == 4
    assert film.info['duration'] == 100
    for i, frame in enumerate(colours()):
      film.seek(i)
      np.testing.assert_allclose(
        np.asarray(film.convert('RGB'), int), frame, atol=8
      )


def test_an_mp4_has_the_frames(tmp_path):
  ffmpeg = pytest.importorskip('imageio_ffmpeg')
  write_frames(tmp_path / 'film.mp4', colours(), frames_per_s=10.0)
  path = tmp_path / 'film.mp4'
  decode = ['-loglevel', 'error', '-i', str(path), '-f', 'rawvideo']
  done = subprocess.run(
    [ffmpeg.get_ffmpeg_exe(), *decode, '-pix_fmt', 'rgb24', '-'],
    capture_output=True,
    check=True,
  )
  read = np.frombuffer(done.stdout, np.uint8).reshape(4, 16, 24, 3)
  means = [frame.mean((0, 1)) for frame in read]
  np.testing.assert_allclose(means, colours().mean((1, 2)), atol=25)


@pytest.mark.parametrize(
  ('name', 'frames', 'rate', 'message'),
  [
    ('film.avi', colours(), 10.0, 'path: expected a name that ends in .gif'),
    ('film.gif', colours()[0], 10.0, 'frames: expected'),
    ('film.gif', colours()[:0], 10.0, 'frames: expected'),
    ('film.gif', colours().astype(float), 10.0, 'frames: expected'),
    ('film.gif', colours(), 0.0, 'frames_per_s: expected'),
    ('film.mp4', colours()[:, :15], 10.0, 'frames: expected even'),
  ],
)
def test_what_cannot_be_a_video_is_named(tmp_path, name, frames, rate, message):
  with pytest.raises(InputError, match=message):
    write_frames(tmp_path / name, frames, frames_per_s=rate)
  assert not list(tmp_path.iterdir())
