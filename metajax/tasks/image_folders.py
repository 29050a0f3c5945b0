"""Images in folders that may come from anywhere: checked, then decoded.

What a file says of itself is held against limits before anything of that size
is allocated, whether it lies in a folder or in a zip archive; an archive is
read in place and never unpacked. What a file is, its content says, not its
name.
"""

from collections.abc import Iterator, Mapping, Sequence
import io
import os
from pathlib import Path, PurePosixPath
import stat
import warnings
import zipfile

import numpy as np
from PIL import Image

from metajax.core.errors import one_line
from metajax.core.validation import InputError, check_choice, check_count
from metajax.tasks.image_classification import LabelledImages, labelled_images

SUFFIXES = ('.png', '.jpg', '.jpeg')

_FORMATS = ('PNG', 'JPEG')
# Of a grey and of a colour image: what converts without a loss that is silent.
# Images of 16 bits are cut off, and what is transparent has no colour.
_MODES = {1: ('1', 'L'), 3: ('L', 'P', 'RGB', 'CMYK')}
_MAX_PIXELS = 2**26  # 190 MiB in colour; a photograph has a third of them
_MAX_FILE_BYTES = 32 * 2**20
_MAX_FILES = 1_000_000
_MAX_SIZE = 1024
# Of an archive: the larger of Omniglot's holds 19,280 images of 105 x 105.
_MAX_UNPACKED_BYTES = 2**30
_MAX_DIRECTORY_BYTES = 8 * 2**20
# The record at the end of an archive, before a comment of at most 64 KiB.
_END_BYTES = 22
_END_SIGNATURE = b'PK\x05\x06'
_LARGE_END_SIGNATURE = b'PK\x06\x07'
_LARGE_END_BYTES = 20


class ImageTree:
  """Image files by folder, in a directory or in a zip archive.

  It is a context manager, which closes the archive.

  Attributes:
    root: the directory or archive, from the root of the file system.
  """

  def __init__(self, root: Path):
    """Lists what is there.

    Args:
      root: a directory or a zip archive.

    Raises:
      InputError: if it is neither, if a part of it cannot be read, if a link
        leads out of it, or if it holds more than any data set does.
    """
    self.root = root.expanduser().absolute()
    self._archive = None
    if self.root.is_dir():
      self._names = sorted(_files_below(self.root))
    elif self.root.is_file():
      self._archive = _opened(self.root)
      self._names = sorted(_members(self.root, self._archive))
    else:
      raise InputError(f'{self.root}: expected a folder or a zip archive')

  def __enter__(self):
    return self

  def __exit__(self, *unused_error):
    if self._archive is not None:
      self._archive.close()

  def files(self, folder: str = '') -> list[str]:
    """Returns the names of all files anywhere below `folder`, sorted."""
    start = f'{folder}/' if folder else ''
    return [name for name in self._names if name.startswith(start)]

  def images(self, folder: str = '') -> list[str]:
    """Returns the names of the images anywhere below `folder`, sorted."""
    return [
      name
      for name in self.files(folder)
      if PurePosixPath(name).suffix.lower() in SUFFIXES
    ]

  def describe(self, name: str) -> str:
    """Returns how a message calls a file."""
    return f'{self.root}/{name}'

  def read(self, name: str, *, max_bytes: int = _MAX_FILE_BYTES) -> bytes:
    """Returns a file's bytes.

    Raises:
      InputError: if it is larger than `max_bytes`, or damaged.
    """
    try:
      if self._archive is None:
        with _opened_file(self.root / name) as file:
          content = file.read(max_bytes + 1)
      else:
        with self._archive.open(name) as file:
          content = file.read(max_bytes + 1)
    # What unpacks a damaged member raises whatever it likes.
    except Exception as error:
      raise InputError(
        f'{self.describe(name)}: cannot be read: {one_line(error)}'
      ) from error
    if len(content) > max_bytes:
      raise InputError(
        f'{self.describe(name)}: expected at most {max_bytes} bytes, got more'
      )
    return content

  def decode(
    self,
    name: str,
    *,
    size: int,
    channels: int,
    crop: bool = False,
    expected: tuple[int, int] | None = None,
  ) -> np.ndarray:
    """Returns an image as `[size, size, channels]` uint8.

    Args:
      name: of the file.
      size: what it is resized to (Lanczos), in pixels.
      channels: 1 (grey) or 3 (red, green, blue).
      crop: whether the middle square is kept; if not, an image that is not
        square is refused.
      expected: width and height that it has to have, in pixels. None: any.

    Raises:
      InputError: if it is not a whole image of a form that is expected.
    """
    where = self.describe(name)
    content = self.read(name)
    try:
      with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        image = Image.open(io.BytesIO(content), formats=_FORMATS)
        _check_form(where, image, channels, crop=crop, expected=expected)
        image = image.convert('L' if channels == 1 else 'RGB')
    except InputError:
      raise
    # What decodes a damaged image raises whatever it likes.
    except Exception as error:
      raise InputError(
        f'{where}: expected a whole PNG or JPEG image: {one_line(error, 150)}'
      ) from error
    width, height = image.size
    if width != height:
      side = min(width, height)
      left, top = (width - side) // 2, (height - side) // 2
      image = image.crop((left, top, left + side, top + side))
    if image.size != (size, size):
      image = image.resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(image, np.uint8).reshape(size, size, channels)


def image_folders(
  data_dir: str, *, size: int, channels: int = 3
) -> LabelledImages:
  """Reads a data set of your own: one folder of images a class.

  Args:
    data_dir: folder or zip archive with a folder of PNG or JPEG images for
      every class, which are sorted by name.
    size: height and width in pixels that they are resized to; of an image that
      is not square the middle is kept.
    channels: 1 (grey) or 3 (colour).

  Returns:
    `LabelledImages` of `[num_images, size, size, channels]` uint8.

  Raises:
    InputError: if there is no image, or one that is not as expected.
  """
  check_choice('channels', str(channels), [str(n) for n in _MODES])
  with ImageTree(Path(data_dir)) as tree:
    classes = class_folders(tree, '', 'expected one folder of images a class')
    return read_classes(
      list(classes.values()),
      lambda name: tree.decode(name, size=size, channels=channels, crop=True),
      size=size,
      channels=channels,
    )


def class_folders(
  tree: ImageTree, folder: str, expected: str
) -> dict[str, list[str]]:
  """Returns the images of every folder in `folder`, sorted.

  Args:
    tree: where the folders are.
    folder: its name in the tree; empty: the root.
    expected: what a message says that there should be.

  Raises:
    InputError: if an image is not in a folder of `folder`, or there is none.
  """
  classes: dict[str, list[str]] = {}
  depth = len(PurePosixPath(folder).parts)
  for name in tree.images(folder):
    parts = PurePosixPath(name).parts
    if len(parts) != depth + 2:
      raise InputError(f'{tree.describe(name)}: {expected}')
    classes.setdefault(parts[depth], []).append(name)
  if not classes:
    where = tree.describe(folder) if folder else tree.root
    raise InputError(f'{where}: {expected}; there is no image')
  return classes


def read_classes(
  classes: Sequence[Sequence], decode, *, size: int, channels: int
) -> LabelledImages:
  """Decodes images class by class.

  Args:
    classes: for every class, what `decode` is given for each image.
    decode: returns `[size, size, channels]` uint8.
    size: height and width, in pixels.
    channels: of an image.

  Raises:
    InputError: if `size` is no size of a small image.
  """
  check_size(size)
  counts = np.array([len(names) for names in classes])
  images = np.empty((counts.sum(), size, size, channels), np.uint8)
  names = (name for names in classes for name in names)
  for index, name in enumerate(names):
    images[index] = decode(name)
  return labelled_images(images, counts)


def check_size(size: int) -> None:
  """Checks that images can be resized to `size`.

  Raises:
    InputError: if they cannot.
  """
  check_count('size', size)
  if size > _MAX_SIZE:
    raise InputError(f'size: expected at most {_MAX_SIZE} pixels, got {size}')


def check_class_sizes(
  where: str, classes: Mapping[str, Sequence], count: int
) -> None:
  """Checks that every class has `count` images.

  Raises:
    InputError: naming the first that has not.
  """
  for name, images in classes.items():
    if len(images) != count:
      raise InputError(
        f'{where}: expected {count} images of {name}, got {len(images)}'
      )


def _check_form(where, image, channels, *, crop, expected) -> None:
  """Checks what the header of an image says, before its pixels are decoded."""
  width, height = image.size
  if width * height > _MAX_PIXELS:
    raise InputError(
      f'{where}: expected at most {_MAX_PIXELS} pixels, got {width} x {height}'
    )
  if expected is not None and (width, height) != expected:
    raise InputError(
      f'{where}: expected {expected[0]} x {expected[1]} pixels, got '
      f'{width} x {height}'
    )
  if width != height and not crop:
    raise InputError(
      f'{where}: expected a square image, got {width} x {height}'
    )
  modes = _MODES[channels]
  if image.mode not in modes or 'transparency' in image.info:
    raise InputError(
      f'{where}: expected an opaque image of mode {", ".join(modes)}, got '
      f'{image.mode}'
    )


def _is_hidden(name: str) -> bool:
  """Says whether a file is what a Mac leaves beside others."""
  return name.startswith('.') or name == '__MACOSX'


def _files_below(root: Path) -> Iterator[str]:
  """Yields the names of the files below a directory, from its root."""
  inside = root.resolve()
  number = 0

  def refuse(error):
    raise InputError(f'cannot read {one_line(error)}') from error

  for folder, folders, files in os.walk(root, onerror=refuse):
    folders[:] = [name for name in folders if not _is_hidden(name)]
    for name in (*folders, *files):
      path = Path(folder) / name
      if not path.is_symlink():
        continue
      if not path.resolve().is_relative_to(inside):
        raise InputError(f'{path}: expected no link out of {root}')
      if path.is_dir():
        raise InputError(f'{path}: expected a folder, got a link to one')
    number += len(files)
    if number > _MAX_FILES:
      raise InputError(f'{root}: expected at most {_MAX_FILES} files, got more')
    for name in files:
      if not _is_hidden(name):
        yield (Path(folder) / name).relative_to(root).as_posix()


def _opened_file(path: Path) -> io.BufferedReader:
  """Opens a regular file; what waits for another process is none."""
  descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
  if not stat.S_ISREG(os.fstat(descriptor).st_mode):
    os.close(descriptor)
    raise OSError('it is no regular file')
  return os.fdopen(descriptor, 'rb')


def _opened(path: Path) -> zipfile.ZipFile:
  try:
    _check_directory_size(path)
    return zipfile.ZipFile(path)
  except InputError:
    raise
  # What parses a damaged directory raises whatever it likes.
  except Exception as error:
    raise InputError(
      f'{path}: expected a zip archive: {one_line(error)}'
    ) from error


def _check_directory_size(path: Path) -> None:
  """Checks how large an archive's list of members is, before it is parsed."""
  with _opened_file(path) as file:
    length = file.seek(0, os.SEEK_END)
    file.seek(max(0, length - 2**16 - _END_BYTES - _LARGE_END_BYTES))
    tail = file.read()
  start = tail.rfind(_END_SIGNATURE)
  if start < 0 or len(tail) < start + _END_BYTES:
    raise InputError(f'{path}: expected a zip archive, got another file')
  before = tail[max(0, start - _LARGE_END_BYTES) : start]
  size = int.from_bytes(tail[start + 12 : start + 16], 'little')
  if size > _MAX_DIRECTORY_BYTES or before.startswith(_LARGE_END_SIGNATURE):
    raise InputError(
      f'{path}: expected an archive of at most 65535 files, got a larger one'
    )


def _members(path: Path, archive: zipfile.ZipFile) -> Iterator[str]:
  """Yields the names of an archive's files, if they are fit to be read."""
  members = archive.infolist()
  total = sum(member.file_size for member in members)
  if total > _MAX_UNPACKED_BYTES:
    raise InputError(
      f'{path}: expected at most {_MAX_UNPACKED_BYTES} bytes unpacked, got '
      f'{total}'
    )
  seen = set()
  for member in members:
    name = PurePosixPath(member.filename)
    if name.is_absolute() or '..' in name.parts:
      raise InputError(
        f'{path}: expected members inside it, got {member.filename!r}'
      )
    if member.filename in seen:
      raise InputError(f'{path}: two members are called {member.filename!r}')
    seen.add(member.filename)
    if stat.S_ISLNK(member.external_attr >> 16):
      raise InputError(
        f'{path}: expected files, got the link {member.filename!r}'
      )
    if not member.is_dir() and not any(map(_is_hidden, name.parts)):
      yield member.filename
