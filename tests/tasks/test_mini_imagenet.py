"""MiniImagenet is read by folder or by table, and its splits are apart."""

import io
import shutil

import numpy as np
from PIL import Image
import pytest

from metajax.core.validation import InputError
from metajax.tasks.mini_imagenet import mini_imagenet
from tests.tasks.image_writers import encoded, noise, write, write_mini_imagenet


@pytest.fixture
def root(tmp_path):
  write_mini_imagenet(tmp_path)
  return tmp_path


def refused(root, split='train'):
  with pytest.raises(InputError) as raised:
    mini_imagenet(str(root), split, size=16)
  assert len(str(raised.value).splitlines()) == 1
  return str(raised.value)


def pixels(index, image):
  content = encoded(noise(16, 1000 * index + image), 'JPEG')
  return np.asarray(Image.open(io.BytesIO(content)).convert('RGB'))


def test_splits_hold_their_classes_and_no_others(root):
  first = 0
  for split, number in (('train', 6), ('validation', 5), ('test', 5)):
    found = mini_imagenet(str(root), split, size=16)
    np.testing.assert_array_equal(found.count, [4] * number)
    expected = [
      pixels(first + index, image)
      for index in range(number)
      for image in range(4)
    ]
    np.testing.assert_array_equal(found.images, expected)
    first += number


def test_tables_are_read_as_folders_are(root, tmp_path):
  other = tmp_path / 'tables'
  write_mini_imagenet(other, tables=True)
  np.testing.assert_array_equal(
    mini_imagenet(str(other), 'test', size=16).images,
    mini_imagenet(str(root), 'test', size=16).images,
  )


def test_images_are_resized_to_84_pixels(root):
  found = mini_imagenet(str(root), 'test')
  assert found.images.shape == (20, 84, 84, 3)


# ------------------------------------------------------------ what is refused


def test_nothing_named_and_nothing_there(root):
  message = refused('')
  assert message.startswith('data_dir: expected folders train, val and test')
  assert 'github.com/twitter-research/meta-learning-lstm' in message
  assert 'it is no folder' in refused(root / 'none')
  shutil.rmtree(root / 'val')
  assert f'{root}/val: expected folders train, val and test' in refused(root)


def test_a_class_in_two_splits(root):
  name = 'n00000000'
  shutil.copytree(root / 'train' / name, root / 'test' / name)
  message = refused(root)
  assert f'{name} is in train and in test' in message


def test_too_many_classes_for_a_sample_and_too_few_for_the_whole(tmp_path):
  write_mini_imagenet(tmp_path, classes=(12, 5, 5), images=1)
  message = refused(tmp_path)
  assert f'{tmp_path}/train: expected 64 classes, or a sample' in message


def test_too_few_images_in_a_class_of_the_whole(tmp_path):
  write_mini_imagenet(tmp_path, classes=(64, 5, 5), images=1)
  message = refused(tmp_path)
  assert f'{tmp_path}/train: expected 600 images of n00000000' in message


def test_a_truncated_image(root):
  path = root / 'train' / 'n00000002' / 'n0000000200000001.jpg'
  write(path, path.read_bytes()[:200])
  assert f'{path}: expected a whole PNG or JPEG image' in refused(root)


def test_tables_that_are_wrong(tmp_path):
  write_mini_imagenet(tmp_path, tables=True)
  table = tmp_path / 'train.csv'
  rows = table.read_text().splitlines()
  for content, expected in (
    ([rows[0], 'none.jpg,n00000000'], 'row 1: there is no image'),
    ([*rows, rows[1]], 'is listed twice'),
    (['a,b', '1,2'], 'row 1: expected filename,label'),
    ([rows[0]], 'expected rows of filename,label, got none'),
  ):
    table.write_text('\n'.join(content) + '\n')
    message = refused(tmp_path)
    assert message.startswith(str(table))
    assert expected in message
  table.write_bytes(b'\xff\xfe\x00')
  assert 'in UTF-8' in refused(tmp_path)
