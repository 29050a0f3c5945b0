"""The command line as users meet it: runs, reports, mistakes, exit codes."""

import errno
import json
import os
from pathlib import Path
import stat
import subprocess
import sys

import jax
import numpy as np
import pytest

from metajax.core import durable_files
from metajax.run.launch import launch
from tests.run.quadratic import EXPERIMENTS

ROOT = Path(__file__).parents[2]


def _launch(*arguments: str) -> int:
  """Launches in this process and returns the exit code."""
  with pytest.raises(SystemExit) as caught:
    launch(EXPERIMENTS, ['experiments/quadratic.py', *arguments])
  return caught.value.code


def _run(workdir: Path, *arguments: str) -> int:
  return _launch(
    '--experiment=quadratic',
    '--preset=smoke',
    f'--workdir={workdir}',
    '--nocompilation_cache',
    *arguments,
  )


def _metrics(workdir: Path) -> dict:
  return json.loads((workdir / 'evaluation.json').read_text())['metrics']


def _mistake(capsys, *arguments: str) -> str:
  """Launches what cannot be, and returns the one line that says so."""
  capsys.readouterr()
  assert _launch('--experiment=quadratic', *arguments) == 2
  said = capsys.readouterr()
  assert said.err.count('\n') == 1
  assert said.err.startswith('quadratic: ')
  assert said.out == ''
  return said.err


def test_list_has_one_experiment_a_line(capsys):
  assert _launch('--list') == 0
  lines = capsys.readouterr().out.splitlines()
  assert [line.split()[0] for line in lines] == ['quadratic', 'broken']
  assert lines[0].endswith('Nobody 1900, Table 1: distance to the mean')


def test_help_names_every_flag(capsys):
  assert _launch('--help') == 0
  said = capsys.readouterr().out
  for flag in ('--seeds', '--config.lr', '--schedule.num_steps', '--resume'):
    assert flag in said


def test_run_evaluates_reports_and_compares(tmp_path, capsys):
  workdir = tmp_path / 'run'
  assert _run(workdir, '--config.lr=0.3') == 0
  evaluation = json.loads((workdir / 'evaluation.json').read_text())
  assert evaluation['experiment'] == 'quadratic'
  assert evaluation['preset'] == 'smoke'
  assert (evaluation['seed'], evaluation['steps']) == (0, 20)
  metrics = evaluation['metrics']
  assert set(metrics) == {
    'loss',
    '8_tasks/loss',
    'slow/loss',
    'untrained/loss',
    'unlike/distance',
  }
  assert set(metrics['loss']) == {'mean', 'ci95', 'n'}
  assert metrics['loss']['n'] == 4
  assert metrics['8_tasks/loss']['n'] == 8
  assert metrics['loss']['mean'] < 0.01 < metrics['slow/loss']['mean']
  assert metrics['slow/loss']['mean'] < metrics['untrained/loss']['mean']
  config = json.loads((workdir / 'config.json').read_text())['config']
  assert config['lr'] == 0.3
  assert config['num_tasks'] == 4
  assert (workdir / 'baselines' / 'slow' / 'evaluation.json').exists()
  assert (workdir / 'figures' / 'learning.png').exists()
  said = capsys.readouterr().out
  assert said.startswith(f'quadratic (smoke): {workdir}\n')
  assert 'untrained/loss' in said


def test_default_workdir_says_what_is_in_it(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  arguments = ('--experiment=quadratic', '--preset=smoke', '--seed=3')
  arguments += ('--baselines=none', '--nocompilation_cache')
  assert _launch(*arguments) == 0
  workdir = tmp_path / 'runs' / 'quadratic' / 'quadratic-smoke-seed3'
  assert set(_metrics(workdir)) == {'loss', '8_tasks/loss'}
  assert 'runs/quadratic/quadratic-smoke-seed3' in capsys.readouterr().out


def test_used_workdir_is_refused_and_resumed(tmp_path, capsys):
  workdir = tmp_path / 'run'
  assert _run(workdir) == 0
  before = _metrics(workdir)
  capsys.readouterr()
  assert _run(workdir) == 2
  said = capsys.readouterr().err
  assert said.count('\n') == 1
  assert 'workdir' in said
  assert _run(workdir, '--resume') == 0
  assert _metrics(workdir) == before
  capsys.readouterr()
  assert _run(workdir, '--resume', '--config.lr=0.2') == 2
  assert 'lr' in capsys.readouterr().err


def test_resume_goes_on_where_each_run_was(tmp_path):
  whole, halves = tmp_path / 'whole', tmp_path / 'halves'
  assert _run(whole) == 0
  assert _run(halves, '--schedule.num_steps=10', '--baselines=none') == 0
  assert _run(halves, '--resume') == 0
  assert _metrics(halves) == _metrics(whole)


def test_baselines_are_chosen_by_name(tmp_path, capsys):
  workdir = tmp_path / 'run'
  assert _run(workdir, '--baselines=slow') == 0
  assert set(_metrics(workdir)) == {'loss', '8_tasks/loss', 'slow/loss'}
  assert _run(tmp_path / 'other', '--baselines=slow,fsat') == 2
  assert '--baselines: expected one of' in capsys.readouterr().err
  assert not (tmp_path / 'other').exists()


def test_eval_only_evaluates_and_draws_again(tmp_path):
  workdir = tmp_path / 'run'
  assert _run(workdir) == 0
  before = _metrics(workdir)
  (workdir / 'evaluation.json').unlink()
  (workdir / 'figures' / 'learning.png').unlink()
  assert _run(workdir, '--eval_only') == 0
  assert _metrics(workdir) == before
  assert (workdir / 'figures' / 'learning.png').exists()


def test_eval_only_needs_a_run(tmp_path, capsys):
  workdir = tmp_path / 'run'
  assert _run(workdir, '--eval_only') == 2
  assert str(workdir) in capsys.readouterr().err
  assert not workdir.exists()
  assert _run(workdir, '--baselines=none') == 0
  assert _run(workdir, '--eval_only', '--baselines=none') == 0
  capsys.readouterr()
  assert _run(workdir, '--eval_only') == 2
  said = capsys.readouterr().err
  assert said.count('\n') == 1
  assert 'the baseline slow (--baselines=none)' in said


def test_seeds_are_pooled(tmp_path):
  alone, together = tmp_path / 'alone', tmp_path / 'together'
  assert _run(alone, '--seed=6', '--schedule.num_steps=5') == 0
  assert _run(together, '--seed=5', '--seeds=3', '--schedule.num_steps=5') == 0
  metrics = _metrics(together)
  assert set(metrics) == set(_metrics(alone))
  for name, of_one in _metrics(alone).items():
    pooled = metrics[name]
    assert pooled['n'] == 3 * of_one['n']
    assert len(pooled['per_seed']) == 3
    np.testing.assert_allclose(
      pooled['per_seed'][1], of_one['mean'], rtol=1e-5, atol=1e-7
    )
    np.testing.assert_allclose(pooled['mean'], np.mean(pooled['per_seed']))
  # A report draws from the first seed's state and all seeds' tasks.
  shapes = json.loads((together / 'report.json').read_text())
  assert shapes[''] == {
    'x': [],
    'evaluation': {'loss': [12], '8_tasks/loss': [24]},
  }
  assert shapes['slow'] == {'x': [], 'evaluation': {'loss': [12]}}


def test_sweep_has_a_name_for_every_setting(tmp_path, capsys):
  workdir = tmp_path / 'run'
  arguments = ('--sweep=lr=0.1,0.3', '--sweep=target=1,2,3', '--seeds=2')
  assert _run(workdir, *arguments) == 0
  metrics = _metrics(workdir)
  assert len(metrics) == 6 * 5
  assert 'lr=0.3,target=2/slow/loss' in metrics
  for target in (1, 2, 3):
    slow = metrics[f'lr=0.1,target={target}/loss']
    fast = metrics[f'lr=0.3,target={target}/loss']
    assert fast['mean'] < slow['mean']
    assert fast['n'] == 8
    assert len(fast['per_seed']) == 2
  said = capsys.readouterr().out
  assert 'lr=0.3,target=2' in said
  # A setting computes what a run of its own computes.
  alone = tmp_path / 'alone'
  assert _run(alone, '--config.lr=0.3', '--config.target=2', '--seed=1') == 0
  np.testing.assert_allclose(
    metrics['lr=0.3,target=2/loss']['per_seed'][1],
    _metrics(alone)['loss']['mean'],
    rtol=1e-4,
    atol=1e-7,
  )


@pytest.mark.skipif(jax.device_count() < 2, reason='needs two devices')
def test_devices_share_the_columns(tmp_path):
  alone, shared = tmp_path / 'alone', tmp_path / 'shared'
  assert _run(alone, '--seeds=2', '--devices=1') == 0
  # A run may go on with another number of devices.
  arguments = ('--seeds=2', '--devices=2', '--baselines=none')
  assert _run(shared, '--schedule.num_steps=10', *arguments) == 0
  assert _run(shared, '--seeds=2', '--devices=1', '--resume') == 0
  assert _metrics(shared) == _metrics(alone)


def test_mistakes_take_one_line(capsys, tmp_path):
  workdir = f'--workdir={tmp_path / "run"}'
  assert 'did you mean --config.lr?' in _mistake(capsys, '--config.lt=1')
  assert 'did you mean --preset?' in _mistake(capsys, '--prest=smoke')
  assert 'did you mean smoke?' in _mistake(capsys, '--preset=smok')
  assert 'expected a number' in _mistake(capsys, '--config.lr=fast')
  assert 'lr: expected' in _mistake_after_start(capsys, workdir)
  assert 'static' in _mistake(capsys, '--sweep=num_tasks=1,2')
  assert 'start one run per value' in _mistake(capsys, '--sweep=num_tasks=1,2')
  assert '--seeds=0' in _mistake(capsys, '--seeds=0')
  assert '--seed=-1' in _mistake(capsys, '--seed=-1')
  assert 'already defined' in _mistake(capsys, '--seed=1', '--seed=2')
  assert "got 'smoke'" in _mistake(capsys, 'smoke')
  assert 'log_every' in _mistake(capsys, '--schedule.log_every=0')


def _mistake_after_start(capsys, workdir: str) -> str:
  """A number out of range, which only the experiment itself can know."""
  capsys.readouterr()
  assert _launch('--experiment=quadratic', workdir, '--config.lr=-1') == 2
  error = capsys.readouterr().err
  assert error.count('\n') == 1
  return error


def test_which_experiment_must_be_said(capsys):
  assert _launch() == 2
  assert 'one of quadratic, broken' in capsys.readouterr().err
  assert _launch('--experiment=quadrtic') == 2
  assert 'did you mean quadratic?' in capsys.readouterr().err


def test_a_bug_shows_its_trace_and_exits_1(tmp_path, capsys):
  workdir = f'--workdir={tmp_path / "run"}'
  assert _launch('--experiment=broken', workdir, '--nocompilation_cache') == 1
  error = capsys.readouterr().err
  assert 'Traceback' in error
  assert 'make_broken' in error
  assert f'jax {jax.__version__}' in error


def test_workdir_that_cannot_be_made(tmp_path, capsys):
  (tmp_path / 'file').write_text('')
  assert _run(tmp_path / 'file') == 2
  assert _run(tmp_path / 'file' / 'run') in (2, 5)
  assert 'Traceback' not in capsys.readouterr().err


def test_a_full_disk_takes_one_line(tmp_path, monkeypatch, capsys):
  """Wherever it fills up: here, under the figures."""

  def full(path, content):
    del content
    raise OSError(errno.ENOSPC, 'No space left on device', str(path))

  monkeypatch.setattr(durable_files, 'write_durably', full)
  assert _run(tmp_path / 'run', '--schedule.num_steps=1') == 5
  error = capsys.readouterr().err
  assert error.count('\n') == 1
  assert 'No space left on device' in error


def test_processes_exit_with_the_code_and_share_compiled_programs(tmp_path):
  environment = {
    name: value
    for name, value in os.environ.items()
    if name != 'JAX_COMPILATION_CACHE_DIR'
  }
  environment['XDG_CACHE_HOME'] = str(tmp_path / 'cache')
  environment['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'

  def start(*arguments):
    return subprocess.run(
      [sys.executable, '-m', 'tests.run.quadratic', *arguments],
      cwd=ROOT,
      env=environment,
      capture_output=True,
      text=True,
      check=False,
    )

  refused = start('--experiment=quadratic', '--sed=1')
  assert refused.returncode == 2
  assert refused.stderr == (
    'quadratic: --sed: no such flag; did you mean --seed?\n'
  )
  cache = tmp_path / 'cache' / 'metajax' / 'compilation'
  assert not cache.exists()

  done = start(
    '--experiment=quadratic',
    '--preset=smoke',
    '--baselines=none',
    f'--workdir={tmp_path / "run"}',
  )
  assert done.returncode == 0, done.stderr
  assert stat.S_IMODE(cache.stat().st_mode) == 0o700
  assert any(cache.iterdir())
