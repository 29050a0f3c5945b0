"""Errors that end a run, each with the exit code a script can act upon."""

from collections.abc import Iterator
import contextlib
import errno
import sys

import jax

from metajax.core.errors import (
  RunError,
  StorageError,
  one_line,
  package_versions,
)
from metajax.core.validation import InputError

INPUT_EXIT_CODE = 2
INTERRUPTED_EXIT_CODE = 130  # 128 + SIGINT, as shells report it

# A disk that is full, over its quota, or may only be read.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class Preempted(RunError):
  """A signal asked the run to stop, and its state is safely on disk."""

  exit_code = 0


class NonFiniteError(RunError):
  """Too many updates in a row were not finite."""

  exit_code = 4


class MemoryLimitError(RunError):
  """A program needs more memory than its device has."""

  exit_code = 6


def is_out_of_memory(error: BaseException) -> bool:
  """Says whether JAX ran out of a device's memory."""
  return isinstance(error, jax.errors.JaxRuntimeError) and (
    'RESOURCE_EXHAUSTED' in str(error)
  )


def memory_limit_error(error: BaseException) -> MemoryLimitError:
  """Returns the error that says what to do about exhausted device memory."""
  return MemoryLimitError(
    f'out of device memory ({one_line(error, 160)}); use fewer tasks in a'
    ' batch, rematerialise the inner loop, or shard over more devices'
  )


def describe_failure(error: BaseException) -> tuple[str, int]:
  """Returns what to print about an error that ended a run, and the exit code.

  Expected kinds take one line. Anything else is a bug: the message then also
  holds the versions and the notes that the run has left (the hash of its
  config, its last checkpoint).

  Args:
    error: what was raised.

  Returns:
    The message and the exit code: 0 stopped cleanly, 2 input, 3 locked, 4 not
    finite, 5 storage, 6 memory, 130 interrupted, 1 anything else.
  """
  if isinstance(error, RunError):
    return one_line(error, 1000), error.exit_code
  if isinstance(error, InputError):
    return one_line(error, 1000), INPUT_EXIT_CODE
  if is_out_of_memory(error):
    described = memory_limit_error(error)
    return str(described), described.exit_code
  if isinstance(error, OSError) and error.errno in _NO_ROOM:
    return one_line(error, 1000), StorageError.exit_code
  if isinstance(error, KeyboardInterrupt):
    return 'interrupted', INTERRUPTED_EXIT_CODE
  versions = ', '.join(
    f'{name} {version}' for name, version in package_versions().items()
  )
  lines = [f'{type(error).__name__}: {error}', versions]
  return '\n'.join(lines + list(getattr(error, '__notes__', []))), 1


@contextlib.contextmanager
def exit_in_one_line(program: str) -> Iterator[None]:
  """Ends the process where a program cannot go on, with one line and a code.

  What is nobody's mistake but a bug (code 1) is raised as it is.

  Args:
    program: what the line begins with.
  """
  try:
    yield
  except Exception as error:
    message, code = describe_failure(error)
    if code == 1:
      raise
    print(f'{program}: {message}', file=sys.stderr)
    sys.exit(code)
