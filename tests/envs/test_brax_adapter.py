"""Brax's environments under our contract."""

from brax import envs
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.core.validation import InputError
from metajax.envs.brax_adapter import brax_environment
from metajax.testing.environments import check_environment


def with_strength(sys, task):
  gear = task['strength'] * sys.actuator.gear
  return sys.replace(actuator=sys.actuator.replace(gear=gear))


@pytest.fixture(scope='module')
def pendulums():
  return brax_environment(
    'inverted_pendulum',
    20,
    backend='spring',
    sample_task=lambda key: {
      'strength': jax.random.uniform(key, minval=0.5, maxval=2.0)
    },
    apply_task=with_strength,
  )


def test_fast_keeps_the_contract():
  env = brax_environment('fast', 50)
  check_environment(env, num_envs=4, num_steps=10)
  # By hand: v grows by 0.02 a step, x by 0.02 v.
  state = env.reset((), jax.random.key(0))
  for expected in (0.0004, 0.0012):
    state = env.step(state, jnp.ones((1,)))
    np.testing.assert_allclose(state.reward, expected, rtol=1e-5)


@pytest.mark.slow
def test_a_pendulum_with_tasks_keeps_the_contract(pendulums):
  check_environment(pendulums, num_envs=4, num_steps=10)
  assert pendulums.spec.observation_size == 4
  assert pendulums.spec.control_period_s == 0.02


@pytest.mark.slow
def test_tasks_change_the_bodies(pendulums):
  """Twice the gear is twice the action."""
  env = pendulums
  start = jax.jit(env.reset)({'strength': jnp.ones(())}, jax.random.key(0))

  @jax.jit
  def push(strength, action):
    state = start.replace(task={'strength': strength})
    return env.step(env.step(state, action), action).observation

  strong = push(jnp.full((), 2.0), jnp.full((1,), 0.5))
  weak = push(jnp.ones(()), jnp.full((1,), 0.5))
  np.testing.assert_allclose(strong, push(jnp.ones(()), jnp.ones((1,))))
  assert abs(strong[2]) > 1.5 * abs(weak[2])


def test_a_task_may_be_a_reward():
  env = brax_environment(
    envs.get_environment('fast'),
    50,
    sample_task=lambda key: {'goal': jax.random.uniform(key)},
    reward=lambda state, task: -jnp.abs(state.obs[0] - task['goal']),
  )
  state = env.reset({'goal': jnp.float32(0.3)}, jax.random.key(0))
  state = env.step(state, jnp.ones((1,)))
  np.testing.assert_allclose(state.reward, -(0.3 - 0.0004), rtol=1e-5)
  assert env.spec.name == 'brax_fast'


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ({'environment': 'cheetah'}, 'environment: .*halfcheetah'),
    ({'environment': 3}, 'environment: .*brax.envs.Env'),
    ({'environment': envs.create('fast')}, 'environment: .*without wrappers'),
    (
      {'environment': envs.get_environment('fast', obs_mode='dict_state')},
      'environment: .*vector',
    ),
    (
      {'environment': envs.get_environment('fast'), 'backend': 'spring'},
      'backend: ',
    ),
    ({'environment': 'reacher', 'backend': 'warp'}, 'backend: '),
    ({'environment': 'fast', 'apply_task': with_strength}, 'apply_task: '),
    ({'environment': 'fast', 'horizon': 0}, 'horizon: '),
  ],
)
def test_what_does_not_fit_is_named(arguments, message):
  with pytest.raises(InputError, match=message):
    brax_environment(**{'horizon': 50, **arguments})
