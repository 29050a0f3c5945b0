"""What a person sees while a run works: a live bar, or plain lines."""

from collections.abc import Mapping
import datetime
import math
import statistics
import sys
import time
from typing import Any

_SECONDS_BETWEEN_LINES = 1.0
_SHOWN_METRICS = 4
# Which metrics are shown first, by their names or the first word of them.
_RANK = {'eval': 0, 'meta/loss': 1, 'meta': 3}
_RANK_OF_OTHERS = 2


class Progress:
  """Shows steps, speed, time left and a few metrics; a context manager."""

  def __init__(self, num_steps: int, step: int, *, quiet: bool):
    self._num_steps, self._quiet = num_steps, quiet
    self._last_line_s = -math.inf
    self._held_back = ''
    self._bar: Any = None  # of rich, which may be absent
    self._task: Any = None
    if not quiet and sys.stdout.isatty():
      self._start_bar(step)

  def __enter__(self) -> 'Progress':
    return self

  def __exit__(self, kind, error, trace) -> None:
    if self._held_back:
      print(self._held_back, flush=True)
    if self._bar is not None:
      self._bar.stop()

  def say(self, text: str) -> None:
    """Shows a line of its own."""
    if self._bar is not None:
      self._bar.console.print(text, markup=False, highlight=False)
    elif not self._quiet:
      print(text, flush=True)

  def update(self, step: int, row: Mapping[str, Any]) -> None:
    """Shows a logged row, on plain output at most one a second."""
    if self._quiet:
      return
    speed = row.get('time/steps_per_s') or 0.0
    left = time_left(self._num_steps - step, speed)
    numbers = '  '.join(_shown(row))
    if self._bar is not None:
      self._bar.update(
        self._task, completed=step, numbers=numbers, speed=speed, left=left
      )
      return
    self._held_back = (
      f'step {step}/{self._num_steps}  {numbers}  {speed:.4g} steps/s'
      f'  {left} left'
    )
    now = time.monotonic()
    if now - self._last_line_s >= _SECONDS_BETWEEN_LINES:
      print(self._held_back, flush=True)
      self._last_line_s, self._held_back = now, ''

  def _start_bar(self, step: int) -> None:
    try:
      import rich.progress  # only where there is a terminal to draw on
    except ImportError:
      return
    self._bar = rich.progress.Progress(
      rich.progress.BarColumn(),
      rich.progress.MofNCompleteColumn(),
      rich.progress.TextColumn('{task.fields[speed]:.4g} steps/s'),
      rich.progress.TextColumn('{task.fields[left]} left'),
      rich.progress.TextColumn('{task.fields[numbers]}', markup=False),
    )
    self._task = self._bar.add_task(
      '', total=self._num_steps, completed=step, numbers='', speed=0.0, left='?'
    )
    self._bar.start()


def time_left(steps: int, steps_per_s: float) -> str:
  """Returns the time that `steps` will take, as hours:minutes:seconds."""
  if steps_per_s <= 0:
    return '?'
  return str(datetime.timedelta(seconds=round(steps / steps_per_s)))


def _shown(row: Mapping[str, Any]) -> list[str]:
  """Returns the metrics that tell most, and any skipping.

  Evaluations come first, then what the tasks are about, then how the
  optimisation goes. Of a sweep, the mean over the columns is shown.
  """
  names = [name for name in row if not name.startswith(('time/', 'meta/skip'))]
  names.sort(
    key=lambda name: _RANK.get(
      name, _RANK.get(name.split('/')[0], _RANK_OF_OTHERS)
    )
  )
  shown = []
  for name in names:
    values = _numbers(row[name])
    if values:
      shown.append(f'{name} {statistics.fmean(values):.4g}')
  skipped = sum(_numbers(row.get('meta/skipped')))
  if skipped:
    shown = [f'skipped {skipped:g}', *shown]
  return shown[:_SHOWN_METRICS]


def _numbers(value: Any) -> list[float]:
  """Returns the finite numbers of a metric, of all columns of a sweep."""
  values = value if isinstance(value, list) else [value]
  return [
    float(number)
    for number in values
    if isinstance(number, (int, float)) and math.isfinite(number)
  ]
