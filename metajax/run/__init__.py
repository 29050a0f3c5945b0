"""The host around an algorithm: `run` it on a `Schedule`."""

from metajax.run.loop import RunResult, run
from metajax.run.schedule import Schedule

__all__ = ['RunResult', 'Schedule', 'run']
