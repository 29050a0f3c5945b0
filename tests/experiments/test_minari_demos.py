"""Sets to Minari and back, from the command line."""

import numpy as np
import pytest

from metajax.demos.demonstration_set import open_demonstrations
from tests.demos import walks
from tests.experiments.binaries import launch

pytest.importorskip('minari')


@pytest.fixture(autouse=True)
def library(tmp_path, monkeypatch):
  monkeypatch.setenv('MINARI_DATASETS_PATH', str(tmp_path / 'minari'))


def move(*flags):
  return launch('minari_demos', *flags, timeout_s=200)


def test_a_set_goes_there_and_comes_back(tmp_path):
  first, second = tmp_path / 'set', tmp_path / 'again'
  walks.collect(first)
  there = move(
    f'--from={first}', '--to=walks/guide-v0', '--author=a', '--author_email=b',
    '--algorithm_name=c', '--code_permalink=d', '--description=e',
  )  # fmt: skip
  assert there.returncode == 0, there.stderr
  assert there.stdout.startswith('walks/guide-v0: 15 episodes')
  back = move('--from=walks/guide-v0', f'--out={second}', '--split=held_out')
  assert back.returncode == 0, back.stderr
  original = open_demonstrations(first).load('train')
  again = open_demonstrations(second).load('held_out')
  assert again['actions'].shape[:2] == (1, 15)
  lengths = original['length'].reshape(-1)
  np.testing.assert_array_equal(again['length'][0], lengths)
  actions = original['actions'].reshape(15, *original['actions'].shape[2:])
  for one, other, length in zip(
    actions, again['actions'][0], lengths, strict=True
  ):
    np.testing.assert_array_equal(one[:length], other[:length])


@pytest.mark.parametrize(
  ('flags', 'said'),
  [
    ((), 'expected either --to or --out'),
    (('--out=x',), '--from: expected a directory, or data sets'),
    (('--from=nothing', '--to=a/b-v0'), 'nothing'),
    (('--from=none/such-v0', '--out=x'), 'none/such-v0'),
    (('--from=a', '--to=b', '--split=tran'), 'did you mean train'),
  ],
)
def test_what_is_wrong_is_one_line(flags, said):
  done = move(*flags)
  assert done.returncode == 2
  assert said in done.stderr
  assert len(done.stderr.strip().splitlines()) == 1
