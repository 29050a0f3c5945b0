"""Omniglot: 1623 handwritten characters, 20 drawings of each.

Source: Lake, Salakhutdinov and Tenenbaum, "Human-level concept learning
through probabilistic program induction" (2015).
"""

import contextlib
import functools
from pathlib import Path, PurePosixPath

import numpy as np

from metajax.core.validation import InputError, check_choice, check_count
from metajax.tasks.image_classification import LabelledImages
from metajax.tasks.image_folders import (
  ImageTree,
  check_class_sizes,
  check_size,
  read_classes,
)

PARTS = ('images_background', 'images_evaluation')
NUM_DRAWINGS = 20
SIDE = 105  # of a drawing, in pixels

_EXPECTED = (
  'expected images_background and images_evaluation, zip archives or folders '
  'of ALPHABET/characterNN/*.png, as github.com/brendenlake/omniglot has them'
)
# Shares of the classes, of 1623: 1100, 100, 423 (Finn 2018, section 4.6.2).
_NUM_CLASSES = 1623
_SPLITS = {
  'train': (0, 1100),
  'validation': (1100, 1200),
  'test': (1200, 1623),
}
# What is larger, and yet not all of it, is a damaged copy.
_LARGEST_SAMPLE = 100


@functools.lru_cache(maxsize=8)
def omniglot(
  data_dir: str, split: str, *, size: int = 28, seed: int = 0
) -> LabelledImages:
  """Reads the characters of a split.

  Characters are shuffled, whatever their alphabet. A sample of at most 100
  characters is split in the shares of the whole.

  Args:
    data_dir: folder with `images_background` and `images_evaluation`, as zip
      archives or unpacked.
    split: 'train' (1100 characters), 'validation' (100) or 'test' (423).
    size: height and width in pixels that they are resized to (Lanczos).
    seed: of the shuffle.

  Returns:
    `LabelledImages` of `[20 * characters, size, size, 1]` uint8, ink 255 on 0.

  Raises:
    InputError: if a character, a drawing or the folder is missing, or a
      drawing is not as expected.
  """
  check_choice('split', split, list(_SPLITS))
  check_size(size)
  check_count('seed', seed, minimum=0)
  if not data_dir:
    raise InputError(f'data_dir: {_EXPECTED}; got none')
  root = Path(data_dir).expanduser().absolute()
  with contextlib.ExitStack() as stack:
    characters = []
    for part in PARTS:
      tree = stack.enter_context(ImageTree(_find_part(root, part)))
      characters += [(tree, names) for names in _characters(tree)]
    order = np.random.default_rng(seed).permutation(len(characters))
    first, last = _bounds(root, split, len(characters))
    return read_classes(
      [
        [(tree, name) for name in names]
        for tree, names in (characters[index] for index in order[first:last])
      ],
      lambda drawing: _decoded(*drawing, size=size),
      size=size,
      channels=1,
    )


def _find_part(root: Path, part: str) -> Path:
  for path in (root / part, root / f'{part}.zip'):
    if path.exists():
      return path
  raise InputError(f'{root}: {_EXPECTED}; there is no {part}')


def _characters(tree: ImageTree) -> list[list[str]]:
  """Returns the names of each character's drawings, by alphabet and number."""
  alphabets: dict[str, dict[str, list[str]]] = {}
  for name in tree.images():
    folders = PurePosixPath(name).parts[:-1]
    if len(folders) < 2:
      raise InputError(f'{tree.describe(name)}: {_EXPECTED}')
    *above, character = folders
    characters = alphabets.setdefault('/'.join(above), {})
    characters.setdefault(character, []).append(name)
  if not alphabets:
    raise InputError(f'{tree.root}: {_EXPECTED}; there is no image in it')
  for alphabet, characters in alphabets.items():
    where = tree.describe(alphabet)
    numbered = {f'character{n + 1:02}' for n in range(len(characters))}
    if characters.keys() != numbered:
      raise InputError(
        f'{where}: expected characters numbered from character01 without a '
        f'gap, got {len(characters)} and none called '
        f'{min(numbered - characters.keys())}'
      )
    check_class_sizes(where, characters, NUM_DRAWINGS)
  return [
    characters[character]
    for _, characters in sorted(alphabets.items())
    for character in sorted(characters)
  ]


def _bounds(root: Path, split: str, number: int) -> tuple[int, int]:
  """Returns the first character of a split and the first after it."""
  if number != _NUM_CLASSES and number > _LARGEST_SAMPLE:
    raise InputError(
      f'{root}: expected {_NUM_CLASSES} characters, or a sample of at most '
      f'{_LARGEST_SAMPLE}, got {number}'
    )
  first, last = (
    round(bound * number / _NUM_CLASSES) for bound in _SPLITS[split]
  )
  if first == last:
    raise InputError(
      f'{root}: expected characters enough for all of train, validation and '
      f'test, got {number}'
    )
  return first, last


def _decoded(tree: ImageTree, name: str, *, size: int) -> np.ndarray:
  """Returns a drawing, ink 255 on 0."""
  drawing = 255 - tree.decode(
    name, size=size, channels=1, expected=(SIDE, SIDE)
  )
  if drawing.mean() > 127:
    raise InputError(
      f'{tree.describe(name)}: expected dark ink on a light ground'
    )
  return drawing
