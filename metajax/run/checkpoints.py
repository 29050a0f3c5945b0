"""Checkpoints: orbax writes them, a manifest of digests vouches for them."""

from collections.abc import Iterator, Mapping, Sequence
import concurrent.futures
import contextlib
from pathlib import Path
import shutil
from typing import Any, NamedTuple

from absl import logging
import jax
import numpy as np
import orbax.checkpoint as ocp

from metajax.core.algorithm import Algorithm, init_key
from metajax.core.validation import InputError, check_choice
from metajax.run import durable_files, state_leaves
from metajax.run import manifest as manifests
from metajax.run.errors import StorageError, one_line
from metajax.run.manifest import DamagedError, Manifest

PyTree = Any

LAST, BEST = 'last', 'best'
_KEEP = {LAST: 3, BEST: 1}
_PAYLOAD = 'default'  # orbax's own name of a step's only item


class Restored(NamedTuple):
  """A state that was read and verified.

  Attributes:
    step: meta-iterations done.
    state: the state, on the device.
    progress: what the host saved with it.
  """

  step: int
  state: PyTree
  progress: Mapping[str, Any]


class Checkpoints:
  """The last checkpoints of a run and its best one, saved in the background.

  A context manager: leaving it waits for what is being written. One process
  at a time may hold it (the run locks its workdir).
  """

  def __init__(self, directory: Path, config_hash: str):
    """Opens `directory` for writing; removes what a crash left unfinished."""
    self._config_hash = config_hash
    self._directories = {name: directory / name for name in _KEEP}
    self._managers: dict[str, ocp.CheckpointManager] = {}
    with durable_files.storage_errors(f'cannot open {directory}'):
      for name, folder in self._directories.items():
        folder.mkdir(parents=True, exist_ok=True)
        for step in _steps(folder):
          if not (folder / str(step) / manifests.FILE_NAME).exists():
            _remove(folder / str(step))
        self._managers[name] = _manager(folder)
    # One thread, so that checkpoints become durable in the order of saving.
    self._writer = concurrent.futures.ThreadPoolExecutor(1)
    self._pending: list[concurrent.futures.Future] = []

  def __enter__(self) -> 'Checkpoints':
    return self

  def __exit__(self, kind, error, trace) -> None:
    try:
      self.wait()
    except StorageError as failure:
      # The error already under way says more than its consequence.
      if error is None:
        raise
      logging.error('%s', failure)
    finally:
      self._writer.shutdown()
      for manager in self._managers.values():
        manager.close()

  def save(
    self,
    step: int,
    state: PyTree,
    progress: Mapping[str, Any],
    names: tuple[str, ...] = (LAST,),
  ) -> None:
    """Copies a state to host memory and writes it in the background.

    Args:
      step: meta-iterations done.
      state: pytree of arrays; its buffers may be donated after the call.
      progress: JSON to keep with it.
      names: under which of 'last' and 'best' to save it, in that order.

    Raises:
      StorageError: if an earlier save has failed.
    """
    self.wait()
    specs = state_leaves.leaf_specs(state)
    leaves = state_leaves.host_leaves(state)
    self._pending = [
      self._writer.submit(self._write, step, specs, leaves, progress, names)
    ]

  def wait(self) -> None:
    """Blocks until everything saved is durable.

    Raises:
      StorageError: if it could not be written.
    """
    pending, self._pending = self._pending, []
    for future in pending:
      future.result()

  def latest_step(self) -> int | None:
    """Returns the newest durable step, None if there is none; a quick look."""
    steps = _manifested_steps(self._directories[LAST])
    return steps[0] if steps else None

  def best_progress(self) -> Mapping[str, Any] | None:
    """Returns what was saved with the best checkpoint; None without one."""
    folder = self._directories[BEST]
    for step in _manifested_steps(folder):
      with contextlib.suppress(DamagedError):
        return manifests.read(folder / str(step)).progress
    return None

  def restore(self, like: PyTree) -> Restored | None:
    """Reads the newest intact one of the last checkpoints.

    Args:
      like: tree of arrays or `jax.ShapeDtypeStruct`, the state expected.

    Returns:
      What was restored; None if no checkpoint was ever completed.

    Raises:
      StorageError: if there are checkpoints and none is intact.
      InputError: if the checkpoint belongs to another config or state.
    """
    return _restore(self._directories[LAST], like, self._config_hash)

  def forget_after(self, step: int) -> None:
    """Removes the last checkpoints beyond `step`, which are damaged ones."""
    folder = self._directories[LAST]
    with durable_files.storage_errors(f'cannot clean {folder}'):
      for other in _steps(folder):
        if other > step:
          _remove(folder / str(other))
      self._managers[LAST].reload()

  def _write(self, step, specs, leaves, progress, names) -> None:
    described = manifests.describe(
      step, self._config_hash, specs, leaves, progress
    )
    for name in names:
      folder = self._directories[name]
      try:
        self._write_one(name, folder, described, leaves)
      except Exception as error:
        raise StorageError(
          f'cannot save step {step} under {folder}: {one_line(error)}'
        ) from error

  def _write_one(self, name, folder: Path, described: Manifest, leaves) -> None:
    if not folder.is_dir():
      raise FileNotFoundError(f'{folder} is gone')
    manager, step = self._managers[name], described.step
    target = folder / str(step)
    if target.exists():
      _remove(target)
      manager.reload()
    saved = manager.save(
      step, args=ocp.args.StandardSave(_payload(leaves)), force=True
    )
    if not saved:
      raise OSError(f'step {step} was not saved')
    durable_files.sync_tree(target)
    files = manifests.file_digests(target)
    manifests.write(target, described._replace(files=files))
    durable_files.sync_directory(folder)
    # Only now may older steps go: at no moment are there fewer than promised.
    for old in _manifested_steps(folder)[_KEEP[name] :]:
      _remove(folder / str(old))
    manager.reload()


def restore_latest(
  workdir: str | Path, like: PyTree, config_hash: str | None = None
) -> Restored:
  """Reads the newest intact checkpoint of a run.

  Args:
    workdir: the run's directory.
    like: tree of arrays or `jax.ShapeDtypeStruct`, the state expected.
    config_hash: refuse a state of another config than this; None: take any.

  Returns:
    What was restored.

  Raises:
    InputError: if there is no checkpoint, or it holds another state.
    StorageError: if there are checkpoints and none is intact.
  """
  return _restore_some(Path(workdir), LAST, like, config_hash)


def restore_best(
  workdir: str | Path, like: PyTree, config_hash: str | None = None
) -> Restored:
  """Reads a run's best checkpoint; as `restore_latest` otherwise."""
  return _restore_some(Path(workdir), BEST, like, config_hash)


def load_state(
  workdir: str | Path, algorithm: Algorithm, which: str = LAST
) -> PyTree:
  """Reads the state that a run has trained.

  Args:
    workdir: the run's directory.
    algorithm: the algorithm that was run, for the form of its state.
    which: 'last' or 'best'.

  Returns:
    The state, on the device.

  Raises:
    InputError: if there is no such checkpoint, or it holds another state.
    StorageError: if there are checkpoints and none is intact.
  """
  check_choice('which', which, (LAST, BEST))
  like = jax.eval_shape(
    algorithm.init, algorithm.data, init_key(jax.random.key(0))
  )
  return _restore_some(Path(workdir), which, like, None).state


def describe_last(workdir: str | Path) -> str:
  """Says in a few words which checkpoint a run can be resumed from."""
  folder = Path(workdir) / 'checkpoints' / LAST
  try:
    steps = _manifested_steps(folder)
  except OSError as error:
    return f'last checkpoint: {one_line(error)}'
  return f'last checkpoint: {folder / str(steps[0]) if steps else "none"}'


def _restore_some(workdir: Path, name: str, like, config_hash) -> Restored:
  folder = workdir / 'checkpoints' / name
  restored = _restore(folder, like, config_hash)
  if restored is None:
    raise InputError(f'workdir: expected a checkpoint, got none in {folder}')
  return restored


def _restore(folder: Path, like, config_hash: str | None) -> Restored | None:
  steps = _manifested_steps(folder)
  for step in steps:
    try:
      return _restore_step(folder / str(step), like, config_hash)
    except DamagedError as damage:
      logging.error('checkpoint %s is damaged: %s', folder / str(step), damage)
  if steps:
    raise StorageError(f'no intact checkpoint is left in {folder}')
  return None


def _restore_step(directory: Path, like, config_hash) -> Restored:
  """Reads one checkpoint.

  Raises:
    DamagedError: naming what is damaged.
    InputError: if it is intact but holds another state.
  """
  manifest = manifests.read(directory)
  if directory.name != str(manifest.step):
    raise DamagedError(f'it holds step {manifest.step}')
  name = f'checkpoint {directory}'
  if config_hash is not None and manifest.config_hash != config_hash:
    raise InputError(
      f'{name}: expected the config with hash {config_hash[:12]},'
      f' got {manifest.config_hash[:12]}'
    )
  state_leaves.check_leaves(name, manifest.specs, state_leaves.leaf_specs(like))
  leaves = _read_leaves(directory, manifest)
  state = state_leaves.place_leaves(leaves, like)
  return Restored(manifest.step, state, manifest.progress)


def _payload(leaves) -> dict[str, np.ndarray]:
  """Names the leaves by position, since orbax parses what paths contain.

  It refuses arrays without elements; their shape in the manifest says it all.
  """
  payload = {_name(i): leaf for i, leaf in enumerate(leaves) if leaf.size}
  # An orbax item may not be empty.
  return payload or {'empty': np.zeros(1, np.uint8)}


def _name(index: int) -> str:
  return f'leaf_{index:06d}'


def _read_leaves(directory: Path, manifest: Manifest) -> list[np.ndarray]:
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
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
      return reader.restore(
        directory.absolute() / _PAYLOAD,
        args=ocp.args.PyTreeRestore(
          item=dict.fromkeys(names, 0),
          restore_args=dict.fromkeys(names, options),
          partial_restore=True,
        ),
      )
  except Exception as error:
    raise DamagedError(f'{where}: {one_line(error)}') from error


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


def _manager(folder: Path) -> ocp.CheckpointManager:
  options = ocp.CheckpointManagerOptions(
    enable_async_checkpointing=False,  # the writer thread covers the manifest
    cleanup_tmp_directories=True,
  )
  return ocp.CheckpointManager(folder.absolute(), options=options)


def _steps(folder: Path) -> Iterator[int]:
  """Yields the steps in a folder, complete or not."""
  if folder.is_dir():
    for entry in folder.iterdir():
      # '7' is a step; '07' and orbax's temporary names are not.
      if entry.name.isdecimal() and str(int(entry.name)) == entry.name:
        yield int(entry.name)


def _manifested_steps(folder: Path) -> list[int]:
  """Returns the steps that claim to be complete, newest first."""
  return sorted(
    (
      step
      for step in _steps(folder)
      if (folder / str(step) / manifests.FILE_NAME).exists()
    ),
    reverse=True,
  )


def _remove(directory: Path) -> None:
  """Removes a checkpoint, its manifest first: half of one is none."""
  (directory / manifests.FILE_NAME).unlink(missing_ok=True)
  shutil.rmtree(directory)
