"""A process that runs a probe; what the tests of crashes and signals start.

Usage: run_probe.py WORKDIR JSON, where JSON may hold `schedule`, `resume`,
`algorithm` (the name of a probe), `width`, `limit_bytes` (of any file that it
writes), `pause_s` (a rest after each written row, so that signals hit), and
`die_at` with `die_on_call`: a named point at which the process kills itself.

Usage: run_probe.py serve. For each line `["OUTPUT", "WORKDIR", {...}]` on
stdin it forks a process that does the above and prints into OUTPUT; it answers
with the process's id at once and with its exit code when it has ended. That
saves each process the time to import JAX.
"""

import hashlib
import json
import os
import resource
import signal
import sys
import time

from metajax.core import durable_files
from metajax.run import checkpoints, metrics
from metajax.run import manifest as manifests
from metajax.run.errors import describe_failure
from metajax.run.loop import run
from metajax.run.schedule import Schedule
from tests.run import probes


def serve():
  for line in sys.stdin:
    output, workdir, options = json.loads(line)
    child = os.fork()
    if child == 0:
      code = 1
      try:
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        main(workdir, options)
        code = 0
      except SystemExit as error:
        code = error.code
      finally:
        sys.stdout.flush()
        os._exit(code)
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)


def main(workdir, options):
  if 'limit_bytes' in options:
    limit = options['limit_bytes']
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
  if 'die_at' in options:
    die_at(options['die_at'], options.get('die_on_call', 1))
  if 'pause_s' in options:
    pause_after_rows(options['pause_s'])
  try:
    result = run(
      make_algorithm(options),
      Schedule(**options['schedule']),
      workdir=workdir,
      resume=options.get('resume', False),
      quiet=True,
    )
  except BaseException as error:
    message, code = describe_failure(error)
    print(message, file=sys.stderr)
    sys.exit(code)
  digest = hashlib.sha256(b''.join(probes.raw(result.state))).hexdigest()
  print(json.dumps({'digest': digest, 'step': result.step}))


def make_algorithm(options):
  if 'algorithm' in options:
    return getattr(probes, options['algorithm'])()
  return probes.quadratic(options.get('width', 5))


def pause_after_rows(seconds):
  write = metrics.JsonLinesWriter.write

  def write_and_rest(self, step, row):
    write(self, step, row)
    time.sleep(seconds)

  metrics.JsonLinesWriter.write = write_and_rest


def die_at(point, on_call):
  """Makes the process kill itself before or after a named call."""
  module, name, when = {
    'before_payload': (durable_files, 'sync_tree', 'before'),
    'after_payload': (durable_files, 'sync_tree', 'after'),
    'before_manifest': (manifests, 'write', 'before'),
    'before_rename': (os, 'replace', 'before'),
    'after_rename': (os, 'replace', 'after'),
    'in_removal': (checkpoints, '_remove', 'before'),
  }[point]
  original, calls = getattr(module, name), []

  def dying(*args, **kwargs):
    if point.endswith('_rename') and not str(args[-1]).endswith(
      manifests.FILE_NAME
    ):
      return original(*args, **kwargs)
    calls.append(args)
    is_last = len(calls) == on_call
    if is_last and when == 'before':
      os.kill(os.getpid(), signal.SIGKILL)
    result = original(*args, **kwargs)
    if is_last:
      os.kill(os.getpid(), signal.SIGKILL)
    return result

  setattr(module, name, dying)


if __name__ == '__main__':
  if sys.argv[1] == 'serve':
    serve()
  else:
    main(sys.argv[1], json.loads(sys.argv[2]))
