"""What is collected, that it follows from its numbers, and goes on the same."""

import dataclasses
import errno

import jax.numpy as jnp
import numpy as np
import pytest

from metajax.core import durable_files
from metajax.core.compilation import compile_hot
from metajax.core.errors import LockedError, StorageError
from metajax.core.validation import InputError
from metajax.demos.collection import collect_set
from metajax.demos.demonstration_set import open_demonstrations
from metajax.demos.recipe import Recipe, View
from metajax.demos.recorded_states import recorded_state
from metajax.demos.teachers.catalogue import make_teacher
from metajax.envs.catalogue import make_environment
from metajax.envs.views import camera_view
from tests.demos import walks


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """A set that nobody disturbed."""
  path = tmp_path_factory.mktemp('sets') / 'whole'
  walks.collect(path)
  return path


@pytest.fixture(scope='module')
def episodes(whole):
  return open_demonstrations(whole).load('train')


class TestFields:
  def test_shapes_are_those_of_the_docstring(self, episodes):
    steps = walks.HORIZON
    expected = {
      'observations': ((5, 3, steps + 1, 2), 'float32'),
      'actions': ((5, 3, steps, 2), 'float32'),
      'labels': ((5, 3, steps, 2), 'float32'),
      'rewards': ((5, 3, steps), 'float32'),
      'done': ((5, 3, steps), 'bool'),
      'success': ((5, 3, steps), 'bool'),
      'length': ((5, 3), 'int32'),
      'task/goal': ((5, 2), 'float32'),
      'task/can_fail': ((5,), 'bool'),
      'physics/place': ((5, 3, steps + 1, 2), 'float32'),
      'physics/luck': ((5, 3, steps + 1), 'float32'),
      'physics/nothing': ((5, 3, steps + 1, 0), 'float32'),
      'memory': ((5, 3, steps + 1), 'int32'),
      'metrics/success': ((5, 3, steps + 1), 'float32'),
    }
    got = {
      name: (values.shape, values.dtype.name)
      for name, values in episodes.items()
    }
    assert got == expected

  def test_labels_are_what_the_teacher_meant_and_actions_what_was_done(
    self, episodes
  ):
    places = episodes['observations'][:, :, :-1]
    goals = episodes['task/goal'][:, None, None]
    meant = np.clip(3.0 * (goals - places), -1, 1)
    is_on = np.arange(walks.HORIZON) < episodes['length'][..., None]
    np.testing.assert_allclose(
      episodes['labels'][is_on], meant[is_on], atol=1e-6
    )
    noise = (episodes['actions'] - episodes['labels'])[is_on]
    inside = np.abs(episodes['actions'][is_on]) < 1
    assert 0.1 < noise[inside].std() < 0.3
    steps = np.diff(episodes['observations'], axis=2)
    np.testing.assert_allclose(
      steps[is_on], 0.2 * episodes['actions'][is_on], atol=1e-6
    )

  def test_length_tells_where_the_episode_ended(self, episodes):
    for length, done in zip(
      episodes['length'].ravel(),
      episodes['done'].reshape(-1, walks.HORIZON),
      strict=True,
    ):
      ends = np.flatnonzero(done)
      assert length == (ends[0] + 1 if len(ends) else walks.HORIZON)

  def test_rewards_and_successes_belong_to_their_steps(self, episodes):
    ways = episodes['observations'] - episodes['task/goal'][:, None, None]
    distances = np.linalg.norm(ways, axis=-1)[:, :, 1:]
    is_on = np.arange(walks.HORIZON) < episodes['length'][..., None]
    np.testing.assert_allclose(
      episodes['rewards'], np.where(is_on, -distances, 0.0), atol=1e-6
    )
    is_sure = ~episodes['task/can_fail']
    np.testing.assert_array_equal(
      episodes['success'][is_sure], distances[is_sure] < 0.1
    )

  def test_a_recorded_state_goes_on_as_it_did(self, episodes):
    env = walks.walking()
    one = {
      name: values[1] if name.startswith('task/') else values[1, 2]
      for name, values in episodes.items()
    }
    for step in (0, 3):
      state = recorded_state(env, one, jnp.int32(step))
      following = env.step(state, one['actions'][step])
      np.testing.assert_allclose(
        following.observation, one['observations'][step + 1], atol=1e-6
      )
      assert int(following.memory) == step + 1
    del one['physics/luck']
    with pytest.raises(InputError, match='physics/luck'):
      recorded_state(env, one, jnp.int32(0))


class TestTasks:
  def test_splits_have_tasks_of_their_own(self, whole):
    demonstrations = open_demonstrations(whole, ['task/goal'])
    goals = {
      split: demonstrations.load(split)['task/goal']
      for split in demonstrations.splits
    }
    assert {name: len(g) for name, g in goals.items()} == {
      'train': 5,
      'validation': 1,
      'held_out': 2,
    }
    np.testing.assert_array_equal(goals['held_out'], np.float32(0.4))
    drawn = np.concatenate([goals['train'], goals['validation']])
    assert len(np.unique(drawn, axis=0)) == 6

  def test_episodes_do_not_depend_on_how_many_there_are(self, whole, tmp_path):
    wanted = walks.recipe(
      num_tasks=7, num_held_out_tasks=0, episodes_per_shard=5
    )
    walks.collect(tmp_path / 'larger', wanted)
    larger = open_demonstrations(tmp_path / 'larger').load('train')
    for name, values in open_demonstrations(whole).load('train').items():
      np.testing.assert_allclose(larger[name][:5], values, atol=1e-6)

  def test_demonstrations_of_a_task_differ(self, episodes):
    starts = episodes['observations'][:, :, 0].reshape(-1, 2)
    assert len(np.unique(starts, axis=0)) == 15


class TestSuccesses:
  def kept(self, path, **changes):
    wanted = walks.recipe(keep='successes', execution_noise=0.0, **changes)
    parts = walks.collect(path, wanted)
    index = parts[-1].index
    rejected = [
      n
      for shard in index.shards
      if shard.split == 'train'
      for n in shard.rejected
    ]
    return open_demonstrations(path), rejected

  def test_only_successes_are_kept_and_rejections_counted(self, tmp_path):
    demonstrations, rejected = self.kept(tmp_path / 'a')
    episodes = demonstrations.load('train')
    assert episodes['success'].any(axis=-1).all()
    can_fail = np.repeat(episodes['task/can_fail'], 3)
    assert sum(rejected) > 0
    assert all(n == 0 for n in np.asarray(rejected)[~can_fail])
    # Whichever attempts are made at once, the same one is kept.
    others, same = self.kept(tmp_path / 'b', episodes_per_shard=15)
    assert same == rejected
    np.testing.assert_allclose(
      others.load('train')['observations'],
      episodes['observations'],
      atol=1e-6,
    )

  def test_tasks_that_cannot_be_solved_are_left_out(self, tmp_path):
    wanted = walks.recipe(keep='successes', max_attempts=3, execution_noise=0.0)
    env = walks.walking(impossible=True)
    index = walks.collect(tmp_path, wanted, env=env)[-1].index
    given_up = [
      n
      for shard in index.shards
      if shard.split == 'train'
      for n in shard.given_up
    ]
    demonstrations = open_demonstrations(tmp_path)
    numbers = demonstrations.task_numbers('train')
    assert 0 < len(numbers) < 5
    assert {n // 3 for n in given_up} == set(range(5)) - set(numbers)
    assert all(
      shard.rejected[n - shard.first] == 3
      for shard in index.shards
      for n in shard.given_up
    )
    goals = {
      number: chunk['task/goal'][0]
      for number, chunk in zip(
        numbers, demonstrations.chunks('train', 1), strict=True
      )
    }
    everything = open_demonstrations(_all(tmp_path / 'all')).load('train')
    for number, goal in goals.items():
      np.testing.assert_array_equal(goal, everything['task/goal'][number])

  def test_a_family_that_tells_no_success(self, tmp_path):
    env = walks.walking()
    mute = env._replace(
      reset=lambda task, key: env.reset(task, key).replace(metrics={}),
      step=lambda state, action: env.step(state, action).replace(metrics={}),
    )
    with pytest.raises(InputError, match='keep: expected all'):
      walks.collect(tmp_path, walks.recipe(keep='successes'), env=mute)


def _all(path):
  walks.collect(path, walks.recipe(execution_noise=0.0))
  return path


@pytest.mark.physics
def test_pictures_are_those_of_the_camera(tmp_path):
  env = make_environment('reach2d', physics='c')
  teacher = make_teacher('reach2d', env)
  recipe = Recipe(
    'reach2d',
    num_tasks=2,
    demos_per_task=1,
    keep_states=True,
    views=(View(height=12, width=16),),
  )
  list(collect_set(tmp_path, env, teacher, recipe))
  episodes = open_demonstrations(tmp_path).to_device('train')
  frames = episodes['frames/overview']
  assert frames.shape == (2, 1, env.spec.horizon + 1, 12, 16, 3)
  assert frames.dtype == jnp.uint8
  view = camera_view(env, height=12, width=16)

  def draw(task, step):
    one = {
      name: values[task] if name.startswith('task/') else values[task, 0]
      for name, values in episodes.items()
    }
    return view(recorded_state(env, one, step)).rgb

  program = compile_hot(draw, holds_physics=True)
  for task, step in ((0, 0), (1, 7)):
    picture = program(jnp.int32(task), jnp.int32(step))
    difference = np.abs(np.int32(picture) - np.int32(frames[task, 0, step]))
    # Edges may round to the other side in another program.
    assert np.mean(difference > 1) < 0.01
  assert np.asarray(frames).std() > 5


class TestResuming:
  def test_twice_the_same_bytes(self, whole, tmp_path):
    walks.collect(tmp_path / 'again')
    assert walks.contents(tmp_path / 'again') == walks.contents(whole)

  @pytest.mark.parametrize('num_shards', [1, 4])
  def test_a_stopped_collection_goes_on(self, whole, tmp_path, num_shards):
    shards = collect_set(tmp_path, walks.walking(), walks.guide(), walks.RECIPE)
    for _ in range(num_shards):
      next(shards)
    shards.close()
    with pytest.raises(InputError, match='resume its collection'):
      open_demonstrations(tmp_path)
    walks.collect(tmp_path, resume=True)
    assert walks.contents(tmp_path) == walks.contents(whole)
    assert walks.collect(tmp_path, resume=True) == []

  def test_leftovers_are_removed_and_others_are_not(self, whole, tmp_path):
    shards = collect_set(tmp_path, walks.walking(), walks.guide(), walks.RECIPE)
    next(shards)
    shards.close()
    (tmp_path / 'actions' / '00001.npy').write_bytes(b'half')
    (tmp_path / 'labels' / '00001.npy.tmp').write_bytes(b'half')
    (tmp_path / 'index.json.tmp').write_bytes(b'half')
    (tmp_path / 'actions' / 'notes.txt').write_text('mine')
    walks.collect(tmp_path, resume=True)
    files = walks.contents(tmp_path)
    assert files.pop('actions/notes.txt') == b'mine'
    assert files == walks.contents(whole)

  def test_a_folder_that_leads_elsewhere_is_left_alone(self, tmp_path):
    shards = collect_set(
      tmp_path / 'set', walks.walking(), walks.guide(), walks.RECIPE
    )
    next(shards)
    shards.close()
    (tmp_path / 'set' / 'actions').rename(tmp_path / 'elsewhere')
    (tmp_path / 'set' / 'actions').symlink_to(tmp_path / 'elsewhere')
    (tmp_path / 'elsewhere' / '00009.npy').write_bytes(b'mine')
    with pytest.raises(InputError, match='directory of its own'):
      walks.collect(tmp_path / 'set', resume=True)
    assert (tmp_path / 'elsewhere' / '00009.npy').read_bytes() == b'mine'

  @pytest.mark.parametrize(
    ('changes', 'named'),
    [
      ({'seed': 1}, 'seed: expected 0'),
      ({'execution_noise': 0.3}, 'execution_noise: expected 0.2'),
      ({'num_tasks': 6}, 'splits.train: expected 5'),
      ({'demos_per_task': 4}, 'demos_per_task: expected 3'),
      ({'episodes_per_shard': 5}, 'episodes_per_shard: expected 4'),
      ({'keep': 'successes'}, "keep: expected 'all'"),
    ],
  )
  def test_other_settings_are_refused_by_name(self, whole, changes, named):
    with pytest.raises(InputError, match=named) as error:
      walks.collect(whole, walks.recipe(**changes), resume=True)
    assert str(whole) in str(error.value)

  def test_another_teacher_is_refused(self, whole):
    teacher = walks.guide()._replace(name='stranger')
    with pytest.raises(InputError, match="teacher: expected 'guide'"):
      list(
        collect_set(whole, walks.walking(), teacher, walks.RECIPE, resume=True)
      )

  def test_a_used_directory_is_refused(self, whole, tmp_path):
    with pytest.raises(InputError, match='resume'):
      walks.collect(whole)
    (tmp_path / 'thesis.txt').write_text('mine')
    for resume in (False, True):
      with pytest.raises(InputError, match=r'thesis\.txt'):
        walks.collect(tmp_path, resume=resume)

  def test_one_of_two_collectors_wins(self, whole, tmp_path):
    first = collect_set(tmp_path, walks.walking(), walks.guide(), walks.RECIPE)
    next(first)
    with pytest.raises(LockedError, match='locked by process'):
      walks.collect(tmp_path, resume=True)
    list(first)
    assert walks.contents(tmp_path) == walks.contents(whole)

  @pytest.mark.parametrize('on_call', [3, 16, 33])
  def test_a_full_disk(self, whole, tmp_path, monkeypatch, on_call):
    write, calls = durable_files.write_durably, []

    def full(path, content):
      calls.append(path)
      if len(calls) == on_call:
        raise OSError(errno.ENOSPC, 'No space left on device', str(path))
      write(path, content)

    monkeypatch.setattr(durable_files, 'write_durably', full)
    with pytest.raises(StorageError, match='No space left'):
      walks.collect(tmp_path)
    monkeypatch.undo()
    walks.collect(tmp_path, resume=True)
    assert walks.contents(tmp_path) == walks.contents(whole)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'seed': -1}, 'seed'),
    ({'seed': 2**31}, 'seed'),
    (
      {'num_tasks': 0, 'num_validation_tasks': 0, 'num_held_out_tasks': 0},
      'num_tasks',
    ),
    ({'demos_per_task': 0}, 'demos_per_task'),
    ({'execution_noise': float('nan')}, 'execution_noise'),
    ({'keep': 'some'}, 'keep'),
    ({'max_attempts': 0}, 'max_attempts'),
    ({'episodes_per_shard': 0}, 'episodes_per_shard'),
    ({'num_tasks': 2000, 'episodes_per_shard': 4}, 'episodes_per_shard'),
    ({'views': (View(), View())}, 'views'),
    ({'views': (View(camera='../x'),)}, 'camera'),
    ({'views': (View(height=0),)}, 'height'),
    ({'views': (View(),)}, 'camera: expected none'),
  ],
)
def test_recipes_that_cannot_be_used(tmp_path, changes, message):
  with pytest.raises(InputError, match=message):
    walks.collect(tmp_path / 'set', walks.recipe(**changes))
  assert not (tmp_path / 'set').exists()


def test_a_large_set_has_no_more_shards_than_its_index_takes():
  recipe = dataclasses.replace(
    walks.RECIPE, num_tasks=3000, demos_per_task=12, episodes_per_shard=None
  )
  assert recipe.shard_size > 16
  assert -(-36_000 // recipe.shard_size) <= 254


def test_numbers_that_are_not_finite_are_not_written(tmp_path):
  env = walks.walking()
  broken = env._replace(
    reset=lambda task, key: env.reset(task, key).replace(
      observation=jnp.full((2,), jnp.nan)
    )
  )
  with pytest.raises(InputError, match='observations: expected finite'):
    walks.collect(tmp_path, env=broken)
