"""Sets that go to Minari and come back, and Minari's own."""

import subprocess
import sys
import warnings

import numpy as np
import pytest

from metajax.core.validation import InputError
from metajax.demos.demonstration_set import open_demonstrations
from metajax.demos.set_index import FieldSpec, Index
from metajax.demos.set_writer import open_writer
from tests.demos import walks

gymnasium = pytest.importorskip('gymnasium')
minari = pytest.importorskip('minari')

from minari.data_collector import EpisodeBuffer  # noqa: E402

from metajax.demos.minari_sets import export_minari, import_minari  # noqa: E402

METADATA = {
  'algorithm_name': 'guide',
  'author': 'nobody',
  'author_email': 'nobody@example.org',
  'code_permalink': 'https://example.org',
  'description': 'walks',
}


@pytest.fixture(autouse=True)
def library(tmp_path, monkeypatch):
  monkeypatch.setenv('MINARI_DATASETS_PATH', str(tmp_path / 'minari'))


def make_buffer(length, *, size=2, terminated=False):
  steps = np.arange(length + 1, dtype=np.float64)[:, None]
  return EpisodeBuffer(
    observations=np.tile(steps, (1, size)),
    actions=np.ones((length, 2), np.float32),
    rewards=[1.0] * length,
    terminations=[False] * (length - 1) + [terminated],
    truncations=[False] * (length - 1) + [not terminated],
    infos={},
  )


def make_minari(name, buffers, *, size=2, action_space=None):
  box = gymnasium.spaces.Box
  with warnings.catch_warnings():
    warnings.simplefilter('ignore', UserWarning)  # it has no environment
    return minari.create_dataset_from_buffers(
      name,
      buffers,
      observation_space=box(-np.inf, np.inf, (size,), np.float64),
      action_space=action_space or box(-1, 1, (2,), np.float32),
      **METADATA,
    )


def test_there_and_back(tmp_path):
  walks.collect(tmp_path / 'set')
  original = open_demonstrations(tmp_path / 'set')
  dataset = export_minari(original, 'walks/guide-v0', metadata=METADATA)
  episodes = original.load('train')
  assert dataset.total_episodes == 15
  for number, episode in enumerate(dataset.iterate_episodes()):
    task, demo = divmod(number, 3)
    length = episodes['length'][task, demo]
    assert len(episode) == length
    np.testing.assert_array_equal(
      episode.actions, episodes['actions'][task, demo, :length]
    )
    assert episode.terminations[-1] == episodes['done'][task, demo, length - 1]
    assert episode.terminations[-1] != episode.truncations[-1]
    assert set(episode.infos['task']) == {task}
    assert set(episode.infos['demonstration']) == {demo}
  import_minari(tmp_path / 'back', ['walks/guide-v0'])
  back = open_demonstrations(tmp_path / 'back').load('train')
  is_on = np.arange(walks.HORIZON) < back['length'][0][:, None]
  for name in ('observations', 'rewards', 'done', 'length'):
    expected = episodes[name].reshape(back[name].shape)
    np.testing.assert_array_equal(back[name], expected)
  for name in ('actions', 'labels'):
    expected = episodes[name].reshape(back[name].shape)
    np.testing.assert_array_equal(back[name][0][is_on], expected[0][is_on])


def test_pictures_come_back(tmp_path):
  draw = np.random.default_rng(0)
  arrays = {
    'observations': draw.normal(size=(4, 4, 2)).astype(np.float32),
    'actions': draw.uniform(-1, 1, (4, 3, 1)).astype(np.float32),
    'rewards': np.ones((4, 3), np.float32),
    'done': np.zeros((4, 3), bool),
    'length': np.full((4,), 3, np.int32),
    'frames/overview': draw.integers(0, 256, (4, 4, 8, 6, 3)).astype(np.uint8),
  }
  index = Index(
    settings={'environment': {'action_limit': 1.0}},
    made_with={},
    splits={'train': 2},
    demos_per_task=2,
    horizon=3,
    fields={
      name: FieldSpec(values.dtype.name, values.shape[1:])
      for name, values in arrays.items()
    },
  )
  with open_writer(tmp_path / 'set', index, resume=False) as writer:
    writer.add(arrays, rejected=[0] * 4)
  original = open_demonstrations(tmp_path / 'set')
  export_minari(original, 'films/some-v0', metadata=METADATA)
  import_minari(tmp_path / 'back', ['films/some-v0'], demos_per_task=3)
  back = open_demonstrations(tmp_path / 'back').load('train')
  for name, values in arrays.items():
    np.testing.assert_array_equal(back[name][0], values[:3])


def test_shorter_episodes_are_filled_up(tmp_path):
  make_minari('walks/a-v0', [make_buffer(3), make_buffer(5), make_buffer(4)])
  make_minari('walks/b-v0', [make_buffer(2, terminated=True), make_buffer(4)])
  index = import_minari(tmp_path / 'set', ['walks/a-v0', 'walks/b-v0'])
  assert (index.splits, index.demos_per_task) == ({'train': 2}, 2)
  episodes = open_demonstrations(tmp_path / 'set').load('train')
  np.testing.assert_array_equal(episodes['length'], [[3, 5], [2, 4]])
  np.testing.assert_array_equal(
    episodes['observations'][1, 0, :, 0], [0, 1, 2, 2, 2, 2]
  )
  np.testing.assert_array_equal(episodes['rewards'][1, 0], [1, 1, 0, 0, 0])
  np.testing.assert_array_equal(episodes['done'][1, 0], [0, 1, 1, 1, 1])
  assert not episodes['done'][0].any()


def test_what_cannot_be_imported(tmp_path):
  make_minari('walks/a-v0', [make_buffer(3)])
  make_minari('walks/b-v0', [make_buffer(3, size=3)], size=3)
  path = tmp_path / 'set'
  for ids, changes, message in (
    ([], {}, 'at least one'),
    (['walks/none-v0'], {}, 'not found'),
    (['walks/a-v0', 'walks/b-v0'], {}, 'the same spaces'),
    (['walks/a-v0'], {'demos_per_task': 2}, 'at most 1'),
    (['walks/a-v0'], {'split': 'test'}, 'split'),
  ):
    with pytest.raises(InputError, match=message):
      import_minari(path, ids, **changes)
  assert not path.exists()
  broken = make_buffer(3)
  broken.observations[1, 0] = np.nan
  make_minari('walks/c-v0', [broken])
  with pytest.raises(InputError, match='finite'):
    import_minari(path, ['walks/c-v0'])


def test_discrete_actions_are_refused(tmp_path):
  buffer = EpisodeBuffer(
    observations=np.zeros((3, 2)),
    actions=np.zeros(2, np.int64),
    rewards=[0.0, 0.0],
    terminations=[False, False],
    truncations=[False, True],
    infos={},
  )
  make_minari('walks/d-v0', [buffer], action_space=gymnasium.spaces.Discrete(2))
  with pytest.raises(InputError, match='action space: expected a Box'):
    import_minari(tmp_path / 'set', ['walks/d-v0'])


@pytest.mark.parametrize('name', ['walks', 'walks-v', '../walks-v0', 'a b-v0'])
def test_names_that_minari_refuses(tmp_path, name):
  walks.collect(tmp_path / 'set')
  original = open_demonstrations(tmp_path / 'set')
  with pytest.raises(InputError, match='dataset_id'):
    export_minari(original, name, metadata=METADATA)


def test_a_name_that_is_taken(tmp_path):
  walks.collect(tmp_path / 'set')
  original = open_demonstrations(tmp_path / 'set')
  export_minari(original, 'walks/guide-v0', metadata=METADATA)
  with pytest.raises(InputError, match='dataset_id'):
    export_minari(original, 'walks/guide-v0', metadata=METADATA)


def test_without_minari():
  program = (
    "import sys; sys.modules['minari'] = None\n"
    'from metajax.core.validation import InputError\n'
    'try:\n  import metajax.demos.minari_sets\n'
    'except InputError as error:\n  print(error)\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', program], capture_output=True, text=True, check=True
  )
  assert 'metajax[demos]' in done.stdout
