"""The directory of a run: one writer, one config, the same layout for all."""

from collections.abc import Iterator, Mapping
import contextlib
import dataclasses
import hashlib
import json
from pathlib import Path
import shlex
import sys
from typing import Any

import jax

from metajax.core import durable_files
from metajax.core.directory_lock import lock
from metajax.core.errors import one_line, package_versions
from metajax.core.validation import InputError, reject
from metajax.run.schedule import Schedule

FORMAT_VERSION = 1
_OURS = ('config.json', 'metrics.jsonl', 'evaluation.json', 'checkpoints')


@dataclasses.dataclass(frozen=True)
class Workdir:
  """A locked directory and the names of what a run keeps in it.

  Attributes:
    path: the directory.
    config_hash: SHA-256 of config and seed.
  """

  path: Path
  config_hash: str

  @property
  def metrics(self) -> Path:
    return self.path / 'metrics.jsonl'

  @property
  def table(self) -> Path:
    return self.path / 'metrics.csv'

  @property
  def tensorboard(self) -> Path:
    return self.path / 'tensorboard'

  @property
  def evaluation(self) -> Path:
    return self.path / 'evaluation.json'

  @property
  def checkpoints(self) -> Path:
    return self.path / 'checkpoints'

  @property
  def bad_step(self) -> Path:
    return self.path / 'bad_step'


@contextlib.contextmanager
def open_workdir(
  path: str | Path,
  config: Mapping[str, Any],
  seed: int,
  schedule: Schedule,
  *,
  resume: bool,
) -> Iterator[Workdir]:
  """Creates or reopens a run's directory and holds its lock.

  Args:
    path: the directory; made if it does not exist.
    config: what the run is, as JSON; with the seed it decides the hash.
    seed: the run's seed.
    schedule: noted in config.json; it may change when a run is resumed.
    resume: reopen a used directory; a new one is then welcome too.

  Yields:
    The directory.

  Raises:
    InputError: if it is used and `resume` is false, if it is not a directory,
      or if it belongs to another config.
    LockedError: if another process holds it.
    StorageError: if it cannot be written.
  """
  path = Path(path).absolute()
  if path.exists() and not path.is_dir():
    raise reject('workdir', 'a directory', str(path))
  with durable_files.storage_errors(f'cannot create {path}'):
    path.mkdir(parents=True, exist_ok=True)
  with lock(path):
    config = _as_json(config)
    workdir = Workdir(path, config_hash(config, seed))
    used = [name for name in _OURS if (path / name).exists()]
    if used and not resume:
      raise InputError(
        f'workdir: expected an empty directory or resume, got {path} with'
        f' {used[0]}'
      )
    if used:
      _check_config(path, config, seed, workdir.config_hash)
    _write_config(workdir, config, seed, schedule)
    yield workdir


def config_hash(config: Mapping[str, Any], seed: int) -> str:
  """Returns the SHA-256 of a config and seed, whatever the order of fields."""
  text = json.dumps({'config': _as_json(config), 'seed': seed}, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()


def read_config(path: str | Path) -> dict[str, Any]:
  """Reads the config.json of a run's directory.

  Raises:
    InputError: if it is missing or is not what a run writes.
  """
  file = Path(path) / 'config.json'
  try:
    content = json.loads(file.read_bytes())
  except (OSError, ValueError, RecursionError) as error:
    raise InputError(f'cannot read {file}: {one_line(error)}') from error
  if not isinstance(content, dict):
    raise InputError(f'{file}: expected an object, got {type(content)}')
  version = content.get('format_version')
  if version != FORMAT_VERSION:
    raise InputError(
      f'{file}: expected format version {FORMAT_VERSION}, got {version!r}'
    )
  return content


def _as_json(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the config as it reads after a trip through JSON."""
  try:
    return json.loads(json.dumps(dict(config), allow_nan=False))
  except (TypeError, ValueError) as error:
    raise InputError(
      f'config: expected values that JSON can hold: {one_line(error)}'
    ) from error


def _check_config(path: Path, config, seed: int, expected_hash: str) -> None:
  stored = read_config(path)
  if stored.get('config_hash') == expected_hash:
    return
  where = f'(as in {path / "config.json"})'
  if stored.get('seed') != seed:
    raise InputError(f'seed: expected {stored.get("seed")} {where}, got {seed}')
  before, now = _flat(stored.get('config')), _flat(config)
  for name in sorted(before.keys() | now.keys()):
    was, got = before.get(name, 'nothing'), now.get(name, 'nothing')
    if was != got:
      raise InputError(f'{name}: expected {was!r} {where}, got {got!r}')
  raise InputError(f'config: expected the config_hash of {where}')


def _flat(value, prefix: str = 'config') -> dict[str, Any]:
  """Returns nested objects as one dictionary with dotted names."""
  if not isinstance(value, dict):
    return {prefix: value}
  flat = {}
  for name, item in value.items():
    flat.update(_flat(item, f'{prefix}.{name}'))
  return flat


def _write_config(workdir: Workdir, config, seed, schedule: Schedule) -> None:
  device = jax.devices()[0]
  durable_files.write_json(
    workdir.path / 'config.json',
    {
      'format_version': FORMAT_VERSION,
      'config': config,
      'seed': seed,
      'schedule': dataclasses.asdict(schedule),
      'config_hash': workdir.config_hash,
      'versions': package_versions(),
      'device': {
        'platform': device.platform,
        'kind': device.device_kind,
        'count': jax.device_count(),
      },
      'command': shlex.join(sys.argv),
    },
  )
