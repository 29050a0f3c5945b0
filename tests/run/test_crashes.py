"""Runs that are killed, signalled or robbed of their disk, as processes."""

import concurrent.futures
import contextlib
import json
import os
from pathlib import Path
import random
import shutil
import signal
import subprocess
import sys
import time

import jax
import pytest

from metajax.run.checkpoints import restore_latest
from metajax.run.metrics import read_rows
from tests.run import probes

ROOT = Path(__file__).parents[2]
SCHEDULE = {
  'log_every': 5,
  'evaluate_every': 25,
  'checkpoint_every_s': 0,
  'best_metric': 'query_loss',
}
TIMEOUT_S = 120
# Of a save, where it may be killed.
POINTS = (
  'before_payload',
  'after_payload',
  'before_manifest',
  'before_rename',
  'after_rename',
  'in_removal',
)


@pytest.fixture(scope='module')
def cache(tmp_path_factory):
  """Every program of these processes is compiled once."""
  return tmp_path_factory.mktemp('compiled')


def launch(cache, *arguments, **kwargs):
  environment = os.environ | {
    'PYTHONPATH': str(ROOT),
    'JAX_COMPILATION_CACHE_DIR': str(cache),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '0',
    'OPENBLAS_NUM_THREADS': '1',  # a process that forks has no other thread
  }
  return subprocess.Popen(
    [
      sys.executable,
      str(Path(__file__).with_name('run_probe.py')),
      *arguments,
    ],
    env=environment | kwargs.pop('env', {}),
    cwd=ROOT,
    stdout=subprocess.PIPE,
    text=True,
    **kwargs,
  )


def start(cache, workdir, **options):
  # A limit on files would make JAX warn of those that it cannot cache.
  cached = 'false' if 'limit_bytes' in options else 'true'
  return launch(
    cache,
    str(workdir),
    json.dumps(options),
    stderr=subprocess.PIPE,
    env={'JAX_ENABLE_COMPILATION_CACHE': cached},
  )


class Forks:
  """Starts one process after another, without importing JAX each time."""

  def __init__(self, cache, folder):
    folder.mkdir(parents=True, exist_ok=True)
    self._output = folder / 'output.txt'
    self._server = launch(cache, 'serve', stdin=subprocess.PIPE)
    self.pid = 0

  def __enter__(self):
    return self

  def __exit__(self, *error):
    with self._server:
      self._server.stdin.close()
      self._server.wait(TIMEOUT_S)

  def start(self, workdir, **options):
    request = [str(self._output), str(workdir), options]
    self._server.stdin.write(json.dumps(request) + '\n')
    self._server.stdin.flush()
    self.pid = int(self._server.stdout.readline())

  def finish(self):
    """Returns the exit code of the process, and what it printed."""
    code = int(self._server.stdout.readline())
    return code, self._output.read_text()

  def digest(self, workdir, **options):
    self.start(workdir, **options)
    code, output = self.finish()
    assert code == 0, output
    return json.loads(output)['digest']


def finish(process):
  """Returns the exit code, and what was printed on stdout and stderr."""
  with process:
    out, err = process.communicate(timeout=TIMEOUT_S)
  return process.returncode, out, err


def outcome(process):
  code, out, err = finish(process)
  assert code == 0, err
  return json.loads(out)['digest']


def wait_for(condition, timeout_s=TIMEOUT_S):
  end = time.monotonic() + timeout_s
  while not condition():
    assert time.monotonic() < end, 'waited in vain'
    time.sleep(0.005)


def size(path):
  return path.stat().st_size if path.exists() else 0


def check_rows(workdir):
  """Every complete line parses and steps strictly increase."""
  path = workdir / 'metrics.jsonl'
  if not path.exists():
    return []
  lines = path.read_bytes().split(b'\n')
  rows = [json.loads(line) for line in lines[:-1]]
  steps = [row['step'] for row in rows]
  assert steps == sorted(set(steps))
  return rows


class TestKills:
  def uninterrupted(self, cache, folder, **options):
    digest = outcome(start(cache, folder, **options))
    return digest, probes.without_time(read_rows(folder / 'metrics.jsonl'))

  @pytest.mark.parametrize(
    ('algorithm', 'best_metric'),
    [
      ('small_sinusoid', 'query_loss/step_1'),
      ('small_navigation', 'return/step_1'),
    ],
  )
  @pytest.mark.slow
  def test_20_kills_at_random_moments(
    self, cache, tmp_path, algorithm, best_metric
  ):
    schedule = SCHEDULE | {
      'num_steps': 400,  # more than ten lives of it get done
      'best_metric': best_metric,
    }
    options = {'algorithm': algorithm, 'schedule': schedule}
    digest, rows = self.uninterrupted(cache, tmp_path / 'whole', **options)
    options['resume'] = True

    def chain(seed):
      draw, workdir = random.Random(seed), tmp_path / str(seed) / 'run'
      metrics = workdir / 'metrics.jsonl'
      with Forks(cache, workdir.parent) as forks:
        for _ in range(10):
          before = size(metrics)
          forks.start(workdir, pause_s=0.02, **options)
          end = time.monotonic() + TIMEOUT_S
          if draw.random() < 0.8:  # otherwise anywhere, start-up included
            while size(metrics) <= before and time.monotonic() < end:
              time.sleep(0.002)
            time.sleep(draw.uniform(0, 0.1))
          else:
            time.sleep(draw.uniform(0, 0.8))
          os.kill(forks.pid, signal.SIGKILL)
          assert forks.finish()[0] == -signal.SIGKILL
          check_rows(workdir)
        assert forks.digest(workdir, **options) == digest
      assert probes.without_time(check_rows(workdir)) == rows
      leftovers = [p for p in workdir.rglob('*') if 'tmp' in p.name]
      assert leftovers == []
      best = sorted(p.name for p in (workdir / 'checkpoints/best').iterdir())
      whole = tmp_path / 'whole' / 'checkpoints' / 'best'
      assert best == sorted(p.name for p in whole.iterdir())

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
      for future in [pool.submit(chain, seed) for seed in (1, 2)]:
        future.result()

  @pytest.mark.parametrize(
    'chains',
    [
      [list(zip(POINTS, (2, 1, 1, 1, 1, 1), strict=True))],
      pytest.param(
        [[(point, on) for on in (1, 2, 3, 1, 2)] for point in POINTS],
        marks=pytest.mark.slow,
      ),
    ],
    ids=['all_in_one_run', 'a_run_for_each'],
  )
  def test_kills_between_payload_and_manifest(self, cache, tmp_path, chains):
    options = {'schedule': SCHEDULE | {'num_steps': 100}}
    digest, rows = self.uninterrupted(cache, tmp_path / 'whole', **options)
    options['resume'] = True
    like = jax.eval_shape(
      lambda: probes.quadratic().init(probes.TARGET, jax.random.key(0))
    )

    def killed(chain):
      workdir, resumed_from = tmp_path / chain[0][0] / 'run', 0
      with Forks(cache, workdir.parent) as forks:
        for point, on_call in chain:
          forks.start(workdir, die_at=point, die_on_call=on_call, **options)
          code, output = forks.finish()
          assert code == -signal.SIGKILL, output
          if any((workdir / 'checkpoints/last').rglob('MANIFEST.json')):
            step = restore_latest(workdir, like).step
            assert step >= resumed_from
            resumed_from = step
        assert resumed_from > 0
        assert forks.digest(workdir, **options) == digest
      assert probes.without_time(check_rows(workdir)) == rows

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
      for future in [pool.submit(killed, chain) for chain in chains]:
        future.result()


class TestSignals:
  @pytest.mark.parametrize('seed', range(4))
  def test_a_signal_saves_and_stops(self, cache, tmp_path, seed):
    draw = random.Random(seed)
    number = [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGTERM][
      seed
    ]
    # Saved by the clock it would not be: the signal alone makes it durable.
    schedule = {'num_steps': 100_000, 'log_every': 5}
    process = start(cache, tmp_path, schedule=schedule, pause_s=0.01)
    wait_for((tmp_path / 'config.json').exists)
    time.sleep(draw.uniform(0, 1.5))
    sent_s = time.monotonic()
    process.send_signal(number)
    code, _, err = finish(process)
    assert time.monotonic() - sent_s < 25
    assert code == 0, err
    assert len(err.strip().splitlines()) == 1, err
    assert number.name in err
    rows = check_rows(tmp_path)
    algorithm = probes.quadratic()
    like = jax.eval_shape(algorithm.init, algorithm.data, jax.random.key(0))
    saved = restore_latest(tmp_path, like).step
    assert saved == (rows[-1]['step'] if rows else 0)

  def test_a_stopped_run_ends_with_the_same_bits(self, cache, tmp_path):
    schedule = {'num_steps': 400, 'log_every': 5}
    whole = outcome(start(cache, tmp_path / 'whole', schedule=schedule))
    workdir = tmp_path / 'stopped'
    process = start(cache, workdir, schedule=schedule, pause_s=0.02)
    wait_for(lambda: size(workdir / 'metrics.jsonl') > 0)
    process.terminate()
    code, out, err = finish(process)
    assert (code, out) == (0, '')
    assert 'which is saved' in err
    resumed = outcome(start(cache, workdir, schedule=schedule, resume=True))
    assert resumed == whole

  def test_a_second_interrupt_ends_it_at_once(self, cache, tmp_path):
    schedule = {'num_steps': 100_000, 'log_every': 5}
    process = start(cache, tmp_path, schedule=schedule, pause_s=30)
    wait_for(lambda: size(tmp_path / 'metrics.jsonl') > 0)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    sent_s = time.monotonic()
    process.send_signal(signal.SIGINT)
    code, _, _ = finish(process)
    assert time.monotonic() - sent_s < 5
    assert code == -signal.SIGINT
    check_rows(tmp_path)


class TestStorage:
  def test_a_quota_on_checkpoints(self, cache, tmp_path):
    options = {'width': 4000, 'resume': True}
    first = {'num_steps': 10, 'log_every': 5, 'checkpoint_every_s': 0}
    outcome(start(cache, tmp_path, schedule=first, **options))
    process = start(
      cache,
      tmp_path,
      limit_bytes=8 * 1024,
      schedule=first | {'num_steps': 100},
      **options,
    )
    code, _, err = finish(process)
    assert code == 5, err
    # What orbax's own threads say of it is not ours to silence.
    ours = [line for line in err.splitlines() if 'cannot save step' in line]
    assert len(ours) == 1, err
    check_rows(tmp_path)
    done = outcome(start(cache, tmp_path, schedule=first, **options))
    assert done  # the last good step was still there

  def test_a_quota_on_metrics(self, cache, tmp_path):
    first = {'num_steps': 10, 'log_every': 1}
    outcome(start(cache, tmp_path, schedule=first))
    limit = size(tmp_path / 'metrics.jsonl') + 150
    process = start(
      cache,
      tmp_path,
      limit_bytes=limit,
      schedule=first | {'num_steps': 100_000},
      resume=True,
    )
    code, _, err = finish(process)
    assert code == 5, err
    assert err.strip().count('\n') == 0, err
    assert (tmp_path / 'metrics.jsonl').read_bytes().endswith(b'}\n')
    check_rows(tmp_path)

  def test_the_directory_is_deleted_meanwhile(self, cache, tmp_path):
    workdir = tmp_path / 'gone'
    schedule = {'num_steps': 100_000, 'log_every': 5}
    process = start(cache, workdir, schedule=schedule, pause_s=0.01)
    wait_for(lambda: size(workdir / 'metrics.jsonl') > 0)
    with contextlib.suppress(OSError):
      shutil.rmtree(workdir)
    code, _, err = finish(process)
    assert code == 5, err
    assert len(err.strip().splitlines()) == 1, err
