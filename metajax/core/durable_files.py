"""Files that are whole or absent: written aside, synced, then renamed."""

from collections.abc import Iterator
import contextlib
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from metajax.core.errors import StorageError, one_line


@contextlib.contextmanager
def storage_errors(action: str) -> Iterator[None]:
  """Turns an operating system's error into a one-line `StorageError`.

  Args:
    action: what is being done to which file, for the message.

  Raises:
    StorageError: if the body raises an OSError.
  """
  try:
    yield
  except OSError as error:
    raise StorageError(f'{action}: {one_line(error)}') from error


def sync_directory(directory: Path) -> None:
  """Makes the names in a directory durable."""
  descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


def sync_tree(directory: Path) -> None:
  """Makes every file below a directory durable, and their names."""
  for folder, _, names in os.walk(directory):
    for name in names:
      descriptor = os.open(os.path.join(folder, name), os.O_RDONLY)
      try:
        os.fsync(descriptor)
      finally:
        os.close(descriptor)
    sync_directory(Path(folder))


def write_durably(path: Path, content: bytes) -> None:
  """Writes a file so that a crash leaves the old one or the new one, whole.

  Raises:
    OSError: if it cannot be written; the old file is then still there.
  """
  aside = path.with_name(path.name + '.tmp')
  try:
    with open(aside, 'wb') as file:
      file.write(content)
      file.flush()
      os.fsync(file.fileno())
    os.replace(aside, path)
  except OSError:
    with contextlib.suppress(OSError):
      aside.unlink()
    raise
  sync_directory(path.parent)


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
  """Writes a file durably, in a folder that is made if it is not there.

  Raises:
    StorageError: if it cannot be written.
  """
  path = Path(path)
  with storage_errors(f'cannot write {path}'):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, content)


def write_json(path: Path, value: Any) -> None:
  """Writes a JSON file durably.

  Raises:
    StorageError: if it cannot be written.
  """
  text = json.dumps(value, indent=2, allow_nan=False) + '\n'
  with storage_errors(f'cannot write {path}'):
    write_durably(path, text.encode())


def jsonable(value: Any) -> Any:
  """Returns an array or scalar as JSON numbers; null where it is not finite.

  JSON has no infinity and no NaN, and other readers refuse Python's.
  """
  listed = np.asarray(value).tolist()
  return _finite_or_none(listed)


def _finite_or_none(value):
  if isinstance(value, list):
    return [_finite_or_none(item) for item in value]
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value
