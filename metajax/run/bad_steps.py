"""The dump of a step whose update was not finite, and how to load it."""

import json
from pathlib import Path
import shutil
from typing import Any, NamedTuple
import zipfile

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from metajax.core import durable_files
from metajax.core.algorithm import Algorithm, init_key
from metajax.core.errors import one_line
from metajax.core.validation import InputError
from metajax.run import state_leaves
from metajax.run.checkpoints import Restored
from metajax.run.programs import Programs
from metajax.run.schedule import Schedule
from metajax.run.state_leaves import LeafSpec

PyTree = Any

FORMAT_VERSION = 1
_STATE, _DESCRIPTION = 'state.npz', 'bad_step.json'
_HEADER_BYTES = 4096  # room for a numpy header, per array


class BadStep(NamedTuple):
  """The arguments of a step that went wrong.

  `algorithm.step(algorithm.data, state, key)` does it again.

  Attributes:
    state: the state before the step.
    key: the key of the step.
    step: number of the meta-iteration, from 0.
  """

  state: PyTree
  key: Array
  step: int


def replay(
  programs: Programs,
  schedule: Schedule,
  restored: Restored | None,
  first_bad: int,
) -> BadStep:
  """Computes again the state before a bad step, which has been overwritten.

  The numbers are the same ones: whole chunks from the last checkpoint on, as
  they ran before, then single steps.

  Args:
    programs: the run's programs.
    schedule: the run's schedule.
    restored: the last checkpoint; None: the run's start.
    first_bad: the first of the bad steps in a row. If the checkpoint lies
      behind it, in their midst, then its own next step is bad too.

  Returns:
    The arguments of the step.
  """
  if restored is None:
    state, step = programs.initial_state(), 0
  else:
    state, step = restored.state, restored.step
  counters = programs.no_bad_steps()
  while step < first_bad:
    num_steps = schedule.chunk_length(step)
    if step + num_steps > first_bad:
      num_steps = 1
    programs.compile_chunk(num_steps, state, counters)
    result = programs.run_chunk(num_steps, state, counters, step)
    state, counters, step = result.state, result.bad_steps, step + num_steps
  return BadStep(state, programs.step_key(step), step)


def dump_bad_step(directory: Path, bad: BadStep) -> None:
  """Writes a bad step into `directory`, in place of an older one.

  Raises:
    StorageError: if it cannot be written.
  """
  specs = state_leaves.leaf_specs(bad.state)
  leaves = state_leaves.host_leaves(bad.state)
  # As bytes, since numpy's format does not know bfloat16 and its like.
  arrays = {
    f'leaf_{index:06d}': np.frombuffer(leaf.tobytes(), np.uint8)
    for index, leaf in enumerate(leaves)
  }
  description = {
    'format_version': FORMAT_VERSION,
    'step': bad.step,
    'key_data': np.asarray(jax.random.key_data(bad.key)).tolist(),
    'key_impl': str(jax.random.key_impl(bad.key)),
    'leaves': [
      {**spec._asdict(), 'stored_dtype': str(leaf.dtype)}
      | {'stored_shape': list(leaf.shape), 'shape': list(spec.shape)}
      for spec, leaf in zip(specs, leaves, strict=True)
    ],
  }
  with durable_files.storage_errors(f'cannot write {directory}'):
    if directory.exists():
      shutil.rmtree(directory)
    directory.mkdir(parents=True)
    with open(directory / _STATE, 'wb') as file:
      np.savez(file, allow_pickle=False, **arrays)
    durable_files.sync_tree(directory)
  # Last, so that a dump with a description is a whole one.
  durable_files.write_json(directory / _DESCRIPTION, description)


def load_bad_step(directory: str | Path, algorithm: Algorithm) -> BadStep:
  """Loads the step that ended a run.

  >>> bad = load_bad_step('workdir/bad_step', algorithm)  # doctest: +SKIP
  >>> algorithm.step(algorithm.data, bad.state, bad.key)  # doctest: +SKIP

  Args:
    directory: the `bad_step` directory of a run's workdir.
    algorithm: the algorithm that was run, for the form of its state.

  Returns:
    The arguments of the step.

  Raises:
    InputError: if the dump is not whole or holds another state.
  """
  directory = Path(directory)
  like = jax.eval_shape(
    algorithm.init, algorithm.data, init_key(jax.random.key(0))
  )
  try:
    description = json.loads((directory / _DESCRIPTION).read_bytes())
    if description['format_version'] != FORMAT_VERSION:
      raise InputError(
        f'{directory}: expected format version {FORMAT_VERSION},'
        f' got {description["format_version"]!r}'
      )
    records = description['leaves']
    specs = [
      LeafSpec(r['path'], tuple(r['shape']), r['dtype'], r['key_impl'])
      for r in records
    ]
    state_leaves.check_leaves(
      str(directory), specs, state_leaves.leaf_specs(like)
    )
    leaves = _read_arrays(directory / _STATE, records, like)
    key = jax.random.wrap_key_data(
      jnp.asarray(description['key_data'], jnp.uint32),
      impl=description['key_impl'],
    )
    state = state_leaves.place_leaves(leaves, like)
    return BadStep(state, key, int(description['step']))
  except InputError:
    raise
  except (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    RecursionError,
    zipfile.BadZipFile,
  ) as error:
    raise InputError(f'cannot read {directory}: {one_line(error)}') from error


def _read_arrays(path: Path, records, like) -> list[np.ndarray]:
  """Reads the arrays, none larger than the state that is expected."""
  expected = [
    jax.eval_shape(state_leaves.raw, leaf) for leaf in jax.tree.leaves(like)
  ]
  names = [f'leaf_{index:06d}' for index in range(len(records))]
  with zipfile.ZipFile(path) as archive:
    sizes = {info.filename: info.file_size for info in archive.infolist()}
  leaves = []
  with np.load(path, allow_pickle=False) as archive:
    for name, record, leaf in zip(names, records, expected, strict=True):
      shape, dtype = tuple(record['stored_shape']), record['stored_dtype']
      if shape != leaf.shape or dtype != str(leaf.dtype):
        raise InputError(
          f'{path}: leaf {record["path"]}: expected {leaf.dtype}{leaf.shape},'
          f' got {dtype}{shape}'
        )
      num_bytes = leaf.size * leaf.dtype.itemsize
      if sizes[f'{name}.npy'] > num_bytes + _HEADER_BYTES:
        raise InputError(f'{path}: leaf {record["path"]}: more bytes than due')
      stored = archive[name]
      leaves.append(stored.view(leaf.dtype).reshape(leaf.shape))
  return leaves
