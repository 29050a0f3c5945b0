"""MiniImagenet: 100 classes of photographs, 600 of each.

Source: the split of Ravi and Larochelle, "Optimization as a Model for
Few-Shot Learning" (2017): 64 classes to train on, 16 to validate, 20 to test.
"""

import csv
import functools
import io
from pathlib import Path

from metajax.core.validation import InputError, check_choice
from metajax.tasks.image_classification import LabelledImages
from metajax.tasks.image_folders import (
  ImageTree,
  check_class_sizes,
  check_size,
  class_folders,
  read_classes,
)

NUM_IMAGES = 600  # of a class

_FOLDERS = {'train': 'train', 'validation': 'val', 'test': 'test'}
_NUM_CLASSES = {'train': 64, 'validation': 16, 'test': 20}
# What has more classes, and yet not all of them, is a damaged copy.
_LARGEST_SAMPLE = 10
_EXPECTED = (
  'expected folders train, val and test of one folder a class, or train.csv, '
  'val.csv and test.csv (filename,label) beside a folder images, as '
  'github.com/twitter-research/meta-learning-lstm splits it'
)

# The names of a class's images, by its name.
_Classes = dict[str, list[str]]


@functools.lru_cache(maxsize=8)
def mini_imagenet(
  data_dir: str, split: str, *, size: int = 84
) -> LabelledImages:
  """Reads the classes of a split.

  Instead of all of its classes, a split may hold a sample of at most 10, with
  as many images as there happen to be.

  Args:
    data_dir: folder with `train`, `val` and `test`, each of one folder of
      images a class; or with `images` and the tables of the split.
    split: 'train' (64 classes), 'validation' (16) or 'test' (20).
    size: height and width in pixels; of an image that is not square the
      middle is kept.

  Returns:
    `LabelledImages` of `[num_images, size, size, 3]` uint8, 600 of each class.

  Raises:
    InputError: if a class, an image or the folder is missing, if a class is
      in two splits, or an image is not as expected.
  """
  check_choice('split', split, list(_FOLDERS))
  check_size(size)
  if not data_dir:
    raise InputError(f'data_dir: {_EXPECTED}; got none')
  root = Path(data_dir).expanduser().absolute()
  if not root.is_dir():
    raise InputError(f'{root}: {_EXPECTED}; it is no folder')
  with ImageTree(root) as tree:
    splits = {name: _classes(tree, name) for name in _FOLDERS}
    _check_disjoint(tree, splits)
    return read_classes(
      list(splits[split].values()),
      lambda name: tree.decode(name, size=size, channels=3, crop=True),
      size=size,
      channels=3,
    )


def _classes(tree: ImageTree, split: str) -> _Classes:
  """Returns the images of a split by class, once there are as many as expected.

  Raises:
    InputError: if there are not.
  """
  name = _FOLDERS[split]
  table = f'{name}.csv'
  if table in tree.files():
    classes = _classes_of_table(tree, table)
  else:
    classes = class_folders(tree, name, _EXPECTED)
  where, expected = tree.describe(name), _NUM_CLASSES[split]
  if len(classes) == expected:
    check_class_sizes(where, classes, NUM_IMAGES)
  elif len(classes) > _LARGEST_SAMPLE:
    raise InputError(
      f'{where}: expected {expected} classes, or a sample of at most '
      f'{_LARGEST_SAMPLE}, got {len(classes)}'
    )
  return classes


def _classes_of_table(tree: ImageTree, table: str) -> _Classes:
  where = tree.describe(table)
  try:
    text = tree.read(table).decode('utf-8')
    rows = list(csv.DictReader(io.StringIO(text, newline='')))
  except (UnicodeDecodeError, csv.Error) as error:
    raise InputError(
      f'{where}: expected a table of filename,label in UTF-8'
    ) from error
  there, met = set(tree.images('images')), set()
  classes: _Classes = {}
  for number, row in enumerate(rows, start=1):
    name, label = row.get('filename'), row.get('label')
    if not name or not label:
      raise InputError(f'{where}, row {number}: expected filename,label')
    path = f'images/{name}'
    if path not in there:
      raise InputError(
        f'{where}, row {number}: there is no image {tree.describe(path)}'
      )
    if path in met:
      raise InputError(f'{where}, row {number}: {name} is listed twice')
    met.add(path)
    classes.setdefault(label, []).append(path)
  if not classes:
    raise InputError(f'{where}: expected rows of filename,label, got none')
  return dict(sorted(classes.items()))


def _check_disjoint(tree: ImageTree, splits: dict[str, _Classes]) -> None:
  """Checks that what is tested on is not what was trained on."""
  met: dict[str, str] = {}
  for split, classes in splits.items():
    for name in classes:
      if name in met:
        raise InputError(
          f'{tree.root}: expected classes of one split each, but {name} is in '
          f'{_FOLDERS[met[name]]} and in {_FOLDERS[split]}'
        )
      met[name] = split
