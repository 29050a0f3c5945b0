"""Reaching: three targets, one of which counts."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.core.compilation import compile_hot
from metajax.core.validation import InputError
from metajax.envs.environment import EnvSpec
from metajax.envs.torque_arms.reacher import (
  reacher,
  sample_colours,
  sample_places,
)
from metajax.testing.environments import check_environment

COLOURS = ('.appearance.geom_rgba', '.appearance.texture_seeds')


@pytest.fixture(scope='module')
def env():
  return reacher(physics='c')


@pytest.fixture(scope='module')
def state(env):
  return env.reset(env.sample_task(jax.random.key(0)), jax.random.key(1))


def test_keeps_the_contract(env):
  check_environment(env, num_envs=8, silent_fields=COLOURS)


def test_sizes(env, state):
  assert env.spec == EnvSpec('reacher', 16, 2, 50, 0.05)
  assert reacher(observe_targets=False, physics='c').spec.observation_size == 10
  np.testing.assert_array_equal(
    state.observation[10:].reshape(3, 2), state.physics.mocap_pos[:, :2]
  )


def test_the_tip_is_where_two_links_put_it(env, state):
  """Position and velocity of a planar arm, in closed form."""
  angles, rates = jnp.array([0.4, -1.1]), jnp.array([0.7, 1.3])
  physics = state.physics._replace(qpos=angles, qvel=rates)
  after = compile_hot(env.step)(
    state.replace(physics=physics), jnp.array([0.3, -0.2])
  )
  q, dq = np.cumsum(after.observation[:2]), np.cumsum(after.observation[2:4])
  place = 0.22 * np.array([np.cos(q).sum(), np.sin(q).sum(), 0])
  velocity = 0.22 * np.array([-np.sin(q) @ dq, np.cos(q) @ dq, 0])
  np.testing.assert_allclose(after.observation[4:7], place, atol=1e-6)
  np.testing.assert_allclose(after.observation[7:10], velocity, atol=1e-5)


@pytest.mark.parametrize('slot', [0, 1, 2])
@pytest.mark.parametrize('time', [30, 39, 40, 49])
def test_success_needs_the_target_and_the_last_ten_steps(
  env, state, slot, time
):
  target = jnp.array([0.44, 0.04, -0.02])
  elsewhere = jnp.full((3, 3), -0.1)
  physics = state.physics._replace(
    qpos=jnp.zeros((2,)),
    qvel=jnp.zeros((2,)),
    mocap_pos=elsewhere.at[1].set(target),
  )
  state = state.replace(
    task=state.task.replace(target_slot=jnp.array(slot, jnp.int32)),
    physics=physics,
    memory=jnp.array(time, jnp.int32),
  )
  action = jnp.array([0.0, 0.1])
  after = compile_hot(env.step)(state, action)
  is_late = time >= 40
  assert after.metrics['success'] == float(slot == 1 and is_late)
  if slot == 1:
    distance = np.linalg.norm(after.observation[4:6] - target[:2])
    np.testing.assert_allclose(after.reward, -distance - 0.001, rtol=1e-4)


def test_targets_lie_apart_and_in_the_arena():
  places = jax.vmap(sample_places)(jax.random.split(jax.random.key(0), 1000))
  low, high = places.min(axis=(0, 1)), places.max(axis=(0, 1))
  np.testing.assert_allclose(low, [-0.3, -0.1], atol=0.01)
  np.testing.assert_allclose(high, [0.1, 0.3], atol=0.01)
  for i, j in ((0, 1), (0, 2), (1, 2)):
    gaps = jnp.linalg.norm(places[:, i] - places[:, j], axis=-1)
    assert gaps.min() >= 0.15 * 0.4 - 1e-6


def test_held_out_colours_have_hues_of_their_own():
  for hues in ((0.0, 0.65), (0.7, 0.95)):
    draw = jax.jit(jax.vmap(lambda key, hues=hues: sample_colours(key, hues)))
    colours = np.asarray(draw(jax.random.split(jax.random.key(0), 200)))
    found = [colorsys.rgb_to_hsv(*rgb)[0] for rgb in colours.reshape(-1, 3)]
    assert hues[0] <= min(found) < max(found) <= hues[1]
    for i, j in ((0, 1), (0, 2), (1, 2)):
      gaps = np.linalg.norm(colours[:, i] - colours[:, j], axis=-1)
      assert gaps.min() >= 0.35


def test_a_horizon_is_a_count():
  with pytest.raises(InputError, match='horizon: expected'):
    reacher(0, physics='c')
