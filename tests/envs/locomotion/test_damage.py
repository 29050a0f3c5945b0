"""Dead motors and crippled legs: what fails, when, and what it changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.core.validation import InputError
from metajax.envs.locomotion.bodies import ant_body
from metajax.envs.locomotion.damage import (
  CrippledLegTask,
  DisabledJointTask,
  ant_crippled_leg,
  half_cheetah_disabled_joint,
)
from metajax.envs.physics import field_of
from metajax.testing.environments import check_environment


def drawn(sample, num=200):
  return jax.vmap(sample)(jax.random.split(jax.random.key(0), num))


@pytest.mark.slow
def test_dead_motors_keep_the_contract():
  env = half_cheetah_disabled_joint(40, switch_period=5, physics='c')
  # One period for all tasks: a neighbour's is one's own.
  check_environment(
    env, num_envs=8, num_steps=20, silent_fields=['.switch_period']
  )


@pytest.mark.slow
def test_crippled_legs_keep_the_contract():
  env = ant_crippled_leg(40, switch_time=5, physics='c')
  check_environment(
    env,
    num_envs=8,
    num_steps=20,
    silent_fields=['.switch_time', '.size_factor'],
  )


def test_training_and_held_out_joints_are_apart():
  env = half_cheetah_disabled_joint(physics='c')
  assert env.spec[1:5] == (20, 6, 1000, 0.01)
  train, test = drawn(env.sample_task), drawn(env.sample_test_task)
  assert set(np.ravel(train.joints)) == {1, 2, 3, 4, 5}
  assert set(np.ravel(test.joints)) == {0}
  assert (train.joints == train.joints[:, :1]).all(), 'one joint all the time'

  env = half_cheetah_disabled_joint(switch_period=250, physics='c')
  train, test = drawn(env.sample_task), drawn(env.sample_test_task)
  assert set(np.ravel(train.joints)) == {1, 2, 3, 4, 5}
  for joints in (train.joints, test.joints):
    assert (np.diff(joints, axis=1) != 0).all(), 'each time another one'
  assert (test.joints[:, ::2] == 0).all()


def test_training_and_held_out_legs_are_apart():
  env = ant_crippled_leg(shrink_in_training=False, physics='c')
  assert env.spec[1:5] == (41, 8, 500, 0.02)
  train, test = drawn(env.sample_task), drawn(env.sample_test_task)
  assert set(train.leg.tolist()) == {0, 1, 2}
  assert set(test.leg.tolist()) == {3}
  assert set(train.size_factor.tolist()) == {1.0}
  assert set(test.size_factor.tolist()) == {0.5}


def step_with(env, task, action, num_steps):
  """Returns the states of `num_steps` equal actions."""

  def step(state, _):
    state = env.step(state, action)
    return state, state

  first = env.reset(task, jax.random.key(0))
  return jax.lax.scan(step, first, length=num_steps)[1]


def test_a_dead_motor_is_deaf_and_another_follows():
  """At any time, only the dead joint's action may change without effect."""
  env = half_cheetah_disabled_joint(8, switch_period=2, physics='c')
  task = DisabledJointTask(
    joints=jnp.array([2, 5, 0, 3]), switch_period=jnp.int32(2)
  )
  state = env.reset(task, jax.random.key(0))
  for dead in [2, 2, 5, 5, 0, 0, 3, 3, 3]:
    still = env.step(state, jnp.zeros(6)).physics.qvel
    for joint in range(6):
      moved = env.step(state, jnp.eye(6)[joint]).physics.qvel
      same = bool((moved == still).all())
      assert same == (joint == dead)
    state = env.step(state, jnp.full((6,), 0.3))


def test_the_reward_is_told_by_two_observations():
  env = half_cheetah_disabled_joint(physics='c')
  state = env.reset(env.sample_task(jax.random.key(0)), jax.random.key(1))
  action = jnp.array([2.0, -0.5, 0.25, -3.0, 0.0, 1.0])
  after = env.step(state, action)
  progress = (after.observation[17] - state.observation[17]) / 0.01
  np.testing.assert_allclose(
    after.reward, progress - 0.05 * (1 + 0.25 + 0.0625 + 1 + 1), rtol=1e-5
  )
  # The mean over the step, and the velocity at its end.
  np.testing.assert_allclose(
    progress, after.metrics['forward_velocity_m_per_s'], atol=0.05
  )
  env = ant_crippled_leg(physics='c')
  state = env.reset(env.sample_task(jax.random.key(0)), jax.random.key(1))
  after = env.step(state, jnp.ones(8))
  progress = (after.observation[38] - state.observation[38]) / 0.02
  np.testing.assert_allclose(
    after.reward, progress - 0.005 * 8 + 0.05, rtol=1e-4
  )


def test_a_shrunk_leg_bears_nothing():
  """Without torques the ant leans towards it; a full-sized one holds."""
  env = ant_crippled_leg(physics='c')

  def run(leg, size_factor):
    task = CrippledLegTask(leg, jnp.int32(0), size_factor)
    return step_with(env, task, jnp.zeros(8), 120).observation

  legs = jnp.arange(4)
  run = jax.jit(jax.vmap(run))
  shrunk = run(legs, jnp.full((4,), 0.5))
  whole = run(legs, jnp.ones((4,)))
  # Front left, back left, back right, front right.
  towards = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) / np.sqrt(2)
  for observations, lowest, highest in (
    (shrunk, 0.1, 1.0),
    (whole, -0.03, 0.03),
  ):
    # The third column of the rotation: where the torso's z axis points.
    up = np.asarray(observations[..., 29:38]).reshape(4, 120, 3, 3)[..., 2]
    lean = np.einsum('ltx,lx->lt', up[..., :2], towards).max(axis=1)
    assert (lowest <= lean).all()
    assert (lean <= highest).all()


def test_the_engine_reads_where_a_links_shape_is():
  """Also where the shape alone makes its body's inertia."""
  body = ant_body('c')
  lower = int(body.model.geom('back_right_lower').id)
  places = field_of(body.world, 'geom_pos').at[lower].multiply(0.5)
  state = body.world.reset(body.initial_qpos)
  measured = body.world.measure(state, model_fields={'geom_pos': places})
  knee = measured.xpos[int(body.model.body('back_right_lower').id)]
  np.testing.assert_allclose(
    jnp.linalg.norm(measured.geom_xpos[lower] - knee),
    0.5 * np.hypot(0.2, 0.2),
    rtol=1e-5,
  )


def test_a_crippled_leg_is_whole_before_its_time_and_then_deaf():
  env = ant_crippled_leg(60, switch_time=30, physics='c')
  task = env.sample_test_task(jax.random.key(0))
  late = task.replace(switch_time=jnp.int32(60))
  action = jnp.full((8,), 0.2)
  first, second = (
    step_with(env, t, action, 60).physics.qvel for t in (task, late)
  )
  np.testing.assert_array_equal(first[:30], second[:30])
  assert np.abs(first[30:] - second[30:]).max() > 0.1

  state = env.reset(task, jax.random.key(0))
  for time, is_deaf in ((29, False), (30, True)):
    state = state.replace(memory=jnp.int32(time))
    still, moved = (
      env.step(state, action).physics.qvel
      for action in (jnp.zeros(8), jnp.zeros(8).at[6:].set(1.0))
    )
    assert bool((still == moved).all()) == is_deaf


def test_no_ant_of_these_falls_for_good():
  env = ant_crippled_leg(physics='c')
  state = env.reset(env.sample_task(jax.random.key(0)), jax.random.key(1))
  qpos = state.physics.qpos.at[2].add(1.0)
  state = state.replace(physics=state.physics._replace(qpos=qpos))
  assert not env.step(state, jnp.zeros(8)).done


@pytest.mark.parametrize(
  ('factory', 'arguments'),
  [
    (half_cheetah_disabled_joint, {'horizon': 0}),
    (half_cheetah_disabled_joint, {'switch_period': 0}),
    (ant_crippled_leg, {'switch_time': -1}),
    (ant_crippled_leg, {'switch_time': 500}),
  ],
)
def test_bad_arguments_are_named(factory, arguments):
  with pytest.raises(InputError, match=next(iter(arguments))):
    factory(**arguments)
