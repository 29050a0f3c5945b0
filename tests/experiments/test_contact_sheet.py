"""The sheets of scenes and teachers, from the command line."""

import numpy as np
from PIL import Image

from tests.experiments.binaries import launch


def draw(*flags):
  return launch('contact_sheet', *flags, timeout_s=300)


def test_scenes_are_drawn_and_what_has_none_is_left_out(tmp_path):
  path = tmp_path / 'scenes.png'
  done = draw('--family=reach2d,navigation', '--size=24', f'--out={path}')
  assert done.returncode == 0, done.stderr
  assert done.stdout.split() == ['reach2d', str(path)]
  pixels = np.asarray(Image.open(path).convert('RGB')).reshape(-1, 3)
  assert len(np.unique(pixels, axis=0)) > 50


def test_teachers_are_drawn(tmp_path):
  path = tmp_path / 'teachers.png'
  done = draw('--teachers', '--family=reach2d', '--size=24', f'--out={path}')
  assert done.returncode == 0, done.stderr
  assert path.stat().st_size > 1000


def test_a_family_without_a_teacher_is_named(tmp_path):
  done = draw('--teachers', '--family=ant_velocity')
  assert done.returncode == 2
  assert '--family: expected one of' in done.stderr
  assert len(done.stderr.strip().splitlines()) == 1
