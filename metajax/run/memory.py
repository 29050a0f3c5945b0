"""What memory a compiled program takes, and what its devices have left."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from metajax.run.errors import MemoryLimitError

_GIB = 2**30
_MAX_GUESSES = 6
# Memory of this process's control group, where there is one (Linux).
_GROUP_LIMIT = Path('/sys/fs/cgroup/memory.max')
_GROUP_USE = Path('/sys/fs/cgroup/memory.current')


def bytes_to_allocate(program: Any) -> int | None:
  """Returns what a compiled program allocates beside its arguments.

  Args:
    program: of `jax.jit(...).lower(...).compile()`.

  Returns:
    Bytes on each of its devices, as the compiler has planned them; None where
    it does not say.
  """
  planned = program.memory_analysis()
  if planned is None:
    return None
  results = planned.output_size_in_bytes - planned.alias_size_in_bytes
  return int(planned.temp_size_in_bytes + max(0, results))


def bytes_free(device: Any) -> int | None:
  """Returns what is left of a `jax.Device`'s memory; None: nobody says."""
  if device.platform == 'cpu':
    return _host_bytes_free()
  stats = device.memory_stats()
  if not stats or 'bytes_limit' not in stats:
    return None
  return int(stats['bytes_limit'] - stats.get('bytes_in_use', 0))


def check_fits(program: Any) -> str:
  """Checks, before it is started, that a program fits into its devices.

  Args:
    program: what was compiled. Devices of the host share its memory.

  Returns:
    What it needs, in words; '' where nobody says.

  Raises:
    MemoryLimitError: if it does not fit.
  """
  needed = bytes_to_allocate(program)
  if needed is None:
    return ''
  shardings = jax.tree.leaves(program.output_shardings)
  devices = list(shardings[0].device_set)
  if devices[0].platform == 'cpu':
    needed *= len(devices)
  free = bytes_free(devices[0])
  if free is None:
    return f'{needed / _GIB:.2f} GiB of memory'
  described = (
    f'{needed / _GIB:.2f} GiB of memory, of {free / _GIB:.2f} GiB that'
    f' {devices[0].platform} has left'
  )
  if needed > free:
    raise MemoryLimitError(f'a meta-iteration needs {described}')
  return described


def _host_bytes_free() -> int | None:
  """Returns what the system, or this process's group, has left."""
  found = []
  try:
    lines = Path('/proc/meminfo').read_text(encoding='ascii').splitlines()
    numbers = dict(line.split(':', 1) for line in lines)
    found.append(1024 * int(numbers['MemAvailable'].split()[0]))
  except (OSError, KeyError, ValueError):
    pass
  try:
    limit = int(_GROUP_LIMIT.read_text(encoding='ascii'))  # 'max': none
    found.append(limit - int(_GROUP_USE.read_text(encoding='ascii')))
  except (OSError, ValueError):
    pass
  return min(found, default=None)


def largest_that_fits(
  bytes_of: Callable[[int], int], size: int, free: int, multiple: int = 1
) -> int:
  """Returns the largest batch that fits, by compiling few of them.

  What a program needs grows about linearly with its batch: a line through
  two sizes tells where to look, and what it tells is compiled too.

  Args:
    bytes_of: compiles for a batch size and returns the bytes needed.
    size: the batch size that was too large.
    free: bytes that there are.
    multiple: what the batch size must be a multiple of.

  Returns:
    A size below `size` that fits; 0 if there is none.
  """
  fits, too_large = 0, size
  last, needed = size, bytes_of(size)
  guess = size // 2 // multiple * multiple
  for _ in range(_MAX_GUESSES):
    if not fits < guess < too_large:
      break
    guessed = bytes_of(guess)
    if guessed <= free:
      fits = guess
    else:
      too_large = guess
    slope = max((needed - guessed) / (last - guess), 1.0)
    last, needed = guess, guessed
    line = guess + int((free - guessed) / slope)
    guess = min(line // multiple * multiple, too_large - multiple)
  return fits
