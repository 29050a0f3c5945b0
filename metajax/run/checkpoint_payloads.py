"""The arrays of a checkpoint as orbax stores them, verified when read."""

from collections.abc import Iterator, Sequence
import contextlib
import os
from pathlib import Path

from absl import logging
import numpy as np
import orbax.checkpoint as ocp

from metajax.core.errors import one_line
from metajax.run import manifest as manifests
from metajax.run import state_leaves
from metajax.run.manifest import DamagedError, Manifest

_PAYLOAD = 'default'  # orbax's own name of a step's only item


def payload(leaves) -> dict[str, np.ndarray]:
  """Names the leaves by position, since orbax parses what paths contain.

  It refuses arrays without elements; their shape in the manifest says it all.
  """
  payload = {_name(i): leaf for i, leaf in enumerate(leaves) if leaf.size}
  # An orbax item may not be empty.
  return payload or {'empty': np.zeros(1, np.uint8)}


def _name(index: int) -> str:
  return f'leaf_{index:06d}'


def read_leaves(directory: Path, manifest: Manifest) -> list[np.ndarray]:
  """Reads a payload whose files are verified before anything parses them.

  If they are not what was written, the leaves are read one by one: that names
  the damaged one, or shows that all of them have come through.
  """
  indices = range(len(manifest.specs))
  names = [_name(i) for i in indices if 0 not in manifest.specs[i].shape]
  try:
    files = manifests.file_digests(directory)
  except OSError as error:
    raise DamagedError(one_line(error)) from error
  if files == manifest.files:
    stored = _read_payload(directory, names, 'payload')
    return [_verified(stored, manifest, index) for index in indices]
  changed = sorted(dict(files.items() ^ manifest.files.items()))
  stored = {}
  for index in indices:
    if _name(index) in names:
      where = f'leaf {manifest.specs[index].path} (of {changed[0]})'
      stored |= _read_payload(directory, [_name(index)], where)
    _verified(stored, manifest, index)
  logging.warning(
    'checkpoint %s: every leaf is intact, but not %s', directory, changed[0]
  )
  return [_verified(stored, manifest, index) for index in indices]


def _read_payload(
  directory: Path, names: Sequence[str], where: str
) -> dict[str, np.ndarray]:
  """Reads some of a payload's arrays.

  Raises:
    DamagedError: saying where, if they cannot be read.
  """
  if not names:
    return {}
  options = ocp.RestoreArgs(restore_type=np.ndarray)
  try:
    with (
      quiet_orbax(),
      ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader,
    ):
      return reader.restore(
        directory.absolute() / _PAYLOAD,
        args=ocp.args.PyTreeRestore(
          item=dict.fromkeys(names, 0),
          restore_args=dict.fromkeys(names, options),
          partial_restore=True,
        ),
      )
  except Exception as error:
    raise DamagedError(f'{where}: {reason(error)}') from error


def _verified(stored, manifest: Manifest, index: int) -> np.ndarray:
  """Returns a stored leaf after comparing its bytes with the digest."""
  spec, expected = manifest.specs[index], manifest.digests[index]
  leaf = stored.get(_name(index))
  if leaf is None and 0 in spec.shape:
    leaf = np.zeros(spec.shape, np.dtype(spec.dtype))
  if leaf is None:
    raise DamagedError(f'leaf {spec.path}: missing')
  leaf = np.asarray(leaf)
  if spec.key_impl:
    as_saved = leaf.shape[:-1] == spec.shape and leaf.dtype == np.uint32
  else:
    as_saved = leaf.shape == spec.shape and str(leaf.dtype) == spec.dtype
  if not as_saved:
    raise DamagedError(
      f'leaf {spec.path}: expected {spec}, got {leaf.dtype}{list(leaf.shape)}'
    )
  if state_leaves.digest(leaf) != expected:
    raise DamagedError(f'leaf {spec.path}: its bytes do not match its digest')
  return leaf


@contextlib.contextmanager
def quiet_orbax() -> Iterator[None]:
  """Keeps orbax from logging: its failures reach the caller as exceptions."""

  def is_ours(record) -> bool:
    return f'{os.sep}orbax{os.sep}' not in record.pathname

  logger = logging.get_absl_logger()
  logger.addFilter(is_ours)
  try:
    yield
  finally:
    logger.removeFilter(is_ours)


def reason(error: Exception) -> str:
  """Returns what an error says, without the parameters that follow it."""
  text, _, _ = str(error).partition(' [tensorstore_spec=')
  return one_line(Exception(text))
