"""CelebA: 202,599 photographs of faces, with 40 attributes each.

Source: Liu, Luo, Wang and Tang, "Deep Learning Face Attributes in the Wild"
(2015).
"""

import functools
from pathlib import Path
from typing import NamedTuple

from jax import Array
import jax.numpy as jnp
import numpy as np

from metajax.core.validation import InputError, check_count
from metajax.tasks.image_folders import ImageTree, check_size

# As they are listed. The first 30 serve training, the others meta-test (Finn
# 2018, the appendix of chapter 6).
ATTRIBUTES = (
  '5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs '
  'Big_Lips Big_Nose Black_Hair Blond_Hair Blurry Brown_Hair Bushy_Eyebrows '
  'Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup '
  'High_Cheekbones Male Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard '
  'Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks Sideburns '
  'Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat '
  'Wearing_Lipstick Wearing_Necklace Wearing_Necktie Young'
).split()
TRAINING_ATTRIBUTES = tuple(range(30))
TESTING_ATTRIBUTES = tuple(range(30, 40))

_TABLE = 'list_attr_celeba.txt'
_FOLDER = 'img_align_celeba'
_WIDTH, _HEIGHT = 178, 218
_MAX_TABLE_BYTES = 64 * 2**20
_EXPECTED = (
  f'expected {_TABLE} and the folder {_FOLDER} of aligned and cropped images, '
  'as mmlab.ie.cuhk.edu.hk/projects/CelebA.html has them'
)


class AttributeImages(NamedTuple):
  """Images and what is to be seen on them, as they lie on the device.

  Attributes:
    images: [num_images, height, width, channels] uint8.
    attributes: [num_images, num_attributes] bool.
  """

  images: Array
  attributes: Array


@functools.lru_cache(maxsize=2)
def celeba(
  data_dir: str, *, size: int = 84, num_images: int | None = None
) -> AttributeImages:
  """Reads photographs and their attributes.

  All of them take 4 GB at the size of 84 pixels.

  Args:
    data_dir: folder with `list_attr_celeba.txt` and `img_align_celeba`.
    size: height and width in pixels that the middle square of a photograph is
      resized to.
    num_images: only so many of them, the first. None: all.

  Returns:
    `AttributeImages` of `[num_images, size, size, 3]` uint8, whose attributes
    are in the order of `ATTRIBUTES`.

  Raises:
    InputError: if the table or an image is missing or not as expected.
  """
  check_size(size)
  if num_images is not None:
    check_count('num_images', num_images)
  if not data_dir:
    raise InputError(f'data_dir: {_EXPECTED}; got none')
  root = Path(data_dir).expanduser().absolute()
  if not (root / _TABLE).is_file() or not (root / _FOLDER).is_dir():
    raise InputError(f'{root}: {_EXPECTED}; they are not there')
  with ImageTree(root) as tree:
    names, attributes = _read_table(tree)
    if num_images is not None and num_images > len(names):
      raise InputError(
        f'num_images: expected at most {len(names)}, those of {root}, got '
        f'{num_images}'
      )
    names = names[:num_images]
    there = set(tree.images(_FOLDER))
    for name in names:
      if name not in there:
        raise InputError(
          f'{tree.describe(_TABLE)}: there is no image {tree.describe(name)}'
        )
    images = np.empty((len(names), size, size, 3), np.uint8)
    for index, name in enumerate(names):
      images[index] = tree.decode(
        name, size=size, channels=3, crop=True, expected=(_WIDTH, _HEIGHT)
      )
  return AttributeImages(
    jnp.asarray(images), jnp.asarray(attributes[: len(names)])
  )


def _read_table(tree: ImageTree) -> tuple[list[str], np.ndarray]:
  """Returns the names of the images, and `[images, 40]` bool."""
  where = tree.describe(_TABLE)
  try:
    text = tree.read(_TABLE, max_bytes=_MAX_TABLE_BYTES).decode('ascii')
  except UnicodeDecodeError as error:
    raise InputError(f'{where}: expected a table in ASCII') from error
  number, header, *rows = [*text.splitlines(), '', ''][: text.count('\n') + 2]
  if header.split() != ATTRIBUTES:
    raise InputError(
      f'{where}, line 2: expected the names of the {len(ATTRIBUTES)} attributes'
    )
  rows = [row for row in rows if row.strip()]
  if number.strip() != str(len(rows)) or not rows:
    raise InputError(
      f'{where}, line 1: expected the number of images, {len(rows)}, got '
      f'{number[:20]!r}'
    )
  attributes = np.empty((len(rows), len(ATTRIBUTES)), bool)
  names = []
  for index, row in enumerate(rows):
    name, *values = row.split()
    if len(values) != len(ATTRIBUTES) or not set(values) <= {'1', '-1'}:
      raise InputError(
        f'{where}, line {index + 3}: expected a name and {len(ATTRIBUTES)} '
        'times 1 or -1'
      )
    names.append(f'{_FOLDER}/{name}')
    attributes[index] = [value == '1' for value in values]
  if len(set(names)) < len(names):
    raise InputError(f'{where}: expected every image once')
  return names, attributes
