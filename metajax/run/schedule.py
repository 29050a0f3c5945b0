"""When a run logs, evaluates, saves and gives up."""

import dataclasses
import math

from metajax.core.validation import check_choice, check_count, reject


@dataclasses.dataclass(frozen=True)
class Schedule:
  """When a run logs, evaluates, saves and gives up.

  Attributes:
    num_steps: meta-iterations in all, >= 0; with 0 the initial state is
      evaluated.
    log_every: meta-iterations of one compiled chunk, >= 1; a logged metric is
      its mean over the chunk.
    evaluate_every: meta-iterations between evaluations, >= 0, taken at the
      first end of a chunk that reaches them; 0: only at the end.
    checkpoint_every_s: seconds between checkpoints, >= 0; 0: after each chunk.
    best_metric: evaluated metric whose mean decides the best checkpoint; with
      the empty string only the last ones are kept.
    best_mode: 'min' or 'max', which is better.
    max_bad_steps: consecutive updates that were not finite after which the
      run gives up, >= 1.

  Raises:
    InputError: if a field is out of its range.
  """

  num_steps: int
  log_every: int = 100
  evaluate_every: int = 0
  checkpoint_every_s: float = 60.0
  best_metric: str = ''
  best_mode: str = 'min'
  max_bad_steps: int = 10

  def __post_init__(self):
    check_count('num_steps', self.num_steps, minimum=0)
    check_count('log_every', self.log_every)
    check_count('evaluate_every', self.evaluate_every, minimum=0)
    check_count('max_bad_steps', self.max_bad_steps)
    check_choice('best_mode', self.best_mode, ('min', 'max'))
    seconds = self.checkpoint_every_s
    if not isinstance(seconds, (int, float)) or not 0 <= seconds < math.inf:
      raise reject('checkpoint_every_s', 'a number of seconds >= 0', seconds)

  def chunk_length(self, step: int) -> int:
    """Returns how many meta-iterations the chunk that starts at `step` has."""
    return min(self.log_every, self.num_steps - step)

  def evaluates(self, before: int, after: int) -> bool:
    """Says whether an evaluation is due at the end of a chunk, at `after`."""
    if after >= self.num_steps:
      return True
    every = self.evaluate_every
    return every > 0 and after // every > before // every

  def is_better(self, value: float, than: float | None) -> bool:
    """Says whether `value` of the best metric beats the best one so far."""
    if not math.isfinite(value):
      return False
    if than is None:
      return True
    return value < than if self.best_mode == 'min' else value > than
