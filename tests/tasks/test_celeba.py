"""CelebA: photographs with their attributes, and tables that are checked."""

import numpy as np
import pytest

from metajax.core.validation import InputError
from metajax.tasks.celeba import (
  ATTRIBUTES,
  TESTING_ATTRIBUTES,
  TRAINING_ATTRIBUTES,
  celeba,
)
from tests.tasks.image_writers import encoded, write, write_celeba

PRESENT = np.random.default_rng(0).random((6, 40)) < 0.5
TABLE = 'list_attr_celeba.txt'


@pytest.fixture
def root(tmp_path):
  write_celeba(tmp_path, PRESENT)
  return tmp_path


def refused(root, **arguments):
  with pytest.raises(InputError) as raised:
    celeba(str(root), size=16, **arguments)
  assert len(str(raised.value).splitlines()) == 1
  return str(raised.value)


def test_images_and_attributes_belong_together(root):
  found = celeba(str(root), size=16)
  np.testing.assert_array_equal(found.attributes, PRESENT)
  assert found.images.shape == (6, 16, 16, 3)
  # Each is of one grey, ten levels brighter than the one before.
  levels = np.asarray(found.images).reshape(6, -1).mean(axis=1)
  np.testing.assert_allclose(levels, 10.0 * np.arange(6), atol=1.0)


def test_only_the_first_images(root):
  found = celeba(str(root), size=16, num_images=2)
  np.testing.assert_array_equal(found.attributes, PRESENT[:2])
  assert len(found.images) == 2
  assert 'num_images: expected at most 6' in refused(root, num_images=7)


def test_attributes_to_train_on_and_to_test_on_are_apart():
  assert len(ATTRIBUTES) == len(set(ATTRIBUTES)) == 40
  assert sorted(TRAINING_ATTRIBUTES + TESTING_ATTRIBUTES) == list(range(40))


def test_nothing_named_and_nothing_there(tmp_path):
  assert refused('').startswith(f'data_dir: expected {TABLE} and the folder')
  assert 'mmlab.ie.cuhk.edu.hk' in refused('')
  assert f'{tmp_path}: expected {TABLE}' in refused(tmp_path)


def test_a_missing_image(root):
  path = root / 'img_align_celeba' / '000003.jpg'
  path.unlink()
  assert refused(root).endswith(f'there is no image {path}')


def test_an_image_of_another_size(root):
  path = root / 'img_align_celeba' / '000003.jpg'
  write(path, encoded(np.zeros((10, 10, 3), np.uint8), 'JPEG'))
  assert f'{path}: expected 178 x 218 pixels, got 10 x 10' in refused(root)


@pytest.mark.parametrize(
  ('change', 'expected'),
  [
    (lambda lines: ['7', *lines[1:]], 'line 1: expected the number of images'),
    (
      lambda lines: [lines[0], 'Bald', *lines[2:]],
      'line 2: expected the names',
    ),
    (
      lambda lines: [*lines[:3], lines[3].replace('-1', '0'), *lines[4:]],
      'line 4: expected a name and 40 times 1 or -1',
    ),
    (lambda lines: [*lines[:3], lines[2], *lines[4:]], 'every image once'),
  ],
)
def test_a_table_that_is_wrong(root, change, expected):
  table = root / TABLE
  table.write_text('\n'.join(change(table.read_text().splitlines())) + '\n')
  message = refused(root)
  assert message.startswith(str(table))
  assert expected in message
