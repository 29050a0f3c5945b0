"""Checkpoints: orbax writes them, a manifest of digests vouches for them."""

from collections.abc import Iterator, Mapping
import concurrent.futures
import contextlib
from pathlib import Path
import shutil
from typing import Any, NamedTuple

from absl import logging
import jax
import orbax.checkpoint as ocp

from metajax.core import durable_files
from metajax.core.algorithm import Algorithm, init_key
from metajax.core.errors import StorageError, one_line
from metajax.core.validation import InputError, check_choice
from metajax.run import manifest as manifests
from metajax.run import state_leaves
from metajax.run.checkpoint_payloads import (
  payload,
  quiet_orbax,
  read_leaves,
  reason,
)
from metajax.run.manifest import DamagedError, Manifest

PyTree = Any

LAST, BEST = 'last', 'best'
_KEEP = {LAST: 3, BEST: 1}


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
    self._context = contextlib.ExitStack()
    self._context.enter_context(quiet_orbax())
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
      self._context.close()

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
          f'cannot save step {step} under {folder}: {reason(error)}'
        ) from error

  def _write_one(self, name, folder: Path, described: Manifest, leaves) -> None:
    if not folder.is_dir():
      raise FileNotFoundError(f'{folder} is gone')
    needed = sum(leaf.nbytes for leaf in leaves)
    free = shutil.disk_usage(folder).free
    if free < needed:  # an upper bound, since orbax compresses
      raise OSError(f'{needed} bytes needed, {free} free')
    manager, step = self._managers[name], described.step
    target = folder / str(step)
    if target.exists():
      _remove(target)
      manager.reload()
    saved = manager.save(
      step, args=ocp.args.StandardSave(payload(leaves)), force=True
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
  leaves = read_leaves(directory, manifest)
  state = state_leaves.place_leaves(leaves, like)
  return Restored(manifest.step, state, manifest.progress)


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
