"""The hand in space: the contract, the goals, the reward."""

import jax
import jax.numpy as jnp
import numpy as np

from metajax.envs.environment import held_out
from metajax.envs.reach3d import reach3d
from metajax.testing.environments import check_environment


def test_the_contract_holds():
  check_environment(reach3d(physics='c'), num_envs=8, num_steps=20)


def test_held_out_goals_are_others():
  env = reach3d(physics='c')
  train, test = (
    np.unique(
      np.asarray(
        jax.vmap(e.sample_task)(jax.random.split(jax.random.key(0), 400)).goal
      ),
      axis=0,
    )
    for e in (env, held_out(env))
  )
  assert (len(train), len(test)) == (40, 10)
  assert np.linalg.norm(train[:, None] - test[None], axis=-1).min() > 0.02
  assert np.abs(train).max() <= 0.15


def test_a_step_by_hand():
  env = reach3d(physics='c')
  task = env.sample_task(jax.random.key(1))
  state = env.reset(task, jax.random.key(2))
  start = state.physics.qpos
  assert 0.05 <= jnp.linalg.norm(start - task.goal) <= 0.1
  after = env.step(state, jnp.asarray([1.0, 0.0, -0.5]))
  moved = 0.01 * sum(1 - 0.8**k for k in range(1, 21))
  np.testing.assert_allclose(
    after.physics.qpos - start, [0.1 * moved, 0, -0.05 * moved], atol=1e-4
  )
  np.testing.assert_allclose(after.observation[:3], after.physics.qpos)
  assert after.observation[3] == 1.0
  np.testing.assert_allclose(
    after.reward, -np.linalg.norm(after.physics.qpos - task.goal), rtol=1e-5
  )


def test_arriving_ends_the_episode():
  env = reach3d(physics='c')
  task = env.sample_task(jax.random.key(1))
  state = env.reset(task, jax.random.key(2))
  there = state.physics._replace(qpos=task.goal + 0.01)
  after = env.step(state.replace(physics=there), jnp.zeros((3,)))
  assert after.done
  assert after.metrics['success'] == after.metrics['sparse_reward'] == 1.0
