"""Writers of logged metrics: one row a logged step, in several forms."""

from collections.abc import Mapping, Sequence
import contextlib
import csv
import io
import json
import os
from pathlib import Path
from typing import Any, Protocol

from absl import logging

from metajax.core import durable_files
from metajax.core.errors import StorageError, one_line

# One row as JSON holds it: numbers, null, or lists of them under a sweep.
Row = dict[str, Any]


class MetricWriter(Protocol):
  """Where rows of metrics go."""

  def write(self, step: int, row: Mapping[str, Any]) -> None:
    """Adds the row of one step."""
    ...

  def flush(self) -> None:
    """Makes the rows written so far durable."""
    ...

  def close(self) -> None:
    """Ends writing."""
    ...


class _AppendedFile:
  """A file that grows by whole lines only, even when its disk is full."""

  def __init__(self, path: Path):
    self._path = path
    with durable_files.storage_errors(f'cannot open {path}'):
      flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
      self._descriptor = os.open(path, flags, 0o644)
      self._size = os.fstat(self._descriptor).st_size

  def append(self, lines: bytes) -> None:
    """Adds all of `lines`.

    Raises:
      StorageError: if they cannot be written; no part of them is then left.
    """
    rest = lines
    with durable_files.storage_errors(f'cannot write {self._path}'):
      if os.fstat(self._descriptor).st_nlink == 0:
        raise FileNotFoundError('the file was deleted while in use')
      try:
        while rest:
          rest = rest[os.write(self._descriptor, rest) :]
      except OSError:
        os.ftruncate(self._descriptor, self._size)
        raise
    self._size += len(lines)

  def sync(self) -> None:
    """Makes what was added durable.

    Raises:
      StorageError: if that fails.
    """
    with durable_files.storage_errors(f'cannot write {self._path}'):
      os.fsync(self._descriptor)

  def close(self) -> None:
    """Closes the file.

    Raises:
      StorageError: if the operating system reports a late failure.
    """
    with durable_files.storage_errors(f'cannot write {self._path}'):
      os.close(self._descriptor)


class JsonLinesWriter:
  """One JSON object a line; a line is in the file whole or not at all."""

  def __init__(self, path: Path):
    self._file = _AppendedFile(path)

  def write(self, step: int, row: Mapping[str, Any]) -> None:
    """Adds a row.

    Raises:
      StorageError: if it cannot be written; no part of it is then left.
    """
    line = json.dumps({'step': step, **row}, allow_nan=False) + '\n'
    self._file.append(line.encode())

  def flush(self) -> None:
    """Syncs the file.

    Raises:
      StorageError: if it cannot be synced.
    """
    self._file.sync()

  def close(self) -> None:
    """Closes the file."""
    self._file.close()


class CsvWriter:
  """One line a row, one column a metric, one a column of a sweep."""

  def __init__(self, path: Path, rows: Sequence[Row] = ()):
    """Starts the file anew with the rows that are already known.

    Raises:
      StorageError: if it cannot be written.
    """
    self._path = path
    self._names = ['step']
    self._rows = [scalars(row) for row in rows]
    for row in self._rows:
      self._names += [name for name in row if name not in self._names]
    self._file = self._anew()

  def write(self, step: int, row: Mapping[str, Any]) -> None:
    """Adds a row; a metric not seen before adds a column to all of them.

    Raises:
      StorageError: if it cannot be written; no part of it is then left.
    """
    flat = scalars({'step': step, **row})
    new = [name for name in flat if name not in self._names]
    self._rows.append(flat)
    if new:
      self._names += new
      replaced, self._file = self._file, self._anew()
      replaced.close()
    else:
      self._file.append(self._lines([flat]).encode())

  def flush(self) -> None:
    """Does nothing: the file is derived, and made anew on resuming."""

  def close(self) -> None:
    """Closes the file."""
    self._file.close()

  def _anew(self) -> _AppendedFile:
    header = ','.join(self._names) + '\n'
    content = (header + self._lines(self._rows)).encode()
    with durable_files.storage_errors(f'cannot write {self._path}'):
      durable_files.write_durably(self._path, content)
    return _AppendedFile(self._path)

  def _lines(self, rows) -> str:
    text = io.StringIO(newline='')
    table = csv.DictWriter(text, self._names, restval='', lineterminator='\n')
    table.writerows(rows)
    return text.getvalue()


class TensorBoardWriter:
  """Event files for TensorBoard."""

  def __init__(self, directory: Path, first_step: int = 0):
    """Opens the directory; hides events from `first_step` on.

    Raises:
      ImportError: if tensorboardX is not installed.
      StorageError: if the directory cannot be written.
    """
    import tensorboardX  # optional, and slow to import

    self._directory = directory
    with durable_files.storage_errors(f'cannot open {directory}'):
      self._writer = tensorboardX.SummaryWriter(
        str(directory), purge_step=first_step
      )

  def write(self, step: int, row: Mapping[str, Any]) -> None:
    """Adds a row's finite numbers.

    Raises:
      StorageError: if they cannot be written.
    """
    with durable_files.storage_errors(f'cannot write {self._directory}'):
      for name, value in scalars(row).items():
        if value is not None:
          self._writer.add_scalar(name, value, step)

  def flush(self) -> None:
    """Hands buffered events to the operating system."""
    with durable_files.storage_errors(f'cannot write {self._directory}'):
      self._writer.flush()

  def close(self) -> None:
    """Closes the event file."""
    with durable_files.storage_errors(f'cannot write {self._directory}'):
      self._writer.close()


def scalars(row: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a row with lists spread out: `name/0`, `name/1`, and so on."""
  flat = {}
  for name, value in row.items():
    if isinstance(value, list):
      inner = {f'{name}/{i}': item for i, item in enumerate(value)}
      flat.update(scalars(inner))
    else:
      flat[name] = value
  return flat


def read_rows(path: Path, last_step: int | None = None) -> list[Row]:
  """Reads the whole, increasing rows at the start of a metrics.jsonl.

  Args:
    path: the file; without one there are no rows.
    last_step: rows after this step are left out; None: none are.

  Returns:
    The rows, up to the first that is torn, out of order or too late.

  Raises:
    StorageError: if the file cannot be read.
  """
  return [row for row, _ in _rows_with_ends(path, last_step)]


def cut_rows(path: Path, last_step: int) -> list[Row]:
  """Cuts a metrics.jsonl after `last_step`, and whatever is torn.

  Args:
    path: the file; without one nothing is done.
    last_step: the step that a run resumes from.

  Returns:
    The rows that are left.

  Raises:
    StorageError: if the file cannot be read or cut.
  """
  kept = _rows_with_ends(path, last_step)
  size = kept[-1][1] if kept else 0
  if last_step > 0 and (not kept or kept[-1][0]['step'] < last_step):
    logging.warning('%s has no row of step %d', path, last_step)
  with durable_files.storage_errors(f'cannot cut {path}'):
    if path.exists() and path.stat().st_size > size:
      with open(path, 'r+b') as file:
        file.truncate(size)
        os.fsync(file.fileno())
  return [row for row, _ in kept]


def _rows_with_ends(path: Path, last_step) -> list[tuple[Row, int]]:
  """Returns the rows to keep, each with the file's size up to its end."""
  with durable_files.storage_errors(f'cannot read {path}'):
    content = path.read_bytes() if path.exists() else b''
  kept, end, previous = [], 0, -1
  for line in content.splitlines(keepends=True):
    row = _parsed(line)
    if row is None or row['step'] <= previous:
      break
    if last_step is not None and row['step'] > last_step:
      break
    previous, end = row['step'], end + len(line)
    kept.append((row, end))
  return kept


def _parsed(line: bytes) -> Row | None:
  try:
    row = json.loads(line) if line.endswith(b'\n') else None
  except (ValueError, RecursionError):
    return None
  is_row = isinstance(row, dict) and isinstance(row.get('step'), int)
  return row if is_row else None


class RunWriters:
  """All the writers of one run, as one."""

  def __init__(self, writers: Sequence[MetricWriter]):
    self._writers = list(writers)

  def __enter__(self) -> 'RunWriters':
    return self

  def __exit__(self, kind, error, trace) -> None:
    try:
      self.close()
    except StorageError as failure:
      # The error already under way says more than its consequence.
      if error is None:
        raise
      logging.error('%s', one_line(failure))

  def write(self, step: int, row: Mapping[str, Any]) -> None:
    """Adds the row of one step to each."""
    for writer in self._writers:
      writer.write(step, row)

  def flush(self) -> None:
    """Makes the rows written so far durable."""
    for writer in self._writers:
      writer.flush()

  def close(self) -> None:
    """Ends writing; one that cannot be closed keeps no other open."""
    with contextlib.ExitStack() as stack:
      for writer in self._writers:
        stack.callback(writer.close)


def open_writers(
  metrics: Path, table: Path, tensorboard: Path, step: int
) -> tuple[RunWriters, list[Row]]:
  """Opens the writers of a run that starts, or continues, after `step`.

  Args:
    metrics: the metrics.jsonl; its rows after `step` are cut.
    table: the same as CSV, made anew.
    tensorboard: directory of event files; skipped without tensorboardX.
    step: meta-iterations done.

  Returns:
    The writers and the rows already there.

  Raises:
    StorageError: if a file cannot be written.
  """
  rows = cut_rows(metrics, step)
  writers: list[MetricWriter] = [JsonLinesWriter(metrics)]
  writers.append(CsvWriter(table, rows))
  try:
    writers.append(TensorBoardWriter(tensorboard, step + 1))
  except ImportError:
    logging.info('tensorboardX is not installed: no event files')
  return RunWriters(writers), rows
