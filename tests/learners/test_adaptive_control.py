"""A controller that learns which way its motor is wired while it acts."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.core.validation import InputError
from metajax.envs.environment import Env, EnvSpec, first_state
from metajax.envs.navigation import navigation
from metajax.learners.adaptive_control import (
  adaptive_control,
  fit,
  rollout_errors,
  run_controller,
)
from metajax.learners.adaptive_control_config import AdaptiveControlConfig
from metajax.learners.control_baselines import model_free_control, oracles
from metajax.learners.dynamics import gradient_dynamics
from metajax.learners.dynamics_baselines import fixed_dynamics
from metajax.testing.algorithms import check_algorithm

HORIZON = 40
CONFIG = AdaptiveControlConfig(
  inner_lr=0.3,
  past=8,
  future=8,
  recurrent_future=8,
  num_epochs=30,
  hidden_sizes=(32,),
  horizon=HORIZON,
  num_rollouts=32,
  max_rollouts=96,
  num_sequences=32,
  plan_horizon=3,
  num_test_sequences=32,
  test_plan_horizon=3,
  num_test_tasks=16,
)


def flipped_motor(sign: float | None = None) -> Env:
  """A cart on a line: one motor, wired one way or the other.

  `x' = x + 0.1 gain a`; its reward is the way that it comes forward. The
  observation is where it is, which does not matter, and how far it moved.
  """
  spec = EnvSpec('flipped_motor', 2, 1, HORIZON, 0.1, invariant=(0,))

  def sample_task(key):
    drawn = jnp.where(jax.random.bernoulli(key), 1.0, -1.0)
    return drawn if sign is None else jnp.float32(sign)

  def reset(task, key):
    where = jax.random.normal(key, ())
    return first_state(task, where, jnp.stack([where, jnp.zeros(())]))

  def reward(obs_tm1, action, obs_t):
    del action
    return obs_t[0] - obs_tm1[0]

  def step(state, action):
    moved = 0.1 * state.task * jnp.clip(action[0], -1.0, 1.0)
    where = state.physics + moved
    observation = jnp.stack([where, moved])
    return dataclasses.replace(
      state,
      physics=where,
      observation=observation,
      reward=reward(state.observation, action, observation),
    )

  return Env(spec, sample_task, reset, step, observed_reward=reward)


def model_of(make=gradient_dynamics, **settings):
  return make(2, 1, hidden_sizes=(32,), invariant=(0,), **settings)


def gbac():
  return model_of(inner_lr=CONFIG.inner_lr, window=CONFIG.past)


CONDITIONS = {
  'as is': flipped_motor(1.0).sample_task,
  'flipped': flipped_motor(-1.0).sample_task,
}


@pytest.fixture(scope='module')
def trained():
  """GBAC and MB after three iterations, with what they were tested to."""
  found = {}
  for name, model in (('gbac', gbac()), ('mb', model_of(fixed_dynamics))):
    algorithm = adaptive_control(flipped_motor(), model, CONFIG, CONDITIONS)
    key = jax.random.key(0)
    state = algorithm.init((), key)
    step = jax.jit(algorithm.step)
    history = []
    for i in range(3):
      state, metrics = step((), state, jax.random.fold_in(key, i))
      history.append(metrics)
    told = jax.jit(algorithm.evaluate)((), state, jax.random.key(1))
    found[name] = state, history, told
  return found


def test_it_keeps_the_contract_of_an_algorithm():
  small = CONFIG.replace(num_rollouts=4, max_rollouts=8, num_epochs=2)
  one = {'as is': CONDITIONS['as is']}
  check_algorithm(
    adaptive_control(flipped_motor(), gbac(), small, one), compare_eager=False
  )


@pytest.mark.slow
def test_a_bound_on_the_outer_gradient_acts_only_where_it_is_exceeded():
  small = CONFIG.replace(
    num_rollouts=4, max_rollouts=8, num_epochs=1, num_sequences=2
  )

  @jax.jit
  def trained_with(bound):
    config = small.replace(max_gradient_norm=bound)
    algorithm = adaptive_control(flipped_motor(), gbac(), config, CONDITIONS)
    state = algorithm.init((), jax.random.key(0))
    state, _ = algorithm.step((), state, jax.random.key(1))
    return state.params['model']

  loose, looser, tight = map(trained_with, (1e6, 1e7, 1e-6))
  chosen = jax.tree.leaves(jax.tree.map(jnp.array_equal, loose, looser))
  assert all(chosen)
  moved = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), loose, tight)
  assert min(jax.tree.leaves(moved)) > 1e-5


@pytest.mark.slow
def test_it_learns_which_way_the_motor_is_wired(trained):
  # Which way is known after a window; random plans are not the best ones.
  best = 0.1 * (HORIZON - CONFIG.past)
  worst = {
    name: min(told[f'return/{condition}'].mean() for condition in CONDITIONS)
    for name, (_, _, told) in trained.items()
  }
  assert worst['gbac'] > 0.35 * best
  assert worst['mb'] < 0.1 * best, 'one model cannot serve both'


@pytest.mark.slow
def test_adapting_lowers_the_error_of_a_model_that_can(trained):
  for name in CONDITIONS:
    told = trained['gbac'][2]
    before = told[f'error/{name}/unadapted'].mean()
    assert told[f'error/{name}/adapted'].mean() < 0.7 * before
    assert told[f'error/{name}/log_ratio'].mean() < jnp.log(0.7)
    told = trained['mb'][2]
    np.testing.assert_allclose(
      told[f'error/{name}/adapted'], told[f'error/{name}/unadapted']
    )


@pytest.mark.slow
def test_the_first_iteration_acts_at_random_and_later_ones_plan(trained):
  _, history, _ = trained['gbac']
  returns = [float(metrics['return']) for metrics in history]
  assert abs(returns[0]) < 0.5
  assert min(returns[1:]) > returns[0] + 0.5


@pytest.mark.slow
def test_data_are_added_and_the_oldest_give_way(trained):
  state, _, _ = trained['gbac']
  assert int(state.rollouts.num_rollouts) == 96
  algorithm = adaptive_control(flipped_motor(), gbac(), CONFIG, CONDITIONS)
  later, _ = jax.jit(algorithm.step)((), state, jax.random.key(9))
  assert int(later.rollouts.num_rollouts) == 128
  old, new = state.rollouts.observations, later.rollouts.observations
  assert not np.array_equal(old[:32], new[:32])
  np.testing.assert_array_equal(old[32:], new[32:])


@pytest.mark.slow
def test_rollouts_in_chunks_are_the_same_rollouts(trained):
  params = trained['gbac'][0].params

  def run(chunk_size):
    keys = jax.random.split(jax.random.key(1), 6)
    return run_controller(
      flipped_motor(),
      gbac(),
      params,
      CONFIG.planning,
      jnp.array([1.0, -1.0, 1.0, -1.0, 1.0, -1.0]),
      keys,
      chunk_size=chunk_size,
    )

  whole, chunked = jax.jit(run, static_argnums=0)(None), run(2)
  np.testing.assert_allclose(whole.actions, chunked.actions, atol=1e-5)


@pytest.mark.slow
def test_errors_are_told_of_every_window(trained):
  params = trained['gbac'][0].params
  rollouts = run_controller(
    flipped_motor(),
    gbac(),
    params,
    CONFIG.planning,
    jnp.ones((3,)),
    jax.random.split(jax.random.key(1), 3),
    explores=True,
  )
  errors = rollout_errors(gbac(), params, CONFIG, rollouts)
  assert errors['adapted'].shape == (3, (HORIZON - 1 - 8) // 8)
  assert np.isfinite(errors['adapted']).all()


@pytest.mark.slow
def test_windows_past_an_early_end_have_no_error(trained):
  """The second window reaches to row 24, the third to row 32."""
  params = trained['gbac'][0].params
  rows = jnp.arange(HORIZON)
  ended = run_controller(
    flipped_motor(),
    gbac(),
    params,
    CONFIG.planning,
    jnp.ones((1,)),
    jax.random.split(jax.random.key(1), 1),
    explores=True,
  )._replace(valid=(rows < 26)[None])
  errors = rollout_errors(gbac(), params, CONFIG, ended)
  for values in errors.values():
    np.testing.assert_array_equal(np.isfinite(values), [[True, True, False]])


def test_training_ends_when_validation_no_longer_improves():
  """A learner that cannot improve stops long before its last epoch."""
  from metajax.core.algorithm import SKIPPED, Algorithm
  from metajax.core.meta_training import MetaTrainState
  from metajax.learners.aggregated_rollouts import no_rollouts

  def step(data, state, key):
    worse = state.replace(params=state.params + 1.0)
    return worse, {'meta/loss': worse.params, SKIPPED: jnp.zeros(())}

  def evaluate(data, state, key):
    return {'query_loss': jnp.full((2,), state.params)}

  rising = Algorithm((), lambda data, key: None, step, evaluate)
  state = MetaTrainState(params=jnp.float32(1.0), optimizer_state=())
  _, metrics = fit(
    rising,
    CONFIG.fitting._replace(num_epochs=500),
    no_rollouts(4, HORIZON, 2, 1),
    state,
    jax.random.key(0),
  )
  assert 2 <= metrics['meta/epochs'] < 50


@pytest.mark.slow
def test_the_model_free_policy_learns_what_needs_no_adaptation():
  env = flipped_motor(1.0)
  algorithm = model_free_control(
    env, CONFIG, {'as is': env.sample_task}, num_updates=8
  )
  key = jax.random.key(0)
  state = algorithm.init(algorithm.data, key)
  evaluate = jax.jit(algorithm.evaluate)
  before = evaluate((), state, key)['return/as is'].mean()
  step = jax.jit(algorithm.step)
  for i in range(3):
    state, _ = step((), state, jax.random.fold_in(key, i))
  assert evaluate((), state, key)['return/as is'].mean() > before + 1


@pytest.mark.slow
def test_every_condition_has_an_oracle_of_its_own():
  small = CONFIG.replace(num_rollouts=16, max_rollouts=64)

  def make(env, only):
    return adaptive_control(env, model_of(fixed_dynamics), small, only)

  algorithm = oracles(make, flipped_motor(), CONDITIONS)
  key = jax.random.key(0)
  state = algorithm.init(algorithm.data, key)
  step = jax.jit(algorithm.step)
  for i in range(2):
    state, metrics = step(algorithm.data, state, jax.random.fold_in(key, i))
  told = jax.jit(algorithm.evaluate)(algorithm.data, state, jax.random.key(1))
  assert state.iteration.shape == (len(CONDITIONS),)
  assert np.isfinite(metrics['return'])
  for name in CONDITIONS:
    assert told[f'return/{name}'].mean() > 0.06 * HORIZON


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'inner_lr': -1.0}, 'inner_lr: expected'),
    ({'evaluated_inner_lr': 0.0}, 'evaluated_inner_lr: expected'),
    ({'max_gradient_norm': 0.0}, 'max_gradient_norm: expected'),
    ({'past': 0}, 'past: expected'),
    ({'horizon': 16}, 'horizon: expected more steps than past'),
    ({'recurrent_future': 32}, r'horizon: .*past \+ recurrent_future = 40'),
    ({'num_rollouts': 1}, 'num_rollouts: expected >= 2'),
    ({'max_rollouts': 8}, 'max_rollouts: expected at least num_rollouts'),
    ({'planner': 'guess'}, 'planner: expected one of'),
    ({'num_elites': 33, 'planner': 'cross_entropy'}, 'num_elites: expected'),
  ],
)
def test_settings_out_of_range_are_named(change, message):
  with pytest.raises(InputError, match=message):
    adaptive_control(flipped_motor(), gbac(), CONFIG.replace(**change), {})


def test_an_environment_must_tell_its_reward():
  with pytest.raises(InputError, match='env: .*reward of observations.*navig'):
    adaptive_control(navigation(), gbac(), CONFIG, {})
