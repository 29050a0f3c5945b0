"""What is read back; and files from strangers, each refused in one line."""

import hashlib
import io
import json
import os
import pickle
import shutil
import time
import tracemalloc

import numpy as np
import pytest

from metajax.core.validation import InputError
from metajax.demos.demonstration_set import open_demonstrations
from tests.demos import walks

FILE = 'actions/00000.npy'


@pytest.fixture(scope='module')
def original(tmp_path_factory):
  path = tmp_path_factory.mktemp('sets') / 'original'
  walks.collect(path)
  return path


@pytest.fixture
def copy(original, tmp_path):
  return shutil.copytree(original, tmp_path / 'set')


def read_json(path):
  return json.loads((path / 'index.json').read_text())


def write_json(path, content):
  """Writes an index that vouches for itself."""
  content.pop('index_sha256', None)
  canonical = json.dumps(content, sort_keys=True, separators=(',', ':'))
  content['index_sha256'] = hashlib.sha256(canonical.encode()).hexdigest()
  (path / 'index.json').write_text(json.dumps(content))


def forge(path, content):
  """Puts bytes in a file's place, and their size and digest in the index."""
  (path / FILE).write_bytes(content)
  index = read_json(path)
  entry = index['shards'][0]['files']['actions']
  entry['num_bytes'] = len(content)
  entry['sha256'] = hashlib.sha256(content).hexdigest()
  write_json(path, index)


def npy(array):
  buffer = io.BytesIO()
  np.save(buffer, array, allow_pickle=True)
  return buffer.getvalue()


def with_header(text, payload=b''):
  header = text.encode() + b'\n'
  return (
    b'\x93NUMPY\x01\x00' + len(header).to_bytes(2, 'little') + header + payload
  )


def check_refused(path, *parts, verify=True):
  """Checks that reading fails soon, in one line that says these."""
  start = time.process_time()
  with pytest.raises(InputError) as error:
    open_demonstrations(path, verify=verify).load('train')
  assert time.process_time() - start < 1
  message = str(error.value)
  assert '\n' not in message
  assert str(path) in message
  for part in parts:
    assert part in message, message
  assert len(message) < 700


def check_cheap(path):
  """Checks that refusing takes little memory; being watched takes time."""
  tracemalloc.start()
  try:
    with pytest.raises(InputError):
      open_demonstrations(path)
    _, peak = tracemalloc.get_traced_memory()
  finally:
    tracemalloc.stop()
  assert peak < 64 * 2**20


class TestReading:
  def test_all_that_was_collected_comes_back(self, original):
    demonstrations = open_demonstrations(original)
    assert demonstrations.splits == ('train', 'validation', 'held_out')
    episodes = demonstrations.load('train')
    for name, values in episodes.items():
      rows = [
        np.load(original / name / f'{shard:05d}.npy') for shard in range(4)
      ]
      stored = np.concatenate(rows)[:15].reshape(5, 3, *rows[0].shape[1:])
      if name.startswith('task/'):
        stored = stored[:, 0]
      np.testing.assert_array_equal(values, stored)
      assert values.dtype == rows[0].dtype

  def test_the_device_gets_the_same(self, original):
    demonstrations = open_demonstrations(original, ['actions', 'task/goal'])
    placed = demonstrations.to_device('held_out', ['actions'])
    assert set(placed) == {'actions'}
    np.testing.assert_array_equal(
      placed['actions'], demonstrations.load('held_out')['actions']
    )

  def test_chunks_are_the_whole(self, original):
    demonstrations = open_demonstrations(original)
    chunks = list(demonstrations.chunks('train', 2))
    assert [len(chunk['actions']) for chunk in chunks] == [2, 2, 1]
    for name, values in demonstrations.load('train').items():
      np.testing.assert_array_equal(
        np.concatenate([chunk[name] for chunk in chunks]), values
      )

  def test_some_tasks(self, original):
    demonstrations = open_demonstrations(original, ['labels'])
    some = demonstrations.load('train', tasks=[1, 4])['labels']
    every = demonstrations.load('train')['labels']
    np.testing.assert_array_equal(some, every[[1, 4]])
    for tasks in ([5], [1, 1], [2, 1], [-1]):
      with pytest.raises(InputError, match='tasks'):
        demonstrations.load('train', tasks=tasks)

  def test_fields_that_are_not_named_are_not_opened(self, copy):
    shutil.rmtree(copy / 'actions')
    demonstrations = open_demonstrations(copy, ['observations'])
    demonstrations.load('train')
    with pytest.raises(InputError, match='field'):
      demonstrations.load('train', ['actions'])
    check_refused(copy, 'actions')

  @pytest.mark.parametrize(
    ('fields', 'split'), [(['action'], 'train'), (['actions'], 'test')]
  )
  def test_misspelt_names(self, original, fields, split):
    with pytest.raises(InputError, match='expected one of'):
      open_demonstrations(original, fields).load(split)

  def test_a_moved_set_on_a_strange_path(self, original, tmp_path, monkeypatch):
    path = tmp_path / 'mes démonstrations 示范'
    shutil.copytree(original, path / 'set')
    monkeypatch.chdir(path)
    open_demonstrations('set').load('train')

  @pytest.mark.parametrize('made', ['nothing', 'file', 'empty'])
  def test_no_set(self, tmp_path, made):
    path = tmp_path / 'set'
    if made == 'file':
      path.write_text('set')
    elif made == 'empty':
      path.mkdir()
    check_refused(path)


class TestHostileArrays:
  @pytest.mark.parametrize('verify', [True, False])
  def test_object_array(self, copy, verify):
    forge(copy, npy(np.full((4, 5, 2), None, object)))
    check_refused(copy, FILE, 'object', verify=verify)

  def test_pickle_renamed(self, copy):
    forge(copy, pickle.dumps(os.system))
    check_refused(copy, FILE, 'header')

  def test_zip_archive_renamed(self, copy):
    buffer = io.BytesIO()
    np.savez(buffer, np.zeros((4, 5, 2), np.float32))
    forge(copy, buffer.getvalue())
    check_refused(copy, FILE, 'header')

  @pytest.mark.parametrize('share', [0.0, 0.3, 0.5, 0.99])
  def test_truncated(self, copy, share):
    content = (copy / FILE).read_bytes()
    (copy / FILE).write_bytes(content[: int(share * len(content))])
    check_refused(copy, FILE, f'{len(content)} bytes')
    forge(copy, content[: int(share * len(content))])
    check_refused(copy, FILE)

  @pytest.mark.parametrize(
    'shape', ['(1099511627776,)', '(4, 5, 1099511627776)', '(-4, 5, 2)', '()']
  )
  def test_forged_shape(self, copy, shape):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
    forge(copy, with_header(header, bytes(160)))
    check_refused(copy, FILE, 'float32[4,5,2]')
    check_cheap(copy)

  def test_forged_shape_in_header_and_index(self, copy):
    header = (
      "{'descr': '<f4', 'fortran_order': False, 'shape': (4, 5, 2**40), }"
    )
    forge(copy, with_header(header.replace('2**40', str(2**40))))
    index = read_json(copy)
    index['fields']['actions']['shape'] = [5, 2**40]
    for shard in index['shards']:
      shape = shard['files']['actions']['shape']
      shard['files']['actions']['shape'] = [shape[0], 5, 2**40]
    write_json(copy, index)
    check_refused(copy, FILE, 'bytes after the header')
    check_cheap(copy)

  @pytest.mark.parametrize(
    'header',
    [
      '',
      '(' * 3000,
      '{' * 60_000,
      "{'descr': '<f4'}",
      "{'descr': '|O', 'fortran_order': False, 'shape': (4, 5, 2), }",
      "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (4,5,2), }",
      "{'descr': '<f4', 'fortran_order': 1, 'shape': (4, 5, 2), }",
      "__import__('os').abort()",
      '\\x00\\N{x}',
    ],
  )
  @pytest.mark.filterwarnings('ignore::SyntaxWarning')
  def test_headers_that_are_none(self, copy, header):
    forge(copy, with_header(header, bytes(160)))
    check_refused(copy, FILE)

  @pytest.mark.parametrize(
    'dtype', ['float64', 'complex64', 'S4', 'U1', 'M8[s]']
  )
  def test_other_dtypes(self, copy, dtype):
    forge(copy, npy(np.zeros((4, 5, 2)).astype(dtype)))
    check_refused(copy, FILE, 'expected one of bool')

  def test_a_dtype_that_is_allowed_elsewhere(self, copy):
    forge(copy, npy(np.zeros((4, 5, 2), np.int32)))
    check_refused(copy, FILE, 'expected float32[4,5,2], got int32[4,5,2]')

  @pytest.mark.parametrize('form', ['fortran', 'big-endian'])
  def test_other_orders_are_read(self, original, copy, form):
    values = np.load(copy / FILE)
    forge(
      copy,
      npy(
        np.asfortranarray(values) if form == 'fortran' else values.astype('>f4')
      ),
    )
    got = open_demonstrations(copy, ['actions']).load('train')['actions']
    expected = open_demonstrations(original).load('train')['actions']
    np.testing.assert_array_equal(got, expected)
    assert got.dtype == np.dtype(np.float32)
    assert got.dtype.isnative
    assert got.flags.c_contiguous

  @pytest.mark.parametrize('number', [np.nan, np.inf, -np.inf])
  def test_numbers_that_are_not_finite(self, copy, number):
    values = np.load(copy / FILE)
    values[3, 1, 0] = number
    forge(copy, npy(values))
    check_refused(copy, FILE, 'finite')

  @pytest.mark.parametrize('length', [0, -1, 6])
  def test_impossible_lengths(self, copy, length):
    values = np.load(copy / 'length/00000.npy')
    values[2] = length
    np.save(copy / 'length/00000.npy', values)
    check_refused(copy, 'length/00000.npy', '1 to 5 steps', verify=False)

  def test_a_flipped_bit(self, copy):
    content = bytearray((copy / FILE).read_bytes())
    content[-3] ^= 4
    (copy / FILE).write_bytes(content)
    check_refused(copy, FILE, 'SHA-256')

  @pytest.mark.parametrize('kind', ['directory', 'link', 'fifo', 'nothing'])
  def test_no_file(self, copy, original, kind):
    (copy / FILE).unlink()
    if kind == 'directory':
      (copy / FILE).mkdir()
    elif kind == 'link':
      (copy / FILE).symlink_to(original / FILE)
    elif kind == 'fifo':
      os.mkfifo(copy / FILE)
    check_refused(copy, FILE)

  def test_a_folder_that_is_a_link(self, copy, original):
    shutil.rmtree(copy / 'actions')
    (copy / 'actions').symlink_to(original / 'actions')
    check_refused(copy, 'directory of its own')

  def test_random_damage(self, copy):
    """Either the right numbers come back or one line says why not."""
    draw = np.random.default_rng(0)
    before = open_demonstrations(copy).load('train')
    names = ['index.json', FILE, 'done/00001.npy', 'task/goal/00000.npy']
    num_refused = 0
    for _ in range(200):
      path = copy / names[draw.integers(len(names))]
      content = path.read_bytes()
      damaged = bytearray(content)
      if draw.random() < 0.3:
        del damaged[draw.integers(len(damaged)) :]
      else:
        for _ in range(draw.integers(1, 4)):
          damaged[draw.integers(len(damaged))] = draw.integers(256)
      path.write_bytes(damaged)
      try:
        after = open_demonstrations(copy).load('train')
        for name, values in before.items():
          np.testing.assert_array_equal(after[name], values)
      except InputError as error:
        num_refused += '\n' not in str(error)
      path.write_bytes(content)
    assert num_refused > 150


def change(index, path, value):
  """Changes one entry, `shards/0/split`; None removes it."""
  *parents, last = [
    int(part) if part.isdigit() else part for part in path.split('/')
  ]
  for part in parents:
    index = index[part]
  if value is None:
    del index[last]
  else:
    index[last] = value


class TestHostileIndex:
  @pytest.mark.parametrize(
    'text',
    [
      '',
      'hello',
      '[]',
      '{}',
      'null',
      '{"format_version": 1',
      '{"a": NaN}',
      '{"a": Infinity}',
      '{"a": 1, "a": 2}',
      '\udcff',
      '{"a": ' + '9' * 5000 + '}',
    ],
  )
  def test_not_an_index(self, copy, text):
    (copy / 'index.json').write_bytes(text.encode(errors='surrogateescape'))
    check_refused(copy, 'index.json')

  @pytest.mark.parametrize(
    'text',
    [
      '[' * 40_000,
      '{"a":' * 40_000,
      '[' * 1_000_000,
      '[' + '{},' * 600_000 + '{}]',
      '[' + '1000,' * 400_000 + '1]',
      '{' + ','.join(f'"{i:05x}":1' for i in range(180_000)) + '}',
      '[' + '"ab",' * 400_000 + '1]',
      ' ' * (3 * 2**20),
    ],
    ids=[
      'deep',
      'deep objects',
      'deeper',
      'objects',
      'numbers',
      'names',
      'texts',
      'huge',
    ],
  )
  def test_large_and_deep(self, copy, text):
    (copy / 'index.json').write_text(text)
    check_refused(copy, 'index.json')
    check_cheap(copy)

  def test_a_sparse_giant(self, copy):
    with open(copy / 'index.json', 'r+b') as file:
      file.truncate(2**40)
    check_refused(copy, 'index.json', 'bytes')
    check_cheap(copy)

  @pytest.mark.parametrize(
    ('entry', 'value'),
    [
      ('format_version', 2),
      ('settings', []),
      ('settings', None),
      ('made_with', 'jax'),
      ('splits', {'train': '5'}),
      ('splits', {'train': True}),
      ('splits', {'test': 5}),
      ('splits/train', 2**50),
      ('demos_per_task', 0),
      ('demos_per_task', 3.0),
      ('horizon', 0),
      ('horizon', -5),
      ('fields', []),
      ('fields/actions/dtype', 'object'),
      ('fields/actions/dtype', '>f4'),
      ('fields/actions/dtype', ['float32']),
      ('fields/actions/shape', [0, 2]),
      ('fields/actions/shape', [5, -2]),
      ('fields/actions/shape', [1] * 100),
      ('fields/actions/shape', 10),
      ('fields/actions/extra', 1),
      ('shards', {}),
      ('shards', [[]]),
      ('shards', [{}] * 10_000),
      ('shards/0', None),
      ('shards/0/split', 'validation'),
      ('shards/0/first', 1),
      ('shards/0/num_episodes', 0),
      ('shards/0/num_episodes', 2**40),
      ('shards/0/rejected', [0]),
      ('shards/0/rejected', [0, 0, 0, -1]),
      ('shards/0/given_up', [7]),
      ('shards/0/given_up', [1, 1]),
      ('shards/0/given_up', [1]),
      ('shards/0/files', {}),
      ('shards/0/files/actions', None),
      ('shards/0/files/actions', 'actions/00000.npy'),
      ('shards/0/files/actions/shape', [4, 5, 3]),
      ('shards/0/files/actions/dtype', 'uint8'),
      ('shards/0/files/actions/num_bytes', '288'),
      ('shards/0/files/actions/num_bytes', 2**50),
      ('shards/0/files/actions/sha256', 'abc'),
      ('shards/0/files/actions/sha256', 7),
      ('unknown', 1),
    ],
  )
  def test_wrong_entries(self, copy, entry, value):
    index = read_json(copy)
    change(index, entry, value)
    write_json(copy, index)
    check_refused(copy, 'index.json', 'expected')

  @pytest.mark.parametrize(
    'name',
    [
      '../../x',
      '/etc/passwd',
      'a/../../x',
      '..',
      '',
      'a//b',
      './a',
      'a\nb',
      'a' * 300,
      '.lock',
      'ä',
      'a\0',
    ],
  )
  def test_fields_that_lead_out(self, copy, name):
    index = read_json(copy)
    for entries in (index['fields'], *(s['files'] for s in index['shards'])):
      entries[name] = entries.pop('actions')
    write_json(copy, index)
    check_refused(copy, 'index.json', 'names as in')

  def test_two_entries_of_one_name(self, copy):
    text = (copy / 'index.json').read_text()
    doubled = text.replace('"actions": {', '"actions": {}, "actions": {', 1)
    assert doubled != text
    (copy / 'index.json').write_text(doubled)
    check_refused(copy, 'index.json', "two of 'actions'")

  def test_a_changed_number_that_is_plausible(self, copy):
    text = (copy / 'index.json').read_text()
    (copy / 'index.json').write_text(text.replace('"seed": 0', '"seed": 1'))
    check_refused(copy, 'index.json', 'index_sha256')

  def test_pictures_that_are_none(self, copy):
    index = read_json(copy)
    index['fields']['frames/x'] = {'dtype': 'float32', 'shape': [6, 4, 4, 3]}
    write_json(copy, index)
    check_refused(copy, 'index.json', 'uint8')

  @pytest.mark.parametrize('kind', ['directory', 'link', 'fifo'])
  def test_no_index_file(self, copy, original, kind):
    (copy / 'index.json').unlink()
    if kind == 'directory':
      (copy / 'index.json').mkdir()
    elif kind == 'link':
      (copy / 'index.json').symlink_to(original / 'index.json')
    else:
      os.mkfifo(copy / 'index.json')
    check_refused(copy, 'index.json')
