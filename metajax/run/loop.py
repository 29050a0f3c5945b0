"""The run: one compiled chunk after another, logged, evaluated and saved."""

from collections.abc import Iterator, Mapping
import contextlib
from pathlib import Path
import time
from typing import Any, NamedTuple

from absl import logging
import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from metajax.core.algorithm import Algorithm
from metajax.core.durable_files import jsonable
from metajax.core.errors import StorageError
from metajax.core.validation import InputError, check_count, reject
from metajax.run import checkpoints as checkpointing
from metajax.run import evaluation as evaluations
from metajax.run import metrics as metric_writers
from metajax.run.bad_steps import dump_bad_step, replay
from metajax.run.checkpoints import BEST, LAST, Checkpoints
from metajax.run.errors import (
  NonFiniteError,
  Preempted,
  is_out_of_memory,
  memory_limit_error,
)
from metajax.run.programs import Programs
from metajax.run.progress import Progress
from metajax.run.schedule import Schedule
from metajax.run.signals import StopSignals
from metajax.run.workdir import Workdir, open_workdir

PyTree = Any


class RunResult(NamedTuple):
  """What a run leaves behind.

  Attributes:
    state: the last state, on the device.
    step: meta-iterations done.
    evaluation: metric to per-task values of the final evaluation.
    history: logged rows, as in metrics.jsonl.
  """

  state: PyTree
  step: int
  evaluation: dict[str, np.ndarray]
  history: list[dict[str, Any]]


def run(
  algorithm: Algorithm,
  schedule: Schedule,
  *,
  seed: int = 0,
  workdir: str | Path | None = None,
  config: Mapping[str, Any] | None = None,
  resume: bool = False,
  eval_only: bool = False,
  quiet: bool = False,
) -> RunResult:
  """Trains an algorithm, or goes on training it, and evaluates it.

  A run that is killed at any moment and resumed ends with the same bits, on
  the same machine, as one that was left alone. SIGTERM, SIGUSR1 and SIGINT
  let it finish its chunk, save and stop.

  Args:
    algorithm: what to run; a sweep's columns are taken as they come.
    schedule: when to log, evaluate, save and give up.
    seed: decides every random number of the run, >= 0.
    workdir: where everything goes; None: nothing is written.
    config: what config.json says the run is; JSON. Its `experiment` and
      `preset`, if any, stand in evaluation.json.
    resume: go on from the last checkpoint in `workdir`, if there is one.
    eval_only: evaluate the last checkpoint in `workdir`, train nothing.
    quiet: print nothing.

  Returns:
    The last state, its evaluation and all logged rows.

  Raises:
    InputError: if an argument cannot be used; nothing has then been compiled.
    Preempted: if a signal stopped the run; its state is on disk.
    LockedError: if another process writes to `workdir`.
    NonFiniteError: if too many updates in a row were not finite.
    StorageError: if `workdir` cannot be written, or nothing intact is left.
    MemoryLimitError: if the device's memory does not suffice.
  """
  check_count('seed', seed, minimum=0)
  if workdir is None:
    if resume or eval_only:
      raise reject('workdir', 'a directory to restore from', None)
    with (
      _explained_errors(None),
      Progress(schedule.num_steps, 0, quiet=quiet) as progress,
    ):
      return _Loop(algorithm, schedule, seed, progress=progress).train()
  if jax.process_count() > 1:
    raise reject('workdir', 'a run of one process', jax.process_count())
  with contextlib.ExitStack() as stack:
    stop = StopSignals()
    if not eval_only:  # which has nothing to save
      stack.enter_context(stop)
    directory = stack.enter_context(
      open_workdir(
        workdir, config or {}, seed, schedule, resume=resume or eval_only
      )
    )
    stack.enter_context(_explained_errors(directory))
    saved = stack.enter_context(
      Checkpoints(directory.checkpoints, directory.config_hash)
    )
    progress = stack.enter_context(
      Progress(schedule.num_steps, saved.latest_step() or 0, quiet=quiet)
    )
    storage = _Storage(directory, saved)
    loop = _Loop(algorithm, schedule, seed, progress, storage, stop)
    result = loop.evaluate_only() if eval_only else loop.train()
    names = {
      name: str((config or {}).get(name, ''))
      for name in ('experiment', 'preset')
    }
    evaluations.write_evaluation(
      directory.evaluation,
      seed=seed,
      steps=result.step,
      metrics=evaluations.summarise(result.evaluation),
      **names,
    )
    return result


@contextlib.contextmanager
def _explained_errors(directory: Workdir | None) -> Iterator[None]:
  """Names exhausted memory; leaves notes on anything unexpected."""
  try:
    yield
  except Exception as error:
    if is_out_of_memory(error):
      raise memory_limit_error(error) from error
    if directory is not None:
      error.add_note(f'config hash {directory.config_hash}')
      error.add_note(checkpointing.describe_last(directory.path))
    raise


class _Pending(NamedTuple):
  """A chunk that was started and not yet looked at."""

  step: int  # after the chunk
  num_steps: int
  metrics: dict[str, Array]
  streaks: Array


class _Storage(NamedTuple):
  """Where a run that has a workdir keeps things."""

  directory: Workdir
  saved: Checkpoints


class _Loop:
  """One run under way: the state, the clocks, and where things are written."""

  def __init__(
    self,
    algorithm: Algorithm,
    schedule: Schedule,
    seed: int,
    progress: Progress,
    storage: _Storage | None = None,
    stop: StopSignals | None = None,
  ):
    self._schedule, self._progress = schedule, progress
    self._storage, self._stop = storage, stop or StopSignals()
    self._programs = Programs(algorithm, seed)
    self._writers = metric_writers.RunWriters([])
    self._history: list[dict[str, Any]] = []
    self._evaluation: dict[str, np.ndarray] = {}
    self._step, self._saved_step = 0, -1
    self._state: PyTree = None
    self._bad_steps: Any = None  # int32, of the shape of `meta/skipped`
    self._best: float | None = None
    self._elapsed_before_s, self._compile_s = 0.0, 0.0
    self._started_s = self._last_chunk_s = self._last_save_s = 0.0

  def train(self) -> RunResult:
    """Runs from where the run stands to the end, and evaluates."""
    self._prepare()
    with self._open_writers() as self._writers:
      self._started_s = self._last_save_s = time.monotonic()
      self._last_chunk_s = self._started_s
      self._run_chunks()
      if not self._evaluation:  # there was nothing left to train
        row = self._evaluate()
        if not self._history:
          self._write_row(self._step, row)
      self._save((LAST,))
      self._wait_until_durable()
    return self._result()

  def evaluate_only(self) -> RunResult:
    """Evaluates the last checkpoint."""
    self._prepare()
    if self._storage is None or self._saved_step < 0:
      raise reject('workdir', 'a checkpoint to evaluate', 'none')
    self._history = metric_writers.read_rows(self._storage.directory.metrics)
    self._evaluate()
    return self._result()

  def _result(self) -> RunResult:
    return RunResult(self._state, self._step, self._evaluation, self._history)

  def _prepare(self) -> None:
    """Makes the initial state, or restores the last one saved."""
    state = self._programs.initial_state()
    self._programs.check(state, self._schedule.best_metric)
    counters = self._programs.no_bad_steps()
    if self._storage is not None:
      directory, saved = self._storage
      like = jax.tree.map(_abstract, state)
      if saved.latest_step() is not None:
        del state  # two states need not fit into the device's memory
      restored = saved.restore(like)
      if restored is not None:
        state, counters = restored.state, restored.progress['bad_steps']
        self._step = self._saved_step = restored.step
        self._elapsed_before_s = restored.progress['elapsed_s']
        self._progress.say(f'restored step {self._step}')
      elif directory.metrics.exists():
        logging.warning(
          'no checkpoint in %s: starting at step 0', directory.path
        )
      best = saved.best_progress()
      self._best = None if best is None else best['best']
    if self._step > self._schedule.num_steps:
      raise reject('num_steps', f'>= {self._step}', self._schedule.num_steps)
    self._state, self._bad_steps = state, jnp.asarray(counters, jnp.int32)

  def _open_writers(self) -> metric_writers.RunWriters:
    if self._storage is None:
      return metric_writers.RunWriters([])
    directory, saved = self._storage
    saved.forget_after(self._step)
    writers, self._history = metric_writers.open_writers(
      directory.metrics, directory.table, directory.tensorboard, self._step
    )
    return writers

  def _run_chunks(self) -> None:
    """Starts each chunk before it writes the metrics of the one before."""
    pending = None
    while self._step < self._schedule.num_steps:
      before = self._step
      num_steps = self._schedule.chunk_length(before)
      if pending is not None and not self._programs.has_chunk(num_steps):
        self._finish(pending)
        pending = None
      self._compile(num_steps)
      if self._stop.received:
        if pending is not None:
          self._finish(pending)
        self._stop_cleanly()
      started = self._start_chunk(num_steps)
      if pending is not None:
        self._finish(pending)
      pending = started
      if self._schedule.evaluates(before, self._step):
        self._finish(pending, evaluate=True)
        pending = None
      elif self._save_is_due():
        self._finish(pending)
        self._save((LAST,))
        pending = None

  def _compile(self, num_steps: int) -> None:
    if self._programs.has_chunk(num_steps):
      return
    start_s = time.monotonic()
    self._programs.compile_chunk(num_steps, self._state, self._bad_steps)
    self._compile_s = time.monotonic() - start_s
    self._last_chunk_s = time.monotonic()
    needs = self._programs.needs_of_chunk(num_steps)
    self._progress.say(
      f'compiled in {self._compile_s:.1f} s'
      + (f', needs {needs}' * bool(needs))
    )

  def _start_chunk(self, num_steps: int) -> _Pending:
    result = self._programs.run_chunk(
      num_steps, self._state, self._bad_steps, self._step
    )
    self._state, self._bad_steps = result.state, result.bad_steps
    self._step += num_steps
    return _Pending(self._step, num_steps, result.metrics, result.streaks)

  def _finish(self, pending: _Pending, *, evaluate: bool = False) -> None:
    """Waits for a chunk, writes its row, and gives up if it went wrong."""
    metrics, streaks = jax.device_get((pending.metrics, pending.streaks))
    now_s = time.monotonic()
    row = {name: jsonable(value) for name, value in metrics.items()}
    chunk_s = max(now_s - self._last_chunk_s, 1e-9)
    row['time/steps_per_s'] = pending.num_steps / chunk_s
    row['time/elapsed_s'] = self._elapsed_s()
    if self._compile_s:
      row['time/compile_s'] = self._compile_s
      self._compile_s = 0.0
    self._last_chunk_s = now_s
    # The longest of the columns; here, so that no device waits for another.
    streaks = streaks.reshape(pending.num_steps, -1).max(axis=1)
    too_many = np.flatnonzero(streaks >= self._schedule.max_bad_steps)
    if too_many.size:
      self._write_row(pending.step, row)
      first = pending.step - pending.num_steps
      self._give_up(first + int(too_many[0]), int(streaks[too_many[0]]))
    if evaluate:
      row |= self._evaluate()
    self._write_row(pending.step, row)
    if evaluate:
      self._keep_best()

  def _write_row(self, step: int, row: dict[str, Any]) -> None:
    self._writers.write(step, row)
    self._history.append({'step': step, **row})
    self._progress.update(step, row)

  def _evaluate(self) -> dict[str, Any]:
    """Evaluates the state; returns the means for the row."""
    self._evaluation = evaluations.fetch(self._programs.evaluate(self._state))
    self._last_chunk_s = time.monotonic()
    means = evaluations.means(self._evaluation)
    return {f'eval/{name}': jsonable(value) for name, value in means.items()}

  def _keep_best(self) -> None:
    """Saves the state if it is the best one; a sweep's columns are averaged."""
    if not self._schedule.best_metric or self._storage is None:
      return
    value = float(np.mean(self._evaluation[self._schedule.best_metric]))
    if self._schedule.is_better(value, self._best):
      self._best = value
      # The best first: killed in between, the run comes by here again.
      self._save((BEST, LAST))

  def _save_is_due(self) -> bool:
    since_s = time.monotonic() - self._last_save_s
    return (
      self._storage is not None and since_s >= self._schedule.checkpoint_every_s
    )

  def _save(self, names: tuple[str, ...]) -> None:
    """Saves the state unless it is saved already; rows go to disk first."""
    if self._storage is None or self._saved_step == self._step:
      return
    self._writers.flush()
    progress = {
      'bad_steps': np.asarray(self._bad_steps).tolist(),
      'elapsed_s': self._elapsed_s(),
      'best': self._best,
    }
    self._storage.saved.save(self._step, self._state, progress, names)
    self._saved_step = self._step
    self._last_save_s = self._last_chunk_s = time.monotonic()

  def _wait_until_durable(self) -> None:
    if self._storage is not None:
      self._storage.saved.wait()

  def _stop_cleanly(self) -> None:
    self._save((LAST,))
    self._wait_until_durable()
    raise Preempted(
      f'{self._stop.received}: stopped at step {self._step}, which is saved;'
      ' resume to go on'
    )

  def _give_up(self, step: int, streak: int) -> None:
    """Ends a run whose updates have stayed bad up to `step`."""
    message = (
      f'step {step}: {streak} updates in a row were not finite'
      f' (max_bad_steps={self._schedule.max_bad_steps})'
    )
    if self._storage is None:
      raise NonFiniteError(message)
    directory, saved = self._storage
    self._writers.flush()
    like = jax.tree.map(_abstract, self._state)
    self._state = None  # it makes room for the one that is computed again
    try:
      saved.wait()
      bad = replay(
        self._programs,
        self._schedule,
        saved.restore(like),
        first_bad=step - streak + 1,
      )
      dump_bad_step(directory.bad_step, bad)
    except (StorageError, InputError) as error:
      raise NonFiniteError(f'{message}; no dump: {error}') from error
    raise NonFiniteError(
      f'{message}; the first of them is in {directory.bad_step};'
      f' {checkpointing.describe_last(directory.path)}'
    )

  def _elapsed_s(self) -> float:
    return self._elapsed_before_s + time.monotonic() - self._started_s


def _abstract(leaf: Array) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
