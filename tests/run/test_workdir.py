"""The workdir: one writer, one config; errors and their exit codes."""

import json
import os
from pathlib import Path
import subprocess
import sys
import threading

import jax
import pytest

from metajax.core.directory_lock import lock
from metajax.core.errors import LockedError, RunError, StorageError
from metajax.core.validation import InputError
from metajax.run.errors import (
  MemoryLimitError,
  NonFiniteError,
  Preempted,
  describe_failure,
)
from metajax.run.loop import run
from metajax.run.progress import Progress, time_left
from metajax.run.schedule import Schedule
from metajax.run.signals import StopSignals
from metajax.run.workdir import config_hash, open_workdir, read_config
from tests.run import probes

ROOT = Path(__file__).parents[2]
SCHEDULE = Schedule(num_steps=2, log_every=2)

# Twenty rounds of two processes that take one lock at the same moment.
_RACE = """
import os, sys, time
from pathlib import Path
from metajax.core.errors import LockedError
from metajax.core.directory_lock import lock

def contend(start):
  os.read(start, 1)
  try:
    with lock(Path(sys.argv[1])):
      time.sleep(0.05)
  except LockedError as error:
    assert 'process' in str(error), error
    os._exit(error.exit_code)
  os._exit(0)

for _ in range(20):
  start, go = os.pipe()
  children = []
  for _ in range(2):
    child = os.fork()
    if child == 0:
      contend(start)
    children.append(child)
  os.write(go, b'..')
  codes = [os.waitstatus_to_exitcode(os.waitpid(c, 0)[1]) for c in children]
  print(sorted(codes))
"""


def reopen(path, config, seed=0, resume=True):
  with open_workdir(path, config, seed, SCHEDULE, resume=resume) as workdir:
    return workdir


class TestLock:
  def test_exactly_one_of_two_wins(self, tmp_path):
    done = subprocess.run(
      [sys.executable, '-c', _RACE, str(tmp_path)],
      env=os.environ | {'PYTHONPATH': str(ROOT)},
      capture_output=True,
      text=True,
      timeout=60,
      check=True,
    )
    assert done.stdout.splitlines() == ['[0, 3]'] * 20, done.stderr

  def test_the_holder_is_named(self, tmp_path):
    with lock(tmp_path):
      with pytest.raises(LockedError, match=f'process {os.getpid()} on'):
        run(probes.quadratic(), SCHEDULE, workdir=tmp_path, quiet=True)
    run(probes.quadratic(), SCHEDULE, workdir=tmp_path, quiet=True)


class TestConfig:
  def test_a_used_directory_is_refused(self, tmp_path):
    reopen(tmp_path, {}, resume=False)
    with pytest.raises(InputError, match='^workdir: .*config.json') as caught:
      reopen(tmp_path, {}, resume=False)
    assert '\n' not in str(caught.value)

  def test_an_old_lock_and_foreign_files_are_no_use(self, tmp_path):
    with lock(tmp_path):
      pass
    (tmp_path / 'notes.txt').write_text('mine')
    reopen(tmp_path, {}, resume=False)

  def test_another_config_is_refused_by_name(self, tmp_path):
    config = {'config': {'inner_lr': 0.1, 'layers': [4, 4]}, 'preset': 'smoke'}
    reopen(tmp_path, config)
    reopen(tmp_path, config)
    other = config | {'config': {'inner_lr': 0.2, 'layers': [4, 4]}}
    with pytest.raises(InputError, match=r'inner_lr: expected 0.1 .*got 0.2'):
      reopen(tmp_path, other)
    with pytest.raises(InputError, match='^seed: expected 0'):
      reopen(tmp_path, config, seed=1)
    with pytest.raises(InputError, match='preset'):
      reopen(tmp_path, {'config': config['config']})

  def test_order_and_tuples_do_not_matter(self):
    one = config_hash({'a': 1, 'b': (1, 2)}, 0)
    assert one == config_hash({'b': [1, 2], 'a': 1}, 0)
    assert one != config_hash({'b': [1, 2], 'a': 1}, 1)

  @pytest.mark.parametrize(
    'content', ['', '[]', '{"format_version": 9}', '{', '[' * 100_000]
  )
  def test_a_damaged_config_is_refused(self, tmp_path, content):
    reopen(tmp_path, {})
    (tmp_path / 'config.json').write_text(content)
    with pytest.raises(InputError, match='config.json'):
      reopen(tmp_path, {})

  def test_results_without_a_config_are_refused(self, tmp_path):
    (tmp_path / 'metrics.jsonl').write_text('')
    with pytest.raises(InputError, match='config.json'):
      reopen(tmp_path, {})

  def test_what_config_json_says(self, tmp_path):
    reopen(tmp_path, {'x': 1}, seed=4)
    content = read_config(tmp_path)
    assert content['config'] == {'x': 1}
    assert content['schedule']['num_steps'] == 2
    assert content['device']['count'] == jax.device_count()
    assert content['versions']['jax'] == jax.__version__

  def test_a_file_in_the_way(self, tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(InputError, match='^workdir: expected a directory'):
      reopen(tmp_path / 'file', {})
    with pytest.raises(StorageError, match='cannot create'):
      reopen(tmp_path / 'file' / 'below', {})

  @pytest.mark.skipif(os.geteuid() == 0, reason='root may write anywhere')
  def test_a_read_only_directory(self, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match='cannot'):
      reopen(tmp_path / 'below', {})


class TestErrors:
  @pytest.mark.parametrize(
    ('error', 'code'),
    [
      (Preempted('stopped'), 0),
      (InputError('seed: expected 0, got 1'), 2),
      (LockedError('locked'), 3),
      (NonFiniteError('not finite'), 4),
      (StorageError('disk\nfull'), 5),
      (MemoryLimitError('memory'), 6),
      (jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory'), 6),
      (KeyboardInterrupt(), 130),
      (RunError('other'), 1),
    ],
  )
  def test_expected_ones_take_one_line(self, error, code):
    message, exit_code = describe_failure(error)
    assert exit_code == code
    assert message
    assert '\n' not in message

  def test_a_bug_says_what_a_report_needs(self, tmp_path):
    algorithm = probes.quadratic()

    def evaluate(data, state, key):
      raise ZeroDivisionError('a bug')

    run(algorithm, SCHEDULE, workdir=tmp_path, quiet=True)
    with pytest.raises(ZeroDivisionError) as caught:
      run(
        algorithm._replace(evaluate=evaluate),
        SCHEDULE,
        workdir=tmp_path,
        resume=True,
        quiet=True,
      )
    message, code = describe_failure(caught.value)
    assert code == 1
    assert 'ZeroDivisionError: a bug' in message
    assert f'jax {jax.__version__}' in message
    assert read_config(tmp_path)['config_hash'] in message
    assert 'last/2' in message


class TestSignals:
  def test_handlers_are_put_back(self, tmp_path):
    import signal

    watched = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in watched]
    run(probes.quadratic(), SCHEDULE, workdir=tmp_path, quiet=True)
    assert [signal.getsignal(number) for number in watched] == before
    with StopSignals() as stop:
      os.kill(os.getpid(), signal.SIGUSR1)
      assert stop.received == 'SIGUSR1'
    assert [signal.getsignal(number) for number in watched] == before

  def test_off_the_main_thread_a_run_has_none(self, tmp_path):
    results = []

    def work():
      results.append(
        run(probes.quadratic(), SCHEDULE, workdir=tmp_path, quiet=True)
      )

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert results[0].step == 2


class TestProgress:
  def test_plain_lines_are_at_most_one_a_second(self, capsys):
    with Progress(100, 0, quiet=False) as progress:
      for step in range(1, 101):
        row = {'meta/loss': 0.5, 'meta/skipped': 0.0, 'time/steps_per_s': 50.0}
        progress.update(step, row)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith('step 1/100  meta/loss 0.5  50 steps/s')
    assert lines[1].startswith('step 100/100')

  def test_quiet_prints_nothing(self, capsys):
    with Progress(1, 0, quiet=True) as progress:
      progress.say('compiled')
      progress.update(1, {'meta/loss': 1.0, 'time/steps_per_s': 1.0})
    assert capsys.readouterr().out == ''

  def test_a_live_bar_on_a_terminal(self, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: True, raising=False)
    with Progress(2, 0, quiet=False) as progress:
      progress.say('compiled')
      progress.update(
        2,
        {
          'meta/loss': [0.1, None],
          'eval/x': 1.5,
          'meta/skipped': [1.0, 2.0],
          'time/steps_per_s': 4.0,
        },
      )
    out = capsys.readouterr().out
    assert 'compiled' in out
    assert '2/2' in out

  def test_time_left(self):
    assert time_left(7200, 2.0) == '1:00:00'
    assert time_left(5, 0.0) == '?'


def test_the_evaluation_file_is_strict_json(tmp_path):
  run(probes.quadratic(), SCHEDULE, workdir=tmp_path, quiet=True)
  text = (tmp_path / 'evaluation.json').read_text()
  assert json.loads(text, parse_constant=pytest.fail)['steps'] == 2
