"""The half-cheetah on a pier: its blocks are springs with their own damping."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.core.validation import InputError
from metajax.envs.environment import held_out
from metajax.envs.locomotion.pier import (
  TEST_DAMPING,
  PierTask,
  half_cheetah_pier,
)
from metajax.testing.environments import check_environment


@pytest.mark.slow
def test_the_pier_keeps_the_contract():
  env = half_cheetah_pier(physics='c')
  assert env.spec[1:5] == (20, 6, 1000, 0.01)
  check_environment(env, num_envs=8, num_steps=20)


def test_the_blocks_are_the_published_ones():
  model = half_cheetah_pier(physics='c').model
  np.testing.assert_allclose(model.body_mass.sum(), 14.0, rtol=1e-6)
  blocks = model.body_mass[8:]
  np.testing.assert_allclose(
    blocks / model.body_mass[1:8].sum(), 10 / 21.1838, rtol=1e-4
  )
  np.testing.assert_array_equal(
    model.body_pos[8:, 0], [-8, 0, 4, 8, 12, 16, 20, 42]
  )
  sizes = model.geom_size[-8:]
  np.testing.assert_array_equal(sizes[:, 0], [6, 2, 2, 2, 2, 2, 2, 20])
  np.testing.assert_allclose(
    sizes[:, 1:], np.broadcast_to([0.99, 0.05], (8, 2))
  )
  np.testing.assert_array_equal(model.jnt_stiffness[9:], 150)
  np.testing.assert_allclose(
    model.jnt_range[9:], np.broadcast_to([-0.15, 0.15], (8, 2))
  )


def drop(damping, num_steps=40):
  """Returns the blocks' heights [num_steps, 8] while the robot lies still."""
  env = half_cheetah_pier(physics='c')
  state = env.reset(
    PierTask(damping=jnp.asarray(damping, jnp.float32)), jax.random.key(0)
  )

  def step(state, _):
    state = env.step(state, jnp.zeros(6))
    return state, (state.physics.qpos[9:], state.observation)

  return jax.lax.scan(step, state, length=num_steps)[1]


def test_a_free_block_sinks_by_its_own_damping():
  """`(m + h c) v' = m v - h (m g + k z)`, `z' = z + h v'`: by hand."""
  damping = np.array([0.0, 5.0, 2.0, 10.0, 4.0, 6.0, 8.0, 1.0])
  heights, _ = drop(damping)
  mass, step = 1.383622, 0.01
  z, v = np.zeros(8), np.zeros(8)
  for row in heights:
    v = (mass * v - step * (mass * 9.81 + 150 * z)) / (mass + step * damping)
    z = z + step * v
    # Those beside the robot's (it stands on number 1), before their stops.
    free = (np.arange(8) != 1) & (z > -0.14)
    np.testing.assert_allclose(row[free], z[free], atol=2e-4)
    if not free[[0, 2, 3, 4, 5, 6, 7]].all():
      break
  assert (z < -0.05).all()


def test_the_robot_rides_on_its_block_which_it_is_not_told():
  heights, observations = drop(TEST_DAMPING, num_steps=200)
  under, beside = heights[:, 1], heights[:, 2]
  assert under.min() < beside.min() - 0.01, 'it sinks under the weight'
  # It is carried: neither through the block nor in the air.
  torso = observations[-1, 0] + 0.7
  assert 0.05 < torso - under[-1] < 0.8
  assert observations.shape == (200, 20)


def test_dampings_are_drawn_from_their_distribution():
  env = half_cheetah_pier(physics='c')
  keys = jax.random.split(jax.random.key(0), 500)
  damping = jax.vmap(env.sample_task)(keys).damping
  assert damping.min() >= 0
  assert damping.max() <= 10
  np.testing.assert_allclose(damping.mean(axis=0), 5.0, atol=0.6)
  keys = jax.random.split(jax.random.key(1), 500)
  tests = jax.vmap(held_out(env).sample_task)(keys).damping
  np.testing.assert_allclose(
    tests, np.broadcast_to(TEST_DAMPING, (500, 8)), rtol=1e-6
  )


def test_bad_arguments_are_named():
  with pytest.raises(InputError, match='horizon'):
    half_cheetah_pier(0)
