"""The arm under forces: what pulls, and where to."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from metajax.core.compilation import compile_hot
from metajax.core.validation import InputError
from metajax.envs.environment import EnvSpec
from metajax.envs.torque_arms.arm_forces import arm_forces
from metajax.testing.environments import check_environment


@pytest.mark.parametrize(
  'settings',
  [{}, {'redraw_pulls': True, 'random_goals': True, 'reward': 'neg_distance'}],
)
def test_keeps_the_contract(settings):
  check_environment(arm_forces(physics='c', **settings), num_envs=8)


def test_sizes_and_first_observation():
  env = arm_forces(physics='c')
  assert env.spec == EnvSpec('arm_forces', 23, 7, 500, 0.02)
  state = env.reset(env.sample_task(jax.random.key(0)), jax.random.key(1))
  np.testing.assert_allclose(state.observation[:7], 0.5)
  np.testing.assert_allclose(state.observation[7:10], [0.3, 0.15, 0.0])
  np.testing.assert_allclose(state.observation[10:20], 0.0)
  np.testing.assert_allclose(
    state.metrics['goal_distance_m'],
    np.linalg.norm(state.observation[20:]),
    rtol=1e-6,
  )


def test_the_box_is_pulled_as_gravity_would_pull_it():
  """One step from rest equals C MuJoCo under the generalised force J^T f."""
  env = arm_forces(physics='c')
  pull = 1.5
  task = env.sample_task(jax.random.key(0))
  task = task.replace(pulls=jnp.full_like(task.pulls, pull))
  state = env.reset(task, jax.random.key(1))
  after = compile_hot(env.step)(state, jnp.zeros((7,)))
  model, data = env.model, mujoco.MjData(env.model)
  data.qpos[:] = 0.5
  mujoco.mj_forward(model, data)
  jacobian = np.zeros((3, model.nv))
  site = model.site('tip').id
  mujoco.mj_jacSite(model, data, jacobian, None, site)
  assert model.body('held').mass[0] == pytest.approx(0.5)
  data.qfrc_applied[:] = jacobian.T @ [0, 0, -0.5 * pull]
  mujoco.mj_step(model, data)
  np.testing.assert_allclose(after.physics.qvel, data.qvel, atol=1e-5)
  assert np.abs(data.qvel).max() > 1e-3


def test_pulls_change_every_fifty_steps():
  env = arm_forces(physics='c', redraw_pulls=True)
  task = env.sample_task(jax.random.key(0))
  assert task.pulls.shape == (10,)
  assert len(np.unique(task.pulls)) == 10
  state = env.reset(task, jax.random.key(1))
  later = task.replace(pulls=task.pulls.at[1].set(6.0))

  def run(task):
    def step(state, _):
      state = env.step(state, jnp.zeros((7,)))
      return state, state.observation

    return jax.lax.scan(step, state.replace(task=task), length=51)[1]

  both = jax.tree.map(lambda *x: jnp.stack(x), task, later)
  one, other = compile_hot(jax.vmap(run))(both)
  np.testing.assert_array_equal(one[:50], other[:50])
  assert np.abs(one[50] - other[50]).max() > 1e-3


def test_held_out_pulls_are_three_times_the_strongest():
  env = arm_forces((0.5, 1.0), physics='c')
  keys = jax.random.split(jax.random.key(0), 100)
  pulls = jax.vmap(env.sample_task)(keys).pulls
  assert 0.5 <= pulls.min() < pulls.max() <= 1.0
  assert (pulls == pulls[:, :1]).all()
  np.testing.assert_allclose(env.sample_test_task(jax.random.key(1)).pulls, 3.0)


def test_random_goals_are_in_reach():
  env = arm_forces(random_goals=True, physics='c')
  keys = jax.random.split(jax.random.key(0), 500)
  goals = jax.vmap(env.sample_task)(keys).goal
  shoulder = np.array([0, -0.6, 0])
  assert np.linalg.norm(goals - shoulder, axis=-1).max() < 0.901
  assert (goals >= np.array([-0.1, -0.4, -0.5])).all()
  assert (goals <= np.array([0.4, 0.2, 0.5])).all()


@pytest.mark.parametrize('reward', ['neg_squared_distance', 'neg_distance'])
def test_rewards_by_hand(reward):
  env = arm_forces(reward=reward, physics='c')
  state = env.reset(env.sample_task(jax.random.key(0)), jax.random.key(1))
  after = compile_hot(env.step)(state, jnp.full((7,), 3.0))
  distance = np.linalg.norm(after.observation[20:])
  expected = (
    -(distance**2)
    if reward == 'neg_squared_distance'
    else -distance - 0.005 * 7
  )
  np.testing.assert_allclose(after.reward, expected, rtol=1e-5)


@pytest.mark.parametrize('pull_range', [(2.0, 1.0), (-1.0, 1.0)])
def test_ranges_of_pulls_are_checked(pull_range):
  with pytest.raises(InputError, match='pull_range: expected'):
    arm_forces(pull_range, physics='c')
