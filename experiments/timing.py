"""Times several calls in turn, so that a drifting machine harms no ratio."""

from collections.abc import Callable, Mapping
import statistics
import time
from typing import Any, NamedTuple

import jax


class Timing(NamedTuple):
  """Seconds of one call: the least and the median of several."""

  least: float
  median: float


def time_in_turn(
  calls: Mapping[str, Callable[[], Any]], rounds: int
) -> dict[str, Timing]:
  """Times calls in turn, A B A B ..., after one call of each.

  Args:
    calls: name to a function that starts work on the device and returns it.
    rounds: timed calls of each.

  Returns:
    Name to the time of one call.
  """
  for call in calls.values():
    jax.block_until_ready(call())
  seconds = {name: [] for name in calls}
  for _ in range(rounds):
    for name, call in calls.items():
      start = time.perf_counter()
      jax.block_until_ready(call())
      seconds[name].append(time.perf_counter() - start)
  return {
    name: Timing(min(values), statistics.median(values))
    for name, values in seconds.items()
  }
