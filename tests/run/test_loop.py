"""What `run` promises while nothing goes wrong, and how it resumes."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.core.algorithm import (
  Algorithm,
  evaluation_key,
  init_key,
  step_key,
)
from metajax.core.validation import InputError
from metajax.run.bad_steps import load_bad_step
from metajax.run.errors import (
  MemoryLimitError,
  NonFiniteError,
)
from metajax.run.loop import run
from metajax.run.metrics import read_rows
from metajax.run.schedule import Schedule
from tests.run import probes


def go(algorithm, schedule, **kwargs):
  return run(algorithm, schedule, quiet=True, **kwargs)


class TestResults:
  def test_matches_a_plain_loop(self):
    algorithm, run_key = probes.quadratic(), jax.random.key(3)
    state = algorithm.init(algorithm.data, init_key(run_key))
    step, losses = jax.jit(algorithm.step), []
    for i in range(25):
      state, metrics = step(algorithm.data, state, step_key(run_key, i))
      losses.append(float(metrics['meta/loss']))
    result = go(algorithm, Schedule(num_steps=25, log_every=10), seed=3)
    np.testing.assert_allclose(
      result.state['weights'], state['weights'], rtol=1e-6
    )
    assert [row['step'] for row in result.history] == [10, 20, 25]
    logged = [row['meta/loss'] for row in result.history]
    expected = [np.mean(losses[a:b]) for a, b in ((0, 10), (10, 20), (20, 25))]
    np.testing.assert_allclose(logged, expected, rtol=1e-5)
    evaluated = algorithm.evaluate(
      algorithm.data, state, evaluation_key(run_key)
    )
    np.testing.assert_allclose(
      result.evaluation['query_loss'], evaluated['query_loss'], rtol=1e-4
    )
    row = result.history[-1]
    np.testing.assert_allclose(
      row['eval/query_loss'], np.mean(evaluated['query_loss']), rtol=1e-4
    )
    assert row['time/steps_per_s'] > 0
    assert row['time/elapsed_s'] > 0
    assert result.history[0]['time/compile_s'] > 0

  def test_nothing_is_written_without_a_workdir(self, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    go(probes.quadratic(), Schedule(num_steps=4, log_every=2))
    assert list(tmp_path.iterdir()) == []

  def test_no_steps_evaluate_the_initial_state(self, tmp_path):
    algorithm = probes.quadratic()
    result = go(algorithm, Schedule(num_steps=0), workdir=tmp_path / 'w')
    state = algorithm.init(algorithm.data, init_key(jax.random.key(0)))
    np.testing.assert_array_equal(result.state['weights'], state['weights'])
    assert [row['step'] for row in result.history] == [0]
    assert (tmp_path / 'w' / 'evaluation.json').exists()

  def test_evaluations_come_when_they_are_due(self):
    schedule = Schedule(num_steps=50, log_every=10, evaluate_every=15)
    rows = go(probes.quadratic(), schedule).history
    evaluated = [row['step'] for row in rows if 'eval/query_loss' in row]
    assert evaluated == [20, 30, 50]

  def test_workdir_has_its_layout(self, tmp_path):
    schedule = Schedule(num_steps=20, log_every=10, best_metric='query_loss')
    config = {'experiment': 'probe', 'preset': 'smoke', 'rate': 0.1}
    result = go(
      probes.quadratic(), schedule, seed=5, workdir=tmp_path, config=config
    )
    names = {path.name for path in tmp_path.iterdir()}
    assert names >= {
      'config.json',
      'metrics.jsonl',
      'metrics.csv',
      'evaluation.json',
      'checkpoints',
      'tensorboard',
    }
    evaluation = json.loads((tmp_path / 'evaluation.json').read_text())
    values = result.evaluation['query_loss'].astype(np.float64)
    assert evaluation['experiment'] == 'probe'
    assert evaluation['preset'] == 'smoke'
    assert (evaluation['seed'], evaluation['steps']) == (5, 20)
    measured = evaluation['metrics']['query_loss']
    assert measured['mean'] == pytest.approx(np.mean(values))
    assert measured['ci95'] == pytest.approx(
      1.96 * np.std(values, ddof=1) / np.sqrt(5)
    )
    assert measured['n'] == 5
    stored = json.loads((tmp_path / 'config.json').read_text())
    assert stored['config'] == config
    assert stored['seed'] == 5
    assert {'versions', 'device', 'command', 'config_hash'} <= stored.keys()
    assert read_rows(tmp_path / 'metrics.jsonl') == result.history

  def test_the_data_and_the_twins_survive_donation(self):
    algorithm = probes.quadratic()
    algorithm = algorithm._replace(data=jnp.asarray(algorithm.data))
    go(algorithm, Schedule(num_steps=4, log_every=2))
    np.testing.assert_array_equal(algorithm.data, probes.TARGET)

  def test_state_sharded_over_two_devices(self, tmp_path):
    if jax.device_count() < 2:
      pytest.skip('needs two devices')
    mesh = jax.make_mesh((2,), ('task',))
    sharding = jax.sharding.NamedSharding(mesh, jax.P('task'))

    def init(data, key):
      del data
      table = jax.random.normal(key, (4, 3))
      return {'table': jax.device_put(table, sharding), 'count': jnp.int32(0)}

    def step(data, state, key):
      del data, key
      state = jax.tree.map(lambda leaf: leaf + 1, state)
      return state, {'meta/skipped': jnp.zeros(())}

    def evaluate(data, state, key):
      del data, key
      return {'sum': jnp.sum(state['table'], axis=1)}

    algorithm = Algorithm((), init, step, evaluate)
    whole = go(algorithm, Schedule(num_steps=8, log_every=2))
    go(algorithm, Schedule(num_steps=4, log_every=2), workdir=tmp_path)
    resumed = go(
      algorithm,
      Schedule(num_steps=8, log_every=2),
      workdir=tmp_path,
      resume=True,
    )
    assert probes.raw(resumed.state) == probes.raw(whole.state)
    assert resumed.state['table'].sharding == whole.state['table'].sharding


class TestResume:
  def test_bit_identical_to_the_uninterrupted_run(self, tmp_path):
    algorithm = probes.quadratic()
    schedule = {'log_every': 10, 'evaluate_every': 20, 'checkpoint_every_s': 0}
    schedule |= {'best_metric': 'query_loss'}
    whole = go(
      algorithm, Schedule(num_steps=60, **schedule), workdir=tmp_path / 'a'
    )
    go(algorithm, Schedule(num_steps=40, **schedule), workdir=tmp_path / 'b')
    # As after a crash: rows of steps that were lost, the last of them torn.
    with open(tmp_path / 'b' / 'metrics.jsonl', 'a') as file:
      file.write('{"step": 50, "meta/loss": 1.0}\n{"step": 60, "meta/l')
    resumed = go(
      algorithm,
      Schedule(num_steps=60, **schedule),
      workdir=tmp_path / 'b',
      resume=True,
    )
    assert probes.raw(resumed.state) == probes.raw(whole.state)
    assert probes.without_time(resumed.history) == probes.without_time(
      whole.history
    )
    assert read_rows(tmp_path / 'b' / 'metrics.jsonl') == resumed.history
    elapsed = [row['time/elapsed_s'] for row in resumed.history]
    assert elapsed == sorted(elapsed)
    np.testing.assert_array_equal(
      resumed.evaluation['query_loss'], whole.evaluation['query_loss']
    )

  def test_a_finished_run_is_evaluated_again(self, tmp_path):
    algorithm, schedule = probes.quadratic(), Schedule(num_steps=4, log_every=2)
    first = go(algorithm, schedule, workdir=tmp_path)
    again = go(algorithm, schedule, workdir=tmp_path, resume=True)
    assert probes.raw(again.state) == probes.raw(first.state)
    assert again.history == first.history
    evaluated = go(algorithm, schedule, workdir=tmp_path, eval_only=True)
    assert evaluated.history == first.history
    np.testing.assert_array_equal(
      evaluated.evaluation['query_loss'], first.evaluation['query_loss']
    )

  def test_resuming_a_new_directory_starts_it(self, tmp_path):
    schedule = Schedule(num_steps=4, log_every=2)
    result = go(
      probes.quadratic(), schedule, workdir=tmp_path / 'new', resume=True
    )
    assert result.step == 4

  def test_a_sweep_resumes(self, tmp_path):
    algorithm = probes.columns(probes.faulty(2, 4), probes.faulty(100))
    short = Schedule(num_steps=6, log_every=3)
    long = Schedule(num_steps=12, log_every=3)
    whole = go(algorithm, long)
    go(algorithm, short, workdir=tmp_path)
    resumed = go(algorithm, long, workdir=tmp_path, resume=True)
    assert probes.raw(resumed.state) == probes.raw(whole.state)
    assert resumed.history[0]['meta/skipped'] == [1.0, 0.0]
    assert len(resumed.history[-1]['eval/query_loss']) == 2
    evaluation = json.loads((tmp_path / 'evaluation.json').read_text())
    assert len(evaluation['metrics']['query_loss']['mean']) == 2
    assert evaluation['metrics']['query_loss']['n'] == 3


class TestBadNumbers:
  @pytest.mark.parametrize('log_every', [4, 7, 30])
  def test_a_run_gives_up_and_dumps_the_bad_step(self, tmp_path, log_every):
    algorithm = probes.faulty(bad_from=17)
    schedule = Schedule(
      num_steps=60, log_every=log_every, max_bad_steps=11, checkpoint_every_s=0
    )
    with pytest.raises(NonFiniteError, match='step 27: 11 updates') as caught:
      go(algorithm, schedule, workdir=tmp_path)
    assert caught.value.exit_code == 4
    assert '\n' not in str(caught.value)
    bad = load_bad_step(tmp_path / 'bad_step', algorithm)
    state, metrics = algorithm.step(algorithm.data, bad.state, bad.key)
    assert metrics['meta/skipped'] == 1
    assert int(bad.state['count']) == bad.step
    np.testing.assert_array_equal(
      jax.random.key_data(bad.key),
      jax.random.key_data(step_key(jax.random.key(0), bad.step)),
    )
    clean = go(algorithm, Schedule(num_steps=17, log_every=17))
    assert bad.step >= 17
    np.testing.assert_array_equal(bad.state['weights'], clean.state['weights'])
    last = read_rows(tmp_path / 'metrics.jsonl')[-1]
    assert last['meta/skipped'] == min(log_every, last['step'] - 17)

  def test_the_dump_starts_at_the_first_of_them(self, tmp_path):
    schedule = Schedule(num_steps=60, log_every=5, max_bad_steps=11)
    with pytest.raises(NonFiniteError, match='last checkpoint: none'):
      go(probes.faulty(bad_from=17), schedule, workdir=tmp_path)
    bad = load_bad_step(tmp_path / 'bad_step', probes.faulty(17))
    assert bad.step == 17

  def test_fewer_than_the_limit_are_skipped(self):
    schedule = Schedule(num_steps=40, log_every=4, max_bad_steps=11)
    result = go(probes.faulty(bad_from=9, bad_until=19), schedule)
    skipped = [row['meta/skipped'] for row in result.history]
    assert skipped == [0, 0, 3, 4, 3, 0, 0, 0, 0, 0]
    losses = [row['meta/loss'] for row in result.history]
    # A chunk with one good step reports it; one with none reports nothing.
    assert [loss is None for loss in losses] == [i == 3 for i in range(10)]

  def test_one_bad_column_is_enough(self):
    algorithm = probes.columns(probes.faulty(100), probes.faulty(5))
    schedule = Schedule(num_steps=40, log_every=4, max_bad_steps=3)
    with pytest.raises(NonFiniteError, match='step 7'):
      go(algorithm, schedule)

  def test_the_count_survives_a_resume(self, tmp_path):
    algorithm = probes.faulty(bad_from=5)
    go(algorithm, Schedule(num_steps=10, log_every=5), workdir=tmp_path)
    with pytest.raises(NonFiniteError, match='step 14'):
      go(
        algorithm,
        Schedule(num_steps=40, log_every=5),
        workdir=tmp_path,
        resume=True,
      )

  def test_a_dump_of_another_state_is_refused(self, tmp_path):
    schedule = Schedule(num_steps=20, log_every=5, max_bad_steps=2)
    with pytest.raises(NonFiniteError):
      go(probes.faulty(bad_from=3), schedule, workdir=tmp_path)
    with pytest.raises(InputError, match='leaf'):
      load_bad_step(tmp_path / 'bad_step', probes.quadratic())
    with pytest.raises(InputError, match='cannot read'):
      load_bad_step(tmp_path / 'nothing', probes.quadratic())
    (tmp_path / 'bad_step' / 'state.npz').write_bytes(b'not an archive')
    with pytest.raises(InputError, match='cannot read'):
      load_bad_step(tmp_path / 'bad_step', probes.faulty(3))


class TestInput:
  @pytest.mark.parametrize(
    ('fields', 'named'),
    [
      ({'num_steps': -1}, 'num_steps'),
      ({'num_steps': 1.5}, 'num_steps'),
      ({'num_steps': 1, 'log_every': 0}, 'log_every'),
      ({'num_steps': 1, 'evaluate_every': -1}, 'evaluate_every'),
      ({'num_steps': 1, 'checkpoint_every_s': -1.0}, 'checkpoint_every_s'),
      (
        {'num_steps': 1, 'checkpoint_every_s': float('nan')},
        'checkpoint_every_s',
      ),
      ({'num_steps': 1, 'best_mode': 'most'}, 'best_mode'),
      ({'num_steps': 1, 'max_bad_steps': 0}, 'max_bad_steps'),
    ],
  )
  def test_a_schedule_out_of_range(self, fields, named):
    with pytest.raises(InputError, match=f'^{named}: expected'):
      Schedule(**fields)

  def test_other_arguments(self, tmp_path):
    algorithm, schedule = probes.quadratic(), Schedule(num_steps=2, log_every=2)
    with pytest.raises(InputError, match='^seed'):
      go(algorithm, schedule, seed=-1)
    with pytest.raises(InputError, match='^workdir'):
      go(algorithm, schedule, resume=True)
    with pytest.raises(InputError, match='^workdir'):
      go(algorithm, schedule, workdir=tmp_path / 'none', eval_only=True)
    with pytest.raises(InputError, match='^config'):
      go(algorithm, schedule, workdir=tmp_path / 'a', config={'x': object()})
    with pytest.raises(InputError, match='^best_metric'):
      go(algorithm, Schedule(num_steps=2, best_metric='accuracy'))

  def test_a_step_that_changes_its_state(self):
    algorithm = probes.quadratic()

    def step(data, state, key):
      state, metrics = algorithm.step(data, state, key)
      return state | {'weights': state['weights'].astype('bfloat16')}, metrics

    with pytest.raises(InputError, match='algorithm.step: leaf weights'):
      go(algorithm._replace(step=step), Schedule(num_steps=2))

  def test_a_step_that_does_not_say_what_it_skipped(self):
    algorithm = probes.quadratic()

    def step(data, state, key):
      return algorithm.step(data, state, key)[0], {}

    with pytest.raises(InputError, match='meta/skipped'):
      go(algorithm._replace(step=step), Schedule(num_steps=2))

  def test_an_evaluation_without_tasks(self):
    algorithm = probes.quadratic()

    def evaluate(data, state, key):
      return {'loss': jnp.zeros(())}

    with pytest.raises(InputError, match='num_tasks'):
      go(algorithm._replace(evaluate=evaluate), Schedule(num_steps=2))


def test_exhausted_memory_is_named():
  algorithm = probes.quadratic()

  def init(data, key):
    raise jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: 9 GiB wanted')

  with pytest.raises(MemoryLimitError, match='fewer tasks') as caught:
    go(algorithm._replace(init=init), Schedule(num_steps=2))
  assert caught.value.exit_code == 6
