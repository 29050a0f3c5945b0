"""Writers of metrics: whole lines, strict JSON, sweeps spread over columns."""

import csv
import json
import math
import sys

import numpy as np
import pytest

from metajax.core.durable_files import jsonable
from metajax.core.errors import StorageError
from metajax.run import metrics
from metajax.run.evaluation import summarise


class TestJsonLines:
  def test_rows_come_back(self, tmp_path):
    path = tmp_path / 'metrics.jsonl'
    writer = metrics.JsonLinesWriter(path)
    writer.write(10, {'meta/loss': 0.5})
    writer.write(20, {'meta/loss': [0.5, None]})
    writer.flush()
    writer.close()
    assert metrics.read_rows(path) == [
      {'step': 10, 'meta/loss': 0.5},
      {'step': 20, 'meta/loss': [0.5, None]},
    ]

  @pytest.mark.parametrize(
    'tail',
    [
      b'{"step": 30, "meta/lo',
      b'{"step": 30}',
      b'\x00\x00\x00\n',
      b'{"step": 20}\n',
      b'{"step": 15}\n',
      b'[1]\n',
      b'{"steps": 30}\n',
      b'{"step": 99}\n',
      b'[' * 100_000 + b'\n',
    ],
  )
  def test_what_is_torn_or_late_is_cut(self, tmp_path, tail):
    path = tmp_path / 'metrics.jsonl'
    good = b'{"step": 10}\n{"step": 20}\n'
    path.write_bytes(good + tail)
    rows = metrics.cut_rows(path, 50)
    assert [row['step'] for row in rows] == [10, 20]
    assert path.read_bytes() == good

  def test_rows_after_the_restored_step_are_cut(self, tmp_path, caplog):
    path = tmp_path / 'metrics.jsonl'
    path.write_bytes(b'{"step": 10}\n{"step": 20}\n')
    metrics.cut_rows(path, 10)
    assert path.read_bytes() == b'{"step": 10}\n'
    assert 'has no row' not in caplog.text
    metrics.cut_rows(path, 15)
    assert 'has no row of step 15' in caplog.text

  def test_a_torn_write_leaves_no_part(self, tmp_path, monkeypatch):
    path = tmp_path / 'metrics.jsonl'
    writer = metrics.JsonLinesWriter(path)
    writer.write(10, {})
    write = metrics.os.write

    def write_some(descriptor, content):
      if len(content) < 5:
        raise OSError(28, 'No space left on device')
      return write(descriptor, content[: len(content) // 2])

    monkeypatch.setattr(metrics.os, 'write', write_some)
    with pytest.raises(StorageError, match='No space left'):
      writer.write(20, {'meta/loss': 0.25})
    writer.close()
    assert path.read_bytes() == b'{"step": 10}\n'

  def test_a_deleted_file_is_noticed(self, tmp_path):
    writer = metrics.JsonLinesWriter(tmp_path / 'metrics.jsonl')
    (tmp_path / 'metrics.jsonl').unlink()
    with pytest.raises(StorageError, match='deleted'):
      writer.write(10, {})
    writer.close()


class TestCsv:
  def test_late_columns_and_sweeps(self, tmp_path):
    path = tmp_path / 'metrics.csv'
    writer = metrics.CsvWriter(path, [{'step': 10, 'meta/loss': [1.0, 2.0]}])
    writer.write(20, {'meta/loss': [3.0, None]})
    writer.write(30, {'meta/loss': [5.0, 6.0], 'eval/x': 7.0})
    writer.write(40, {'meta/loss': [8.0, 9.0]})
    writer.close()
    with open(path, newline='') as file:
      rows = list(csv.DictReader(file))
    assert [row['step'] for row in rows] == ['10', '20', '30', '40']
    assert [row['meta/loss/1'] for row in rows] == ['2.0', '', '6.0', '9.0']
    assert [row['eval/x'] for row in rows] == ['', '', '7.0', '']


def test_tensorboard_writes_event_files(tmp_path):
  pytest.importorskip('tensorboardX')
  writer = metrics.TensorBoardWriter(tmp_path, 11)
  writer.write(20, {'meta/loss': [0.5, None], 'eval/x': 1.0})
  writer.flush()
  writer.close()
  content = b''.join(path.read_bytes() for path in tmp_path.iterdir())
  assert b'meta/loss/0' in content
  assert b'meta/loss/1' not in content


def test_without_tensorboard_there_are_no_event_files(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'tensorboardX', None)
  writers, rows = metrics.open_writers(
    tmp_path / 'metrics.jsonl', tmp_path / 'metrics.csv', tmp_path / 'tb', 0
  )
  with writers:
    writers.write(1, {'meta/loss': 1.0})
  assert rows == []
  assert not (tmp_path / 'tb').exists()


def test_numbers_are_strict_json():
  values = np.array([[1.0, np.nan], [np.inf, -np.inf]], np.float32)
  assert jsonable(values) == [[1.0, None], [None, None]]
  assert json.loads(json.dumps(jsonable(np.float32(0.1)))) == np.float32(0.1)


class TestSummary:
  def test_against_numbers_worked_by_hand(self):
    summary = summarise({'x': np.array([1.0, 2.0, 3.0, 6.0])})['x']
    # Squared deviations from 3: 4 + 1 + 0 + 9, over 3.
    assert summary['mean'] == 3.0
    assert summary['ci95'] == pytest.approx(1.96 * math.sqrt(14 / 3) / 2)
    assert summary['n'] == 4

  def test_sweeps_single_tasks_and_infinities(self):
    summary = summarise(
      {
        'sweep': np.array([[1.0, 3.0], [2.0, 2.0]]),
        'single': np.array([2.0]),
        'infinite': np.array([1.0, np.inf]),
      }
    )
    assert summary['sweep']['mean'] == [2.0, 2.0]
    assert summary['sweep']['ci95'] == pytest.approx([1.96, 0.0])
    assert summary['single'] == {'mean': 2.0, 'ci95': None, 'n': 1}
    assert summary['infinite']['mean'] is None
