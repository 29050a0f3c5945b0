"""The command that collects demonstrations: its flags, stopping, going on."""

import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import pytest

from experiments import collect_demos
from metajax.demos.demonstration_set import open_demonstrations
from metajax.demos.set_index import read_index

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 300
FLAGS = (
  '--family=reach2d',
  '--camera=none',
  '--num_tasks=6',
  '--num_held_out_tasks=1',
  '--demos_per_task=4',
  '--episodes_per_shard=2',
  '--execution_noise=0.1',
  '--keep_states',
)


def start(*flags):
  # One device, as a user has.
  environment = os.environ | {'JAX_NUM_CPU_DEVICES': '1'}
  return subprocess.Popen(
    [sys.executable, '-m', 'experiments.collect_demos', *flags],
    cwd=ROOT,
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def call(*flags):
  """Returns the exit code of the command, in this process."""
  with pytest.raises(SystemExit) as error:
    collect_demos.main(['collect_demos', *flags])
  return error.value.code


@pytest.mark.slow
def test_a_stopped_collection_goes_on(tmp_path):
  out = tmp_path / 'a set'
  process = start(*FLAGS, f'--out={out}')
  end = time.monotonic() + TIMEOUT_S
  while not (out / 'actions' / '00000.npy').exists():
    assert process.poll() is None, process.communicate()
    assert time.monotonic() < end
    time.sleep(0.01)
  process.send_signal(signal.SIGTERM)
  _, err = process.communicate(timeout=TIMEOUT_S)
  assert process.returncode == 0, err
  (line,) = err.strip().splitlines()
  assert 'SIGTERM' in line
  assert '--resume' in line
  done = sum(shard.num_episodes for shard in read_index(out).shards)
  assert 2 <= done < 28
  assert f'{done} of 28' in line

  process = start(*FLAGS, f'--out={out}', '--resume')
  printed, err = process.communicate(timeout=TIMEOUT_S)
  assert process.returncode == 0, err
  lines = printed.splitlines()
  assert lines[-5].startswith('28/28 episodes')
  assert 'left' in lines[-5]
  assert lines[-4].split()[:4] == ['split', 'tasks', 'episodes', 'success']
  assert lines[-3].split()[:3] == ['train', '6', '24']
  assert lines[-2].split()[:3] == ['held_out', '1', '4']
  assert 'writing' in lines[-1]
  episodes = open_demonstrations(out).load('train')
  assert episodes['actions'].shape[:2] == (6, 4)
  assert episodes['physics/qpos'].shape[:2] == (6, 4)
  assert not any(name.startswith('frames') for name in episodes)


def test_list(capsys):
  assert call('--list') == 0
  names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
  assert {'pusher', 'jaco_stack', 'rope'} <= set(names)
  assert 'navigation' not in names  # which has no teacher


@pytest.mark.parametrize(
  ('flags', 'said'),
  [
    ([], '--family'),
    (['--family=pushr', '--out=x'], 'did you mean pusher?'),
    (['--famly=pusher', '--out=x'], 'did you mean --family?'),
    (['--family=pusher'], '--out'),
    (['--family=pusher', '--out=x', '--physics=warp'], '--physics'),
    (['--family=pusher', '--out=x', '--keep=some'], '--keep'),
    (['--family=pusher', '--out=x', '--style=odd'], '--style'),
    (['--family=pusher', '--out=x', '--num_tasks=many'], 'num_tasks'),
    (['--family=pusher', '--out=x', '--num_tasks=-1'], 'num_tasks'),
    (['--family=pusher', '--out=x', '--demos_per_task=0'], 'demos_per_task'),
    (['--family=pusher', '--out=x', '--num_tasks=0'], 'num_tasks'),
    (['--family=pusher', '--out=x', '--execution_noise=nan'], 'noise'),
    (['--family=pusher', '--out=x', '--camera=../x'], 'camera'),
    (['--family=pusher', '--out=x', '--size=0'], 'size'),
    (['--family=pusher', '--out=x', '--seed=-1'], 'seed'),
    (['--family=pusher', '--out=x', 'now'], 'flags only'),
    (['--family=reach2d', '--out=x', '--camera=front'], 'camera'),
    (['--family=spriteworld', '--out=x', '--camera=robot'], 'camera'),
  ],
)
def test_mistakes_take_one_line(tmp_path, monkeypatch, capsys, flags, said):
  monkeypatch.chdir(tmp_path)
  assert call(*flags) == 2
  err = capsys.readouterr().err
  assert len(err.strip().splitlines()) == 1
  assert said in err
  assert not list(tmp_path.iterdir())
