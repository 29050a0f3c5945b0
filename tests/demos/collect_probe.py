"""Processes that collect a set of walks; what the test of crashes starts.

Usage: collect_probe.py. For each line `["PATH", {...}]` on stdin it forks a
process that collects into PATH; it answers with the process's id at once, and
with its exit code when it has ended. Options: `die_at`, a named point at which
the process kills itself, `die_on_call`, and `limit_bytes` of any file.
"""

import json
import os
import resource
import signal
import sys

import jax

from metajax.core import durable_files
from metajax.run.errors import describe_failure
from tests.demos import walks

RECIPE = walks.recipe(num_validation_tasks=0, num_held_out_tasks=0)


def serve():
  for line in sys.stdin:
    path, options = json.loads(line)
    child = os.fork()
    if child == 0:
      code = 1
      try:
        code = collect(path, options)
      finally:
        os._exit(code)
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)


def collect(path, options):
  if 'limit_bytes' in options:
    limit = options['limit_bytes']
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    # JAX would warn of programs that are too large to be kept.
    jax.config.update('jax_enable_compilation_cache', False)
  if 'die_at' in options:
    die_at(options['die_at'], options['die_on_call'])
  try:
    walks.collect(path, RECIPE, resume=True)
  except Exception as error:
    return describe_failure(error)[1]
  return 0


def die_at(point, on_call):
  """Makes the process kill itself before or after a named call."""
  module, name, when = {
    'before_sync': (os, 'fsync', 'before'),
    'before_rename': (os, 'replace', 'before'),
    'after_rename': (os, 'replace', 'after'),
    'after_shard': (durable_files, 'write_whole', 'after'),
  }[point]
  original, calls = getattr(module, name), []

  def dying(*args):
    calls.append(args)
    is_last = len(calls) == on_call
    if is_last and when == 'before':
      os.kill(os.getpid(), signal.SIGKILL)
    result = original(*args)
    if is_last:
      os.kill(os.getpid(), signal.SIGKILL)
    return result

  setattr(module, name, dying)


if __name__ == '__main__':
  serve()
