"""Reading a demonstration set: checked, mapped, only what is asked for."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
from jax import Array
import numpy as np

from metajax.core.validation import (
  InputError,
  check_choice,
  check_count,
  reject,
)
from metajax.demos.array_files import open_array
from metajax.demos.set_index import (
  TASK_PREFIX,
  Index,
  file_of,
  read_index,
)


class DemonstrationSet:
  """A set on disk, and those of its fields that were asked for.

  Only tasks with all of their demonstrations are read: where an episode had to
  be given up, its task is left out. Made by `open_demonstrations`.

  Attributes:
    path: the set's directory.
    index: what the set holds.
    fields: names of the fields that can be read.
  """

  def __init__(
    self, path: Path, index: Index, fields: tuple[str, ...], *, verify: bool
  ):
    self.path, self.index, self.fields = path, index, fields
    self._files = [
      {
        field: open_array(
          path, file_of(field, number), shard.files[field], verify=verify
        )
        for field in fields
        if shard.num_rows
      }
      for number, shard in enumerate(index.shards)
    ]

  @property
  def splits(self) -> tuple[str, ...]:
    """The splits that have tasks."""
    return tuple(self.index.splits)

  def task_numbers(self, split: str) -> np.ndarray:
    """Returns the numbers of a split's tasks that have all demonstrations.

    Args:
      split: one of `splits`.

    Returns:
      [tasks] int64, ascending.
    """
    check_choice('split', split, self.splits)
    is_whole = np.ones(self.index.splits[split], bool)
    for shard in self.index.shards:
      if shard.split == split:
        episodes = np.asarray(shard.given_up, np.int64)
        is_whole[episodes // self.index.demos_per_task] = False
    return np.flatnonzero(is_whole)

  def load(
    self,
    split: str,
    fields: Sequence[str] | None = None,
    *,
    tasks: Sequence[int] | np.ndarray | None = None,
  ) -> dict[str, np.ndarray]:
    """Reads a split, or some of its tasks, into host memory.

    Args:
      split: one of `splits`.
      fields: some of the set's fields; None: all that were opened.
      tasks: their numbers, ascending, of `task_numbers`; None: all of those.
        Two sets are to be read by the numbers that both have.

    Returns:
      Field to `[tasks, demos_per_task, ...]`; a field of the task, `task/...`,
      to `[tasks, ...]`.

    Raises:
      InputError: if there is no such split, field or task, or if a file holds
        numbers that are not finite.
    """
    numbers = self.task_numbers(split)
    if tasks is not None:
      chosen = np.asarray(tasks)
      if not np.isin(chosen, numbers).all() or (np.diff(chosen) <= 0).any():
        raise reject('tasks', 'numbers of whole tasks, ascending', list(tasks))
      numbers = chosen
    return {
      field: self._read(split, field, numbers) for field in self._chosen(fields)
    }

  def to_device(
    self,
    split: str,
    fields: Sequence[str] | None = None,
    *,
    tasks: Sequence[int] | np.ndarray | None = None,
  ) -> dict[str, Array]:
    """Reads a split onto the default device; otherwise as `load`."""
    return jax.device_put(self.load(split, fields, tasks=tasks))

  def chunks(
    self,
    split: str,
    tasks_per_chunk: int,
    fields: Sequence[str] | None = None,
  ) -> Iterator[dict[str, np.ndarray]]:
    """Reads a split in chunks of tasks, for sets larger than the memory.

    Args:
      split: one of `splits`.
      tasks_per_chunk: tasks in a chunk; the last one may have fewer.
      fields: some of the set's fields; None: all that were opened.

    Yields:
      What `load` returns, of some tasks.

    Raises:
      InputError: as `load` does.
    """
    check_count('tasks_per_chunk', tasks_per_chunk)
    numbers, chosen = self.task_numbers(split), self._chosen(fields)
    for start in range(0, len(numbers), tasks_per_chunk):
      some = numbers[start : start + tasks_per_chunk]
      yield {field: self._read(split, field, some) for field in chosen}

  def _chosen(self, fields: Sequence[str] | None) -> tuple[str, ...]:
    chosen = self.fields if fields is None else tuple(fields)
    for field in chosen:
      check_choice('field', field, self.fields)
    return chosen

  def _read(self, split: str, field: str, tasks: np.ndarray) -> np.ndarray:
    """Returns a field of some tasks."""
    demos_per_task, spec = self.index.demos_per_task, self.index.fields[field]
    is_of_tasks = field.startswith(TASK_PREFIX)
    demos = np.arange(1 if is_of_tasks else demos_per_task)
    wanted = np.ravel(tasks[:, None] * demos_per_task + demos[None])
    values = np.empty((len(wanted), *spec.shape), spec.dtype)
    for number, shard in enumerate(self.index.shards):
      if shard.split != split:
        continue
      first, stop = np.searchsorted(
        wanted, (shard.first, shard.first + shard.num_episodes)
      )
      if first < stop:
        absent = np.asarray(shard.given_up, np.int64)
        episodes = wanted[first:stop]
        rows = episodes - shard.first - np.searchsorted(absent, episodes)
        values[first:stop] = self._files[number][field][rows]
        self._check(field, number, values[first:stop])
    if is_of_tasks:
      return values
    return values.reshape(len(tasks), demos_per_task, *spec.shape)

  def _check(self, field: str, shard: int, values: np.ndarray) -> None:
    """Checks numbers as they are read: mapped files have not been before."""
    path = self.path / file_of(field, shard)
    if values.dtype.kind == 'f' and not np.isfinite(values).all():
      raise InputError(f'{path}: expected finite numbers, got others')
    horizon = self.index.horizon
    if field == 'length' and not ((1 <= values) & (values <= horizon)).all():
      raise InputError(
        f'{path}: expected episodes of 1 to {horizon} steps, got'
        f' {values.min()} to {values.max()}'
      )


def open_demonstrations(
  path: str | Path,
  fields: Sequence[str] | None = None,
  *,
  verify: bool = True,
) -> DemonstrationSet:
  """Opens a demonstration set whose files may come from anywhere.

  The index and the header of every file that is opened are checked against
  each other; a file of a field that is not named is not opened, so that a
  method that may not see actions cannot.

  Args:
    path: the set's directory.
    fields: names of the fields to open; None: all.
    verify: whether the files' digests are compared. A flipped bit shows nowhere
      else, and what is read is read once more from the page cache, so that it
      is the default (about 1 s/GB). False for sets larger than the memory, of
      which little is read.

  Returns:
    The set.

  Raises:
    InputError: naming the file, what was expected and what came; or if the set
      is not complete, or has no such field.
  """
  root = Path(path).absolute()
  if not root.is_dir():
    raise reject('path', 'the directory of a demonstration set', str(root))
  index = read_index(root)
  position = index.position()
  if position is not None:
    split, done = position
    raise InputError(
      f'{root}: expected all {index.num_episodes(split)} episodes of {split},'
      f' got {done}: resume its collection'
    )
  chosen = tuple(index.fields) if fields is None else tuple(fields)
  for field in chosen:
    check_choice('field', field, tuple(index.fields))
  return DemonstrationSet(root, index, chosen, verify=verify)
