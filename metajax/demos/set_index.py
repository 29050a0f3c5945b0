"""The index of a demonstration set: what lies where, and what proves it.

A file that the index does not name does not exist: it is written last, durably,
after everything that it vouches for. Where a file lies is not written down but
follows from its field and its shard, so that no index can point elsewhere.
"""

from collections.abc import Mapping
import dataclasses
import hashlib
import json
import os
from pathlib import Path
import re
from typing import Any, NamedTuple

from metajax.core import durable_files
from metajax.core.errors import one_line
from metajax.core.validation import InputError
from metajax.demos.array_files import DTYPES, ArrayFile, open_file

FORMAT_VERSION = 1
FILE_NAME = 'index.json'
SPLITS = ('train', 'validation', 'held_out')
MAX_SHARDS = 256
# Fields that all demonstrations of a task share.
TASK_PREFIX = 'task/'

# What an index with `MAX_SHARDS` shards of fifty fields has; parsed, hostile
# text takes some thirty times its size.
_MAX_BYTES = 2 * 2**20
_MAX_CONTAINERS = 50_000
_MAX_COUNT = 2**40
_FIELD_NAME = re.compile(r'\w[\w.-]*(/\w[\w.-]*)*', re.ASCII)
_HEX_DIGEST = re.compile('[0-9a-f]{64}')


class FieldSpec(NamedTuple):
  """What one episode has of a field.

  Attributes:
    dtype: name of the dtype.
    shape: without an axis for episodes.
  """

  dtype: str
  shape: tuple[int, ...]


class Shard(NamedTuple):
  """Episodes that were written together.

  Episode `n` of a split is demonstration `n % demos_per_task` of its task
  `n // demos_per_task`.

  Attributes:
    split: of `SPLITS`.
    first: number of its first episode in the split.
    num_episodes: how many follow, those given up included.
    rejected: [num_episodes] how many attempts at each came to nothing.
    given_up: numbers of the episodes of which no attempt was a success; the
      files have no rows for them.
    files: field to its file, rows for episodes in the order of their numbers.
  """

  split: str
  first: int
  num_episodes: int
  rejected: tuple[int, ...]
  given_up: tuple[int, ...]
  files: Mapping[str, ArrayFile]

  @property
  def num_rows(self) -> int:
    return self.num_episodes - len(self.given_up)


@dataclasses.dataclass(frozen=True)
class Index:
  """What a demonstration set holds.

  Attributes:
    settings: what was asked for, as JSON: it decides all numbers.
    made_with: versions of the packages and the kind of device.
    splits: split to its number of tasks.
    demos_per_task: episodes of each task.
    horizon: steps of an episode, T.
    fields: name of a field to what one episode has of it.
    shards: in the order of the splits and of their episodes.
  """

  settings: Mapping[str, Any]
  made_with: Mapping[str, str]
  splits: Mapping[str, int]
  demos_per_task: int
  horizon: int
  fields: Mapping[str, FieldSpec]
  shards: tuple[Shard, ...] = ()

  def num_episodes(self, split: str) -> int:
    """Returns how many episodes a split has when it is complete."""
    return self.splits[split] * self.demos_per_task

  def position(self) -> tuple[str, int] | None:
    """Returns split and number of the next episode; None: all are there."""
    done = dict.fromkeys(self.splits, 0)
    for shard in self.shards:
      done[shard.split] += shard.num_episodes
    for split, num_done in done.items():
      if num_done < self.num_episodes(split):
        return split, num_done
    return None


def file_of(field: str, shard: int) -> Path:
  """Returns where a field of a shard lies below the set's directory."""
  return Path(field) / f'{shard:05d}.npy'


def write_index(root: Path, index: Index) -> None:
  """Writes a set's index durably.

  Raises:
    InputError: if it is larger than any reader would take.
    StorageError: if it cannot be written.
  """
  content = {'format_version': FORMAT_VERSION, **dataclasses.asdict(index)}
  content['fields'] = {
    name: spec._asdict() for name, spec in index.fields.items()
  }
  content['shards'] = [
    {
      **shard._asdict(),
      'files': {name: file._asdict() for name, file in shard.files.items()},
    }
    for shard in index.shards
  ]
  content['index_sha256'] = _own_digest(content)
  text = (json.dumps(content, indent=0, allow_nan=False) + '\n').encode()
  if len(text) > _MAX_BYTES:
    raise InputError(
      f'{root / FILE_NAME}: expected at most {_MAX_BYTES} bytes, got'
      f' {len(text)}: use fewer, larger shards'
    )
  with durable_files.storage_errors(f'cannot write {root / FILE_NAME}'):
    durable_files.write_durably(root / FILE_NAME, text)


def read_index(root: Path) -> Index:
  """Reads a set's index and checks that all of it fits together.

  Args:
    root: the set's directory, absolute.

  Raises:
    InputError: naming the file, what was expected and what came.
  """
  path = root / FILE_NAME
  with open_file(root, Path(FILE_NAME)) as file:
    size = os.fstat(file.fileno()).st_size
    if not 0 < size <= _MAX_BYTES:
      raise InputError(f'{path}: expected 1 to {_MAX_BYTES} bytes, got {size}')
    text = file.read(_MAX_BYTES)
  try:
    if text.count(b'[') + text.count(b'{') > _MAX_CONTAINERS:
      raise InputError(f'expected at most {_MAX_CONTAINERS} lists and objects')
    content = json.loads(
      text, object_pairs_hook=_object, parse_constant=_no_constant
    )
    return _index_of(content)
  except InputError as error:
    raise InputError(f'{path}: {one_line(error)}') from error
  except RecursionError:
    raise InputError(f'{path}: expected JSON, got too deep a nesting') from None
  except ValueError as error:
    raise InputError(f'{path}: expected JSON, got {one_line(error)}') from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  """Returns the object of some entries, of which no two have one name."""
  content = dict(pairs)
  if len(content) < len(pairs):
    seen = set()
    twice = next(n for n, _ in pairs if n in seen or seen.add(n))
    raise InputError(f'expected one entry of a name, got two of {twice[:60]!r}')
  return content


def _no_constant(name: str) -> Any:
  raise InputError(f'expected finite numbers, got {name}')


def _own_digest(content: Mapping[str, Any]) -> str:
  canonical = json.dumps(content, sort_keys=True, separators=(',', ':'))
  return hashlib.sha256(canonical.encode()).hexdigest()


def _index_of(content: Any) -> Index:
  """Builds an index from parsed JSON of any form.

  Raises:
    InputError: naming the entry that is not as it should be.
  """
  top = _entries(
    'index',
    content,
    ('format_version', 'index_sha256', *_names_of(Index)),
  )
  version = top['format_version']
  if version != FORMAT_VERSION:
    raise _wrong('format_version', str(FORMAT_VERSION), version)
  recorded = content.pop('index_sha256')
  if recorded != _own_digest(content):
    raise _wrong('index_sha256', _own_digest(content), recorded)
  splits = {
    name: _count(f'splits.{name}', number)
    for name, number in _mapping('splits', top['splits']).items()
  }
  if [name for name in SPLITS if name in splits] != list(splits):
    raise _wrong('splits', f'some of {", ".join(SPLITS)}', list(splits))
  index = Index(
    settings=_mapping('settings', top['settings']),
    made_with=_mapping('made_with', top['made_with']),
    splits=splits,
    demos_per_task=_count('demos_per_task', top['demos_per_task'], minimum=1),
    horizon=_count('horizon', top['horizon'], minimum=1),
    fields={
      name: _field_of(name, entry)
      for name, entry in _mapping('fields', top['fields']).items()
    },
  )
  _check_steps(index)
  shards = _sequence('shards', top['shards'])
  if len(shards) > MAX_SHARDS:
    raise _wrong('shards', f'at most {MAX_SHARDS}', len(shards))
  for number, entry in enumerate(shards):
    shard = _shard_of(f'shards[{number}]', entry, index)
    index = dataclasses.replace(index, shards=(*index.shards, shard))
  return index


def _field_of(name: str, entry: Any) -> FieldSpec:
  if not _FIELD_NAME.fullmatch(name) or len(name) > 200:
    raise _wrong('fields', 'names as in task/goal', name)
  where = f'fields[{name}]'
  parts = _entries(where, entry, FieldSpec._fields)
  return FieldSpec(_dtype(where, parts['dtype']), _shape(where, parts['shape']))


def _check_steps(index: Index) -> None:
  """Checks that fields have as many steps as an episode."""
  steps = index.horizon
  leading = {
    'observations': steps + 1,
    **dict.fromkeys(('actions', 'labels', 'rewards', 'done', 'success'), steps),
  }
  for name, spec in index.fields.items():
    expected = steps + 1 if name.startswith('frames/') else leading.get(name)
    if expected is not None and spec.shape[:1] != (expected,):
      raise _wrong(f'fields[{name}]', f'{expected} steps', list(spec.shape))
    is_picture = len(spec.shape) == 4 and spec.shape[-1] == 3
    if name.startswith('frames/') and not (
      is_picture and spec.dtype == 'uint8'
    ):
      raise _wrong(f'fields[{name}]', 'uint8 [T+1,height,width,3]', list(spec))


def _shard_of(where: str, entry: Any, index: Index) -> Shard:
  parts = _entries(where, entry, Shard._fields)
  expected = index.position()
  place = (parts['split'], parts['first'])
  if expected is None or place != expected:
    raise _wrong(where, f'to go on at {expected}', list(place))
  split, first = expected
  most = index.num_episodes(split) - first
  count = _count(f'{where}.num_episodes', parts['num_episodes'], minimum=1)
  if count > most:
    raise _wrong(f'{where}.num_episodes', f'at most {most}', count)
  rejected = _counts(f'{where}.rejected', parts['rejected'])
  if len(rejected) != count:
    raise _wrong(f'{where}.rejected', f'{count} numbers', len(rejected))
  given_up = _counts(f'{where}.given_up', parts['given_up'])
  inside = [n for n in sorted(set(given_up)) if first <= n < first + count]
  if list(given_up) != inside:
    raise _wrong(f'{where}.given_up', 'episodes of the shard', list(given_up))
  shard = Shard(split, first, count, rejected, given_up, {})
  files = _mapping(f'{where}.files', parts['files'])
  wanted = sorted(index.fields) if shard.num_rows else []
  if sorted(files) != wanted:
    missing = sorted(set(wanted) ^ set(files))
    raise _wrong(f'{where}.files', 'the fields of the index', missing)
  return shard._replace(
    files={
      name: _file_of(
        f'{where}.files[{name}]',
        file,
        index.fields[name],
        shard.num_rows,
      )
      for name, file in files.items()
    }
  )


def _file_of(
  where: str, entry: Any, spec: FieldSpec, num_rows: int
) -> ArrayFile:
  parts = _entries(where, entry, ArrayFile._fields)
  dtype = _dtype(where, parts['dtype'])
  shape = _shape(where, parts['shape'])
  if dtype != spec.dtype or shape != (num_rows, *spec.shape):
    raise _wrong(
      where,
      f'{spec.dtype}{[num_rows, *spec.shape]}',
      f'{dtype}{list(shape)}',
    )
  digest = parts['sha256']
  if not isinstance(digest, str) or not _HEX_DIGEST.fullmatch(digest):
    raise _wrong(f'{where}.sha256', '64 hexadecimal digits', digest)
  num_bytes = _count(f'{where}.num_bytes', parts['num_bytes'])
  return ArrayFile(dtype, shape, num_bytes, digest)


def _names_of(kind: type) -> tuple[str, ...]:
  return tuple(field.name for field in dataclasses.fields(kind))


def _entries(where: str, value: Any, names: tuple[str, ...]) -> dict[str, Any]:
  """Returns an object that has these entries and no others."""
  content = _mapping(where, value)
  if set(content) != set(names):
    differing = sorted(set(content) ^ set(names))
    raise _wrong(where, f'the entries {", ".join(names)}', differing)
  return content


def _mapping(where: str, value: Any) -> dict[str, Any]:
  if not isinstance(value, dict):
    raise _wrong(where, 'an object', value)
  return value


def _sequence(where: str, value: Any) -> list[Any]:
  if not isinstance(value, list):
    raise _wrong(where, 'a list', value)
  return value


def _count(where: str, value: Any, *, minimum: int = 0) -> int:
  is_integer = isinstance(value, int) and not isinstance(value, bool)
  if not is_integer or not minimum <= value <= _MAX_COUNT:
    raise _wrong(where, f'an integer >= {minimum}', value)
  return value


def _counts(where: str, value: Any) -> tuple[int, ...]:
  return tuple(_count(where, number) for number in _sequence(where, value))


def _shape(where: str, value: Any) -> tuple[int, ...]:
  shape = _counts(f'{where}.shape', value)
  if len(shape) > 8:
    raise _wrong(f'{where}.shape', 'at most 8 axes', len(shape))
  return shape


def _dtype(where: str, value: Any) -> str:
  if value not in DTYPES:
    raise _wrong(f'{where}.dtype', f'one of {", ".join(DTYPES)}', value)
  return value


def _wrong(where: str, expected: str, got: Any) -> InputError:
  """Returns the error that names an entry; long values lose their end."""
  text = repr(got)
  shown = text if len(text) <= 80 else f'{text[:80]}...'
  return InputError(f'{where}: expected {expected}, got {shown}')
