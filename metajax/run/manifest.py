"""The manifest of a checkpoint: what it holds, and the digests that prove it.

A checkpoint without a valid manifest does not exist: the manifest is written
last, durably, after everything that it vouches for.
"""

from collections.abc import Mapping, Sequence
import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metajax.core import durable_files
from metajax.core.errors import one_line, package_versions
from metajax.core.validation import InputError
from metajax.run.state_leaves import LeafSpec, digest

FORMAT_VERSION = 1
FILE_NAME = 'MANIFEST.json'

# A manifest has about 200 bytes a leaf; more than this is no manifest.
_MAX_BYTES = 64 * 2**20


class DamagedError(Exception):
  """A checkpoint is not what was saved; the message says what is wrong."""


class Manifest(NamedTuple):
  """What a checkpoint holds.

  Attributes:
    step: meta-iterations done.
    config_hash: SHA-256 of the config and seed that the state belongs to.
    specs: path, shape and dtype of each leaf of the state, in order.
    digests: SHA-256 of each leaf's bytes, in order.
    progress: the host's own JSON: counters, and the best metric's value.
    files: SHA-256 of each file in the checkpoint's directory, by its path.
    format_version: version of this file's form.
  """

  step: int
  config_hash: str
  specs: tuple[LeafSpec, ...]
  digests: tuple[str, ...]
  progress: Mapping[str, Any]
  files: Mapping[str, str]
  format_version: int = FORMAT_VERSION


def describe(
  step: int,
  config_hash: str,
  specs: Sequence[LeafSpec],
  leaves: Sequence[np.ndarray],
  progress: Mapping[str, Any],
) -> Manifest:
  """Returns the manifest of a state's leaves in host memory, without files."""
  digests = tuple(digest(leaf) for leaf in leaves)
  return Manifest(step, config_hash, tuple(specs), digests, dict(progress), {})


def file_digests(directory: Path) -> dict[str, str]:
  """Returns the SHA-256 of each file below a directory but the manifest.

  Raises:
    OSError: if a file cannot be read.
  """
  digests = {}
  for path in sorted(directory.rglob('*')):
    name = str(path.relative_to(directory))
    if path.is_file() and name != FILE_NAME:
      with open(path, 'rb') as file:
        digests[name] = hashlib.file_digest(file, 'sha256').hexdigest()
  return digests


def write(directory: Path, manifest: Manifest) -> None:
  """Writes the manifest of the checkpoint in `directory`, durably.

  Raises:
    OSError: if it cannot be written.
  """
  content = {
    'format_version': manifest.format_version,
    'step': manifest.step,
    'config_hash': manifest.config_hash,
    'versions': package_versions(),
    'progress': manifest.progress,
    'files': manifest.files,
    'leaves': [
      {**spec._asdict(), 'shape': list(spec.shape), 'sha256': sha256}
      for spec, sha256 in zip(manifest.specs, manifest.digests, strict=True)
    ],
  }
  content['manifest_sha256'] = _own_digest(content)
  text = json.dumps(content, indent=1, allow_nan=False) + '\n'
  durable_files.write_durably(directory / FILE_NAME, text.encode())


def read(directory: Path) -> Manifest:
  """Reads and verifies the manifest of the checkpoint in `directory`.

  Raises:
    DamagedError: if there is none, or it is not what was written.
    InputError: if it is whole but of another format version.
  """
  path = directory / FILE_NAME
  try:
    if path.stat().st_size > _MAX_BYTES:
      raise DamagedError(f'{FILE_NAME} is larger than {_MAX_BYTES} bytes')
    content = json.loads(path.read_bytes())
    recorded = content.pop('manifest_sha256')
  except FileNotFoundError:
    raise DamagedError(f'no {FILE_NAME}') from None
  except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
    raise DamagedError(f'{FILE_NAME}: {one_line(error)}') from error
  except RecursionError:
    raise DamagedError(f'{FILE_NAME}: nested too deeply') from None
  if recorded != _own_digest(content):
    raise DamagedError(f'{FILE_NAME} does not match its own digest')
  version = content.get('format_version')
  if version != FORMAT_VERSION:
    raise InputError(
      f'checkpoint {directory}: expected format version {FORMAT_VERSION},'
      f' got {version!r}'
    )
  return _from_content(content)


def _from_content(content) -> Manifest:
  """Builds the manifest from content whose digest has been verified."""
  leaves = content['leaves']
  specs = tuple(
    LeafSpec(
      leaf['path'], tuple(leaf['shape']), leaf['dtype'], leaf['key_impl']
    )
    for leaf in leaves
  )
  return Manifest(
    step=content['step'],
    config_hash=content['config_hash'],
    specs=specs,
    digests=tuple(leaf['sha256'] for leaf in leaves),
    progress=content['progress'],
    files=content['files'],
    format_version=content['format_version'],
  )


def _own_digest(content) -> str:
  canonical = json.dumps(content, sort_keys=True, separators=(',', ':'))
  return hashlib.sha256(canonical.encode()).hexdigest()
