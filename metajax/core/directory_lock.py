"""A directory that one process at a time writes to."""

from collections.abc import Iterator
import contextlib
import fcntl
import os
from pathlib import Path
import socket
import time

from metajax.core import durable_files
from metajax.core.errors import LockedError

_LOCK = '.lock'


@contextlib.contextmanager
def lock(directory: Path) -> Iterator[None]:
  """Holds a directory against other writers; freed when the process ends.

  Raises:
    LockedError: naming the process and host that hold it.
    StorageError: if the lock cannot be written.
  """
  with durable_files.storage_errors(f'cannot lock {directory}'):
    descriptor = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
  try:
    try:
      fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise LockedError(
        f'{directory} is locked by {_holder(descriptor)}'
      ) from None
    with durable_files.storage_errors(f'cannot lock {directory}'):
      os.ftruncate(descriptor, 0)
      holder = f'process {os.getpid()} on {socket.gethostname()}'
      os.pwrite(descriptor, holder.encode(), 0)
    yield
  finally:
    os.close(descriptor)


def _holder(descriptor: int) -> str:
  """Returns who holds a lock; waits for a winner who has not yet signed."""
  for _ in range(10):
    text = os.pread(descriptor, 200, 0).decode(errors='replace').strip()
    if text:
      return text
    time.sleep(0.02)
  return 'another process'
