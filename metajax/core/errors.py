"""Errors of a program's surroundings, and what can be said of them."""

import importlib.metadata
import sys

_PACKAGES = (
  'jax',
  'jaxlib',
  'flax',
  'optax',
  'orbax-checkpoint',
  'numpy',
  'mujoco',
  'mujoco-mjx',
)


class RunError(Exception):
  """Ends a run; the message is one line, the exit code says of what kind."""

  exit_code = 1


class LockedError(RunError):
  """Another process is writing to the directory."""

  exit_code = 3


class StorageError(RunError):
  """A file could not be written, or nothing intact is left to read."""

  exit_code = 5


def package_versions() -> dict[str, str]:
  """Returns the versions of Python and of the packages that shape results."""
  versions = {'python': sys.version.split()[0]}
  for package in _PACKAGES:
    try:
      versions[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      versions[package] = 'absent'
  return versions


def one_line(error: BaseException, limit: int = 300) -> str:
  """Returns what an error says, on one line of at most `limit` characters.

  A long one loses its middle: it begins with what failed and ends with why.
  """
  text = ' '.join(str(error).split()) or type(error).__name__
  if len(text) <= limit:
    return text
  head = limit // 3
  return f'{text[:head]}...{text[head + 3 - limit :]}'
