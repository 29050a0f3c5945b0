"""Pages, pictures and moving pictures of motions."""

import base64
import html.parser
import json
import pathlib
import re
import shutil
import subprocess

import numpy as np
from PIL import Image
import pytest

from metajax.core.motion import SHAPES, Motion
from metajax.core.validation import InputError
from metajax.run.videos import (
  write_motion_gif,
  write_motion_image,
  write_motion_page,
)


def rolling(num_frames=5):
  """One of each shape, drifting along x."""
  poses = np.zeros((num_frames, len(SHAPES), 7), np.float32)
  poses[..., 3] = 1.0
  drift = np.linspace(0, 1, num_frames)
  for i in range(1, len(SHAPES)):
    poses[:, i, 0] = 0.8 * (i - 3) + drift
    poses[:, i, 2] = 0.4
  focus = np.stack([drift, 0 * drift, 0 * drift + 0.4], axis=-1)
  return Motion(
    shapes=SHAPES,
    sizes=np.tile(np.float32([0.15, 0.2, 0.1]), (len(SHAPES), 1)),
    colours=np.tile(np.float32([0.9, 0.1, 0.1, 1.0]), (len(SHAPES), 1)),
    poses=poses,
    focus=focus.astype(np.float32),
    eye=np.float32([0.0, -4.0, 1.0]),
    frame_period_s=0.05,
  )


class Page(html.parser.HTMLParser):
  """Collects the tags of a page and the text of its scripts."""

  def __init__(self, text):
    super().__init__()
    self.tags, self.scripts, self.in_script = [], [], False
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))
    self.in_script = tag == 'script'

  def handle_data(self, data):
    if self.in_script:
      self.scripts.append(data)
      self.in_script = False


def test_the_page_holds_all_that_it_needs(tmp_path):
  path = tmp_path / 'videos' / 'page.html'
  caption = '</script><b> "quoted" & $TITLE'
  motion = rolling()
  write_motion_page(path, {caption: motion}, title='Before & <after>')
  text = path.read_text()
  page = Page(text)
  assert not any(
    {'src', 'href'} & attributes.keys() for _, attributes in page.tags
  )
  assert not re.search(r'https?://|\bimport\b|fetch\(', text)
  assert '<h1>Before &amp; &lt;after&gt;</h1>' in text
  (data,) = json.loads(page.scripts[0])
  assert data['caption'] == caption
  poses = np.frombuffer(base64.b64decode(data['poses']), '<f4')
  np.testing.assert_array_equal(poses, motion.poses.ravel())


@pytest.mark.skipif(not shutil.which('chromium'), reason='needs a browser')
def test_the_page_draws_in_a_browser(tmp_path):
  """The camera follows, so that red shapes stand in the middle of the view."""
  page, picture = tmp_path / 'page.html', tmp_path / 'page.png'
  write_motion_page(page, {'rolling': rolling()})
  subprocess.run(
    [
      'chromium',
      '--headless',
      '--no-sandbox',
      '--use-gl=angle',
      '--use-angle=swiftshader',
      '--enable-unsafe-swiftshader',
      '--window-size=640,480',
      '--virtual-time-budget=3000',
      f'--user-data-dir={tmp_path / "browser"}',
      f'--screenshot={picture}',
      f'{page.as_uri()}#t=0.2',
    ],
    check=True,
    timeout=60,
    capture_output=True,
  )
  with Image.open(picture) as image:
    pixels = np.asarray(image.convert('RGB')).astype(int)
  red = (pixels[..., 0] > 110) & (pixels[..., 1] < 90) & (pixels[..., 2] < 90)
  assert red.sum() > 500
  assert abs(np.nonzero(red)[1].mean() - 320) < 60


def test_the_picture_shows_each_motion(tmp_path):
  path = tmp_path / 'figures' / 'motions.png'
  write_motion_image(path, {'one': rolling(), 'two': rolling(1)}, num_poses=3)
  with Image.open(path) as image:
    pixels = np.asarray(image.convert('RGB')).astype(int)
  red = pixels[..., 0] - pixels[..., 1] > 100
  middle = len(red) // 2
  assert red[:middle].any()
  assert red[middle:].any()


def test_the_moving_picture_keeps_time(tmp_path):
  path = tmp_path / 'motion.gif'
  write_motion_gif(path, {'one': rolling()}, frames_per_s=10)
  with Image.open(path) as image:
    # Frames at 0.0, 0.1 and 0.2 s.
    assert (image.n_frames, image.info['duration']) == (3, 100)


@pytest.mark.parametrize(
  'write', [write_motion_page, write_motion_image, write_motion_gif]
)
@pytest.mark.parametrize(
  ('motions', 'message'),
  [
    ({}, 'motions: expected at least one'),
    ({'a': rolling()._replace(focus=np.zeros((4, 3)))}, "'a'.*poses.*shape"),
    ({'a': rolling()._replace(shapes=('mesh',) * 6)}, "'a'.*shapes: .*mesh"),
    (
      {'a': rolling()._replace(poses=rolling().poses * np.nan)},
      "'a'.*poses: expected finite",
    ),
  ],
)
def test_malformed_motions_are_named(tmp_path, write, motions, message):
  with pytest.raises(InputError, match=message):
    write(tmp_path / 'out', motions)
  assert not pathlib.Path(tmp_path / 'out').exists()
