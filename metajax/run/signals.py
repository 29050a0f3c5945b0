"""Signals that ask a run to stop at the next place where stopping is safe."""

import signal
import threading

_STOPPING = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class StopSignals:
  """Notes SIGTERM, SIGUSR1 and SIGINT while it is entered; does no more.

  Saving inside a handler can deadlock, so the loop looks at `received` between
  two chunks. After the first SIGINT the second one ends the process at once.
  Off the main thread Python allows no handlers, and there are none.
  """

  def __init__(self):
    self.received = ''
    self._previous = {}

  def __enter__(self) -> 'StopSignals':
    if threading.current_thread() is threading.main_thread():
      for number in _STOPPING:
        self._previous[number] = signal.signal(number, self._note)
    return self

  def __exit__(self, kind, error, trace) -> None:
    for number, handler in self._previous.items():
      # A handler that C installed reads as None and cannot be put back.
      signal.signal(number, signal.SIG_DFL if handler is None else handler)
    self._previous.clear()

  def _note(self, number, frame) -> None:
    self.received = signal.Signals(number).name
    if number == signal.SIGINT:
      signal.signal(signal.SIGINT, signal.SIG_DFL)
