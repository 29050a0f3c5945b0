"""Omniglot is read to the pixel, split by character, and checked whole."""

import io
import shutil

import numpy as np
from PIL import Image
import pytest

from metajax.core.validation import InputError
from metajax.tasks.omniglot import omniglot
from tests.tasks.image_writers import (
  encoded,
  omniglot_drawing,
  write,
  write_omniglot,
)

FIRST = 'images_background/Alphabet_0/character01'


@pytest.fixture
def root(tmp_path):
  write_omniglot(tmp_path)
  return tmp_path


def refused(root, split='train', **arguments):
  with pytest.raises(InputError) as raised:
    omniglot(str(root), split, **arguments)
  assert len(str(raised.value).splitlines()) == 1
  return str(raised.value)


def shrunk(character, drawing, size):
  """Returns a drawing as Pillow alone makes it small, ink 255 on 0."""
  image = Image.open(io.BytesIO(omniglot_drawing(character, drawing)))
  image = image.convert('L').resize((size, size), Image.Resampling.LANCZOS)
  return 255 - np.asarray(image)[..., None]


def characters_of(found, size=105):
  """Tells from the pixels which character each class is."""
  top = np.asarray(found.images).reshape(-1, 20, size, size)[:, 0, 0]
  return [int(np.flatnonzero(row)[0]) - 5 for row in top]


def test_every_character_is_in_one_split(root):
  splits = {
    split: omniglot(str(root), split, size=105)
    for split in ('train', 'validation', 'test')
  }
  met = sum((characters_of(found) for found in splits.values()), [])
  assert sorted(met) == list(range(16))
  # The shares of 1100, 100 and 423.
  assert [len(found.count) for found in splits.values()] == [11, 1, 4]
  for found in splits.values():
    np.testing.assert_array_equal(found.count, 20)


def test_drawings_are_those_of_pillow(root):
  found = omniglot(str(root), 'test', size=28)
  whole = omniglot(str(root), 'test', size=105)
  for index, character in enumerate(characters_of(whole)):
    for drawing in (0, 19):
      np.testing.assert_array_equal(
        found.images[20 * index + drawing], shrunk(character, drawing, 28)
      )


def test_archives_are_read_as_folders_are(root, tmp_path):
  zipped = tmp_path / 'zipped'
  write_omniglot(zipped, zipped=True)
  np.testing.assert_array_equal(
    omniglot(str(zipped), 'train').images, omniglot(str(root), 'train').images
  )


def test_another_seed_shuffles_otherwise(root):
  orders = [
    characters_of(omniglot(str(root), 'train', size=105, seed=seed))
    for seed in (0, 1)
  ]
  assert orders[0] != orders[1]


# ------------------------------------------------------------ what is refused


def test_nothing_named_and_nothing_there(tmp_path):
  message = refused('')
  assert message.startswith('data_dir: expected images_background and')
  assert 'github.com/brendenlake/omniglot' in message
  assert f'{tmp_path}: expected images_background' in refused(tmp_path)
  write_omniglot(tmp_path)
  shutil.rmtree(tmp_path / 'images_evaluation')
  assert 'there is no images_evaluation' in refused(tmp_path)


def test_a_missing_character(root):
  shutil.rmtree(root / 'images_background/Alphabet_1/character02')
  message = refused(root)
  assert f'{root}/images_background/Alphabet_1: expected' in message
  assert 'none called character02' in message


def test_a_missing_drawing(root):
  (root / FIRST / '0000_07.png').unlink()
  message = refused(root)
  assert f'{root}/images_background/Alphabet_0: expected 20' in message
  assert 'character01, got 19' in message


def test_a_drawing_of_another_size(root):
  for path in root.rglob('*_07.png'):
    write(path, encoded(np.full((28, 28), 255, np.uint8)))
  message = refused(root)
  assert '_07.png: expected 105 x 105 pixels, got 28 x 28' in message


def test_light_ink_on_a_dark_ground(root):
  for path in root.rglob('*_01.png'):
    write(path, encoded(np.zeros((105, 105), np.uint8)))
  assert 'expected dark ink on a light ground' in refused(root)


def test_a_truncated_drawing(root):
  for path in root.rglob('*_01.png'):
    write(path, path.read_bytes()[:60])
  message = refused(root)
  assert '_01.png: expected a whole PNG or JPEG image' in message


def test_neither_whole_nor_a_sample(tmp_path):
  write_omniglot(tmp_path, characters=(60, 60))
  assert 'expected 1623 characters, or a sample' in refused(tmp_path)


def test_unknown_split(root):
  assert refused(root, 'val').startswith('split: expected')
