"""Checkpoints: what is damaged, torn or foreign is never restored as good."""

import json
import random
import shutil

import jax
import jax.numpy as jnp
import pytest

from metajax.core.errors import StorageError
from metajax.core.validation import InputError
from metajax.run import checkpoints as checkpointing
from metajax.run import manifest as manifests
from metajax.run.checkpoints import (
  BEST,
  LAST,
  Checkpoints,
  load_state,
  restore_best,
  restore_latest,
)
from metajax.run.loop import run
from metajax.run.schedule import Schedule
from tests.run import probes

HASH = 'a' * 64


def make_state(seed, width=1500):
  return {
    'weights': jax.random.normal(jax.random.key(seed), (width,)),
    'nested': [jnp.int32(seed), jnp.full((2, 3), seed, jnp.bfloat16)],
    'key': jax.random.key(seed),
    'keys': jax.random.split(jax.random.key(seed, impl='rbg'), 3),
    'empty': jnp.zeros((0, 2)),
    'flags': jnp.array([True, False]),
  }


def save_steps(workdir, *steps, names=(LAST,), config_hash=HASH):
  with Checkpoints(workdir / 'checkpoints', config_hash) as saved:
    for step in steps:
      saved.save(step, make_state(step), {'best': float(step)}, names)


def like():
  return jax.eval_shape(lambda: make_state(0))


class TestRoundTrip:
  def test_every_kind_of_leaf(self, tmp_path):
    save_steps(tmp_path, 1)
    restored = restore_latest(tmp_path, like(), HASH)
    assert restored.step == 1
    assert restored.progress == {'best': 1.0}
    expected = make_state(1)
    assert probes.raw(restored.state) == probes.raw(expected)
    same = jax.tree.map(
      lambda a, b: a.dtype == b.dtype, restored.state, expected
    )
    assert all(jax.tree.leaves(same))

  def test_a_state_without_numbers(self, tmp_path):
    with Checkpoints(tmp_path / 'checkpoints', HASH) as saved:
      saved.save(1, {'empty': jnp.zeros((0,))}, {})
    state = restore_latest(tmp_path, {'empty': jnp.zeros((0,))}).state
    assert state['empty'].shape == (0,)

  def test_the_last_three_and_the_best_are_kept(self, tmp_path):
    save_steps(tmp_path, 1, 2, 3, 4, 5, names=(BEST, LAST))
    folder = tmp_path / 'checkpoints'
    assert sorted(p.name for p in (folder / LAST).iterdir()) == ['3', '4', '5']
    assert [p.name for p in (folder / BEST).iterdir()] == ['5']
    assert restore_best(tmp_path, like()).progress == {'best': 5.0}

  def test_buffers_may_be_donated_after_save(self, tmp_path):
    overwrite = jax.jit(
      lambda state: state | {'weights': state['weights'] * 0},
      donate_argnums=0,
    )
    with Checkpoints(tmp_path / 'checkpoints', HASH) as saved:
      state = make_state(1)
      saved.save(1, state, {})
      overwrite(state)
    restored = restore_latest(tmp_path, like())
    assert probes.raw(restored.state) == probes.raw(make_state(1))

  def test_a_trained_state_is_loaded(self, tmp_path):
    algorithm = probes.quadratic()
    schedule = Schedule(
      num_steps=30, log_every=10, evaluate_every=10, best_metric='query_loss'
    )
    result = run(algorithm, schedule, workdir=tmp_path, quiet=True)
    state = load_state(tmp_path, algorithm)
    assert probes.raw(state) == probes.raw(result.state)
    load_state(tmp_path, algorithm, 'best')
    manifest = manifests.read(next((tmp_path / 'checkpoints' / BEST).iterdir()))
    losses = [row['eval/query_loss'] for row in result.history]
    assert manifest.progress['best'] == pytest.approx(min(losses))
    with pytest.raises(InputError, match='which'):
      load_state(tmp_path, algorithm, 'first')
    with pytest.raises(InputError, match='got none in'):
      load_state(tmp_path / 'nowhere', algorithm)


class TestDamage:
  def test_200_random_mutations(self, tmp_path, caplog):
    """Flips, truncations and deletions; none may restore wrong numbers."""
    save_steps(tmp_path / 'whole', 1, 2)
    expected = {step: probes.raw(make_state(step)) for step in (1, 2)}
    draw, outcomes = random.Random(0), {1: 0, 2: 0}
    newest = tmp_path / 'hurt' / 'checkpoints' / LAST / '2'
    for _ in range(200):
      shutil.rmtree(tmp_path / 'hurt', ignore_errors=True)
      shutil.copytree(tmp_path / 'whole', tmp_path / 'hurt')
      mutate(draw, newest)
      restored = restore_latest(tmp_path / 'hurt', like(), HASH)
      assert probes.raw(restored.state) == expected[restored.step]
      outcomes[restored.step] += 1
    assert outcomes[1] > 50
    damage = [r for r in caplog.records if 'is damaged' in r.getMessage()]
    assert all(record.levelname == 'ERROR' for record in damage)

  def test_the_damaged_leaf_is_named(self, tmp_path, caplog):
    save_steps(tmp_path, 1, 2)
    newest = tmp_path / 'checkpoints' / LAST / '2'
    payloads = sorted(
      (p for p in newest.rglob('*') if p.is_file()),
      key=lambda path: path.stat().st_size,
    )
    flip(payloads[-1], payloads[-1].stat().st_size // 2)
    assert restore_latest(tmp_path, like(), HASH).step == 1
    assert 'leaf weights' in caplog.text

  def test_a_run_goes_on_from_the_step_before(self, tmp_path):
    algorithm = probes.quadratic()
    schedule = {'log_every': 5, 'checkpoint_every_s': 0}
    whole = run(algorithm, Schedule(num_steps=40, **schedule), quiet=True)
    for num_steps in (10, 20):
      run(
        algorithm,
        Schedule(num_steps=num_steps, **schedule),
        workdir=tmp_path,
        resume=True,
        quiet=True,
      )
    newest = tmp_path / 'checkpoints' / LAST / '20'
    manifest = newest / manifests.FILE_NAME
    flip(manifest, manifest.stat().st_size // 2)
    resumed = run(
      algorithm,
      Schedule(num_steps=40, **schedule),
      workdir=tmp_path,
      resume=True,
      quiet=True,
    )
    assert probes.raw(resumed.state) == probes.raw(whole.state)
    assert [row['step'] for row in resumed.history] == list(range(5, 41, 5))

  def test_none_left_is_an_error(self, tmp_path):
    save_steps(tmp_path, 1, 2)
    for folder in (tmp_path / 'checkpoints' / LAST).iterdir():
      (folder / manifests.FILE_NAME).write_text('{}')
    with pytest.raises(StorageError, match='no intact checkpoint') as caught:
      restore_latest(tmp_path, like(), HASH)
    assert caught.value.exit_code == 5

  def test_no_manifest_no_step(self, tmp_path):
    save_steps(tmp_path, 1, 2)
    (tmp_path / 'checkpoints' / LAST / '2' / manifests.FILE_NAME).unlink()
    assert restore_latest(tmp_path, like(), HASH).step == 1
    with Checkpoints(tmp_path / 'checkpoints', HASH) as saved:
      assert saved.latest_step() == 1
    assert not (tmp_path / 'checkpoints' / LAST / '2').exists()

  def test_a_step_under_another_name(self, tmp_path):
    save_steps(tmp_path, 1, 2)
    last = tmp_path / 'checkpoints' / LAST
    (last / '2').rename(last / '9')
    assert restore_latest(tmp_path, like(), HASH).step == 1


class TestMismatch:
  """Seven ways in which an intact checkpoint may be the wrong one."""

  @pytest.mark.parametrize(
    ('change', 'named'),
    [
      ({'weights': jnp.zeros((7,))}, r'leaf weights: .*\[7\].*\[1500\]'),
      ({'weights': jnp.zeros((1500,), 'bfloat16')}, 'leaf weights: .*bfloat16'),
      ({'bias': jnp.zeros((2,))}, 'leaf bias: .*got none'),
      ({'flags': None}, 'leaf flags: expected none'),
      ({'key': jnp.zeros((2,), 'uint32')}, 'leaf key: .*uint32'),
    ],
  )
  def test_another_state(self, tmp_path, change, named):
    save_steps(tmp_path, 1)
    with pytest.raises(InputError, match=named):
      restore_latest(tmp_path, make_state(1) | change, HASH)

  def test_another_config(self, tmp_path):
    save_steps(tmp_path, 1)
    with pytest.raises(InputError, match='expected the config'):
      restore_latest(tmp_path, like(), 'b' * 64)

  def test_another_format(self, tmp_path):
    save_steps(tmp_path, 1)
    step = tmp_path / 'checkpoints' / LAST / '1'
    manifests.write(step, manifests.read(step)._replace(format_version=0))
    with pytest.raises(InputError, match='format version 1, got 0'):
      restore_latest(tmp_path, like(), HASH)

  def test_another_algorithm(self, tmp_path):
    schedule = Schedule(num_steps=4, log_every=2)
    run(probes.faulty(100), schedule, workdir=tmp_path, quiet=True)
    with pytest.raises(InputError, match='leaf'):
      run(
        probes.quadratic(),
        schedule,
        workdir=tmp_path,
        resume=True,
        quiet=True,
      )


class TestWriting:
  def test_a_deleted_directory(self, tmp_path):
    with Checkpoints(tmp_path / 'checkpoints', HASH) as saved:
      shutil.rmtree(tmp_path / 'checkpoints')
      saved.save(1, make_state(1), {})
      with pytest.raises(StorageError, match='is gone'):
        saved.wait()

  def test_a_full_disk_is_known_beforehand(self, tmp_path, monkeypatch):
    save_steps(tmp_path, 1)
    full = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, 'disk_usage', lambda folder: full)
    with pytest.raises(StorageError, match='bytes needed, 1000 free') as caught:
      save_steps(tmp_path, 2)
    assert caught.value.exit_code == 5
    assert restore_latest(tmp_path, like(), HASH).step == 1

  def test_a_failure_surfaces_and_the_step_before_stays(
    self, tmp_path, monkeypatch
  ):
    save_steps(tmp_path, 1)

    def full(*args):
      raise OSError(28, 'No space left on device')

    monkeypatch.setattr(checkpointing.manifests, 'write', full)
    with pytest.raises(StorageError, match='No space left'):
      save_steps(tmp_path, 2)
    assert restore_latest(tmp_path, like(), HASH).step == 1

  def test_the_manifest_is_json_for_other_tools(self, tmp_path):
    save_steps(tmp_path, 1)
    path = tmp_path / 'checkpoints' / LAST / '1' / manifests.FILE_NAME
    content = json.loads(path.read_text())
    assert content['format_version'] == 1
    assert content['config_hash'] == HASH
    assert 'jax' in content['versions']
    by_path = {leaf['path']: leaf for leaf in content['leaves']}
    assert by_path['weights']['shape'] == [1500]
    assert by_path['weights']['dtype'] == 'float32'
    assert by_path['keys']['key_impl'] == 'rbg'
    assert len(by_path['nested/1']['sha256']) == 64


def mutate(draw, directory):
  files = sorted(path for path in directory.rglob('*') if path.is_file())
  path = draw.choice(files)
  size = path.stat().st_size
  kind = draw.choice(['flip', 'flip', 'truncate', 'delete'])
  if kind == 'delete':
    path.unlink()
  elif kind == 'truncate':
    with open(path, 'r+b') as file:
      file.truncate(int(size * draw.choice([0, 0.5, 0.99])))
  elif size:
    flip(path, draw.randrange(size), draw.randrange(8))


def flip(path, position, bit=0):
  content = bytearray(path.read_bytes())
  content[position] ^= 1 << bit
  path.write_bytes(content)
