"""Collections that are killed or robbed of their disk, as processes."""

import contextlib
import json
import os
from pathlib import Path
import random
import signal
import subprocess
import sys
import time

import pytest

from metajax.demos.demonstration_set import open_demonstrations
from tests.demos import walks

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 120


class Collectors:
  """Starts one process after another, without importing JAX each time."""

  def __init__(self, cache):
    self._cache = cache

  def __enter__(self):
    environment = os.environ | {
      'PYTHONPATH': str(ROOT),
      'JAX_COMPILATION_CACHE_DIR': str(self._cache),
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
      'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '0',
      'OPENBLAS_NUM_THREADS': '1',  # a process that forks has no other thread
    }
    self._server = subprocess.Popen(
      [sys.executable, str(Path(__file__).with_name('collect_probe.py'))],
      env=environment,
      cwd=ROOT,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )
    return self

  def __exit__(self, *error):
    with self._server:
      self._server.stdin.close()
      self._server.wait(TIMEOUT_S)

  def start(self, path, **options):
    self._server.stdin.write(json.dumps([str(path), options]) + '\n')
    self._server.stdin.flush()
    return int(self._server.stdout.readline())

  def finish(self):
    return int(self._server.stdout.readline())

  def run(self, path, **options):
    self.start(path, **options)
    return self.finish()


@pytest.fixture(scope='module')
def collectors(tmp_path_factory):
  with Collectors(tmp_path_factory.mktemp('compiled')) as started:
    yield started


@pytest.fixture(scope='module')
def whole(collectors, tmp_path_factory):
  path = tmp_path_factory.mktemp('sets') / 'whole'
  assert collectors.run(path) == 0
  return walks.contents(path)


def test_kills_at_named_points(collectors, whole, tmp_path):
  """Each point twice, in the files of an earlier and of a later field."""
  for point in ('before_sync', 'before_rename', 'after_rename', 'after_shard'):
    for on_call in (3, 9):
      code = collectors.run(tmp_path, die_at=point, die_on_call=on_call)
      assert code == -signal.SIGKILL
  # What is killed before an index is renamed has the shard's files already.
  code = collectors.run(tmp_path, die_at='before_rename', die_on_call=15)
  assert code == -signal.SIGKILL
  assert collectors.run(tmp_path) == 0
  assert walks.contents(tmp_path) == whole


def test_kills_at_random_moments(collectors, whole, tmp_path):
  draw = random.Random(0)
  for _ in range(4):
    before = len(walks.contents(tmp_path)) if tmp_path.exists() else 0
    child = collectors.start(tmp_path)
    end = time.monotonic() + TIMEOUT_S
    while (
      len(walks.contents(tmp_path)) <= before
      and len(walks.contents(tmp_path)) < len(whole)
      and time.monotonic() < end
    ):
      time.sleep(0.002)
    time.sleep(draw.uniform(0, 0.1))
    with contextlib.suppress(ProcessLookupError):  # it may just have ended
      os.kill(child, signal.SIGKILL)
    assert collectors.finish() in (0, -signal.SIGKILL)
  assert collectors.run(tmp_path) == 0
  assert walks.contents(tmp_path) == whole
  open_demonstrations(tmp_path).load('train')


def test_a_quota(collectors, whole, tmp_path):
  assert collectors.run(tmp_path, limit_bytes=2000) == 5
  assert collectors.run(tmp_path) == 0
  assert walks.contents(tmp_path) == whole
