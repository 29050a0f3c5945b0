"""Arrays in `.npy` files that may come from anywhere: checked, then mapped.

Nothing is allocated and nothing is mapped before a file's header has been held
against what is expected of it and against the file's real size.
"""

import hashlib
import io
import math
import os
from pathlib import Path
import stat
from typing import Any, NamedTuple

import numpy as np

from metajax.core import durable_files
from metajax.core.errors import one_line
from metajax.core.validation import InputError

# What an array may hold: no objects, no text, nothing of another width.
DTYPES = ('bool', 'uint8', 'int32', 'uint32', 'float32')

_MAX_HEADER_BYTES = 4096


class ArrayFile(NamedTuple):
  """What is known of a file that holds one array.

  Attributes:
    dtype: name of the dtype, whatever the order of its bytes; of `DTYPES`.
    shape: the array's shape.
    num_bytes: size of the file.
    sha256: hexadecimal SHA-256 of the file's bytes.
  """

  dtype: str
  shape: tuple[int, ...]
  num_bytes: int
  sha256: str


def write_array(path: Path, array: np.ndarray) -> ArrayFile:
  """Writes an array durably, into a folder that is made if it is not there.

  Returns:
    What is to be remembered of the file.

  Raises:
    InputError: if the array is of a dtype that no file may hold.
    StorageError: if it cannot be written.
  """
  _check_dtype(path, array.dtype)
  buffer = io.BytesIO()
  np.lib.format.write_array(
    buffer, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False
  )
  content = buffer.getvalue()
  durable_files.write_whole(path, content)
  return ArrayFile(
    array.dtype.name,
    array.shape,
    len(content),
    hashlib.sha256(content).hexdigest(),
  )


def open_array(
  root: Path, relative: Path, expected: ArrayFile, *, verify: bool
) -> np.ndarray:
  """Maps the array of a file into memory, once it is what is expected.

  Args:
    root: a folder that is trusted to be where it is.
    relative: the file's path below it; nothing on the way may be a link.
    expected: what was remembered of the file.
    verify: whether the file's digest is computed and compared.

  Returns:
    The array, read-only, on disk until it is touched; its bytes may be in
    either order, and its first axis may be the fastest.

  Raises:
    InputError: naming the file, what was expected and what came.
  """
  path = root / relative
  with open_file(root, relative) as file:
    size = os.fstat(file.fileno()).st_size
    if size != expected.num_bytes:
      raise InputError(
        f'{path}: expected {expected.num_bytes} bytes, got {size}'
      )
    shape, is_fortran, dtype = _read_header(path, file)
    _check_dtype(path, dtype)
    if dtype.name != expected.dtype or shape != expected.shape:
      raise InputError(
        f'{path}: expected {_describe(expected.dtype, expected.shape)}, got'
        f' {_describe(dtype.name, shape)}'
      )
    offset, payload = file.tell(), math.prod(shape) * dtype.itemsize
    if offset + payload != size:
      raise InputError(
        f'{path}: expected {payload} bytes after the header, got'
        f' {size - offset}'
      )
    if verify:
      _check_digest(path, file, expected.sha256)
    if not payload:  # which cannot be mapped
      return np.empty(shape, dtype)
    return np.memmap(
      file, dtype, 'r', offset, shape, order='F' if is_fortran else 'C'
    )


def open_file(root: Path, relative: Path) -> io.BufferedReader:
  """Opens a regular file below a folder for reading; never through a link.

  Raises:
    InputError: if it is anything else, or cannot be opened.
  """
  path = root / relative
  try:
    for parent in reversed(relative.parents[:-1]):
      if not stat.S_ISDIR((root / parent).lstat().st_mode):
        raise InputError(f'{root / parent}: expected a directory of its own')
    kind = path.lstat().st_mode
    if not stat.S_ISREG(kind):
      raise InputError(f'{path}: expected a file, got {_kind_name(kind)}')
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    return os.fdopen(descriptor, 'rb')
  except OSError as error:
    raise InputError(f'cannot read {path}: {one_line(error)}') from error


def _read_header(
  path: Path, file: io.BufferedReader
) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
  """Returns shape, whether the first axis is the fastest, and dtype."""
  readers = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
  }
  try:
    version = np.lib.format.read_magic(file)
    if version not in readers:
      raise ValueError(f'version {version} of the format')
    return readers[version](file, max_header_size=_MAX_HEADER_BYTES)
  # The parser of a header that is no header raises whatever it likes.
  except Exception as error:
    raise InputError(
      f'{path}: expected the header of a .npy file, got {one_line(error, 150)}'
    ) from error


def _check_dtype(path: Path, dtype: np.dtype[Any]) -> None:
  if dtype.hasobject or dtype.names or dtype.name not in DTYPES:
    raise InputError(
      f'{path}: expected one of {", ".join(DTYPES)}, got {dtype.name[:60]}'
    )


def _check_digest(path: Path, file: io.BufferedReader, expected: str) -> None:
  file.seek(0)
  digest = hashlib.file_digest(file, 'sha256').hexdigest()
  if digest != expected:
    raise InputError(f'{path}: expected SHA-256 {expected}, got {digest}')


def _describe(dtype: str, shape: tuple[int, ...]) -> str:
  return f'{dtype}[{",".join(map(str, shape))}]'


def _kind_name(mode: int) -> str:
  """Returns what stands in a file's place."""
  kinds = {stat.S_IFDIR: 'a directory', stat.S_IFLNK: 'a symbolic link'}
  return kinds.get(stat.S_IFMT(mode), 'a special file')
