"""Writing a demonstration set, shard by shard, each whole or absent."""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import dataclasses
from pathlib import Path
import re
from typing import Any

import numpy as np

from metajax.core import durable_files
from metajax.core.directory_lock import lock
from metajax.core.validation import InputError, reject
from metajax.demos.array_files import write_array
from metajax.demos.set_index import (
  FILE_NAME,
  Index,
  Shard,
  file_of,
  read_index,
  write_index,
)

_SHARD_FILE = re.compile(r'(\d{5})\.npy(\.tmp)?')


class SetWriter:
  """Adds shards to a set; made by `open_writer`, which holds its lock.

  Attributes:
    index: what the set holds by now.
  """

  def __init__(self, root: Path, index: Index):
    self._root, self.index = root, index

  def add(
    self,
    arrays: Mapping[str, np.ndarray],
    *,
    rejected: Sequence[int],
    given_up: Sequence[int] = (),
  ) -> None:
    """Adds the set's next episodes, durably.

    Args:
      arrays: field to `[rows, ...]`, a row for each episode not given up.
      rejected: [episodes] how many attempts at each came to nothing.
      given_up: numbers, in the split, of the episodes that have no row.

    Raises:
      InputError: if the set is complete, or the arrays are not its fields.
      StorageError: if a file cannot be written; the set is then as before.
    """
    position = self.index.position()
    if position is None:
      raise InputError(f'{self._root}: expected room for more, got all')
    split, first = position
    shard = Shard(
      split, first, len(rejected), tuple(rejected), tuple(given_up), {}
    )
    self._check(arrays, shard)
    number = len(self.index.shards)
    if shard.num_rows:
      files = {
        name: write_array(self._root / file_of(name, number), arrays[name])
        for name in self.index.fields
      }
      shard = shard._replace(files=files)
    index = dataclasses.replace(self.index, shards=(*self.index.shards, shard))
    write_index(self._root, index)
    self.index = index

  def _check(self, arrays: Mapping[str, np.ndarray], shard: Shard) -> None:
    if set(arrays) != set(self.index.fields):
      raise reject('arrays', f'{sorted(self.index.fields)}', sorted(arrays))
    for name, spec in self.index.fields.items():
      array, shape = arrays[name], (shard.num_rows, *spec.shape)
      if array.dtype.name != spec.dtype or array.shape != shape:
        raise reject(
          name, f'{spec.dtype}{list(shape)}', f'{array.dtype}{array.shape}'
        )
      if array.dtype.kind == 'f' and not np.isfinite(array).all():
        raise InputError(f'{name}: expected finite numbers')


@contextlib.contextmanager
def open_writer(
  path: str | Path, index: Index, *, resume: bool
) -> Iterator[SetWriter]:
  """Creates or reopens a demonstration set, and holds it against others.

  What a killed process left half written is removed.

  Args:
    path: the set's directory; made if it does not exist.
    index: what the set is to hold, without shards.
    resume: go on with a set that is there; a new one is then welcome too.

  Yields:
    The writer.

  Raises:
    InputError: if the directory is used and `resume` is false, or if what is
      there was made with other settings, which is named.
    LockedError: if another process holds it.
    StorageError: if it cannot be written.
  """
  root = Path(path).absolute()
  if root.exists() and not root.is_dir():
    raise reject('path', 'a directory', str(root))
  with durable_files.storage_errors(f'cannot create {root}'):
    root.mkdir(parents=True, exist_ok=True)
  with lock(root):
    if (root / FILE_NAME).exists():
      if not resume:
        raise InputError(
          f'path: expected an empty directory or resume, got {root} with'
          f' {FILE_NAME}'
        )
      there = read_index(root)
      _check_same(root, there, index)
      index = there
    else:
      _check_empty(root)
      write_index(root, index)
    _remove_leftovers(root, index)
    yield SetWriter(root, index)


def _check_empty(root: Path) -> None:
  """Checks that nobody's files can be taken for the set's own."""
  with durable_files.storage_errors(f'cannot read {root}'):
    names = sorted(entry.name for entry in root.iterdir())
  others = [name for name in names if name not in _left_by_a_first_start()]
  if others:
    raise reject('path', f'an empty directory, {root}', others[0])


def _left_by_a_first_start() -> tuple[str, ...]:
  return ('.lock', f'{FILE_NAME}.tmp')


def _check_same(root: Path, there: Index, wanted: Index) -> None:
  """Checks that a set was made with these very settings and versions."""
  where = f'(as in {root / FILE_NAME})'
  before, now = _flat_settings(there), _flat_settings(wanted)
  for name in [*now, *(before.keys() - now.keys())]:
    was, got = before.get(name, 'nothing'), now.get(name, 'nothing')
    if was != got:
      raise InputError(f'{name}: expected {was!r} {where}, got {got!r}')
  if there.fields != wanted.fields:
    changed = sorted(set(there.fields.items()) ^ set(wanted.fields.items()))
    raise InputError(f'fields: expected those {where}, got {changed[0]}')


def _flat_settings(index: Index) -> dict[str, Any]:
  """Returns all that decides a set's numbers, with dotted names."""
  flat: dict[str, Any] = {}

  def add(prefix: str, value: Any) -> None:
    items: Any = None
    if isinstance(value, Mapping):
      items = value.items()
    elif isinstance(value, (list, tuple)):
      items = enumerate(value)
    if items is None:
      flat[prefix] = value
      return
    for name, item in items:
      add(f'{prefix}.{name}' if prefix else str(name), item)

  add('', index.settings)
  add('made_with', index.made_with)
  add('splits', index.splits)
  flat['demos_per_task'] = index.demos_per_task
  flat['horizon'] = index.horizon
  return flat


def _remove_leftovers(root: Path, index: Index) -> None:
  """Removes files of shards that the index does not name.

  Raises:
    InputError: if a field's folder leads elsewhere; nothing is written there.
    StorageError: if a file cannot be removed.
  """
  with durable_files.storage_errors(f'cannot clean {root}'):
    (root / f'{FILE_NAME}.tmp').unlink(missing_ok=True)
    for field in index.fields:
      folder = root / field
      if folder.resolve() != root.resolve() / field:
        raise InputError(f'{folder}: expected a directory of its own')
      if not folder.is_dir():
        continue
      for file in folder.iterdir():
        match = _SHARD_FILE.fullmatch(file.name)
        if match and (match[2] or int(match[1]) >= len(index.shards)):
          file.unlink()
