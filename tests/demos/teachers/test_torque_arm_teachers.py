"""Teachers that know the task show that it can be done; their torques."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from metajax.core.compilation import compile_hot
from metajax.demos.teachers.arm_forces import arm_forces_teacher
from metajax.demos.teachers.joint_torques import mass_matrix
from metajax.demos.teachers.pusher import pusher_teacher
from metajax.demos.teachers.reacher import reacher_teacher
from metajax.demos.teachers.teacher import run_teacher
from metajax.envs.engines import load_model, make_physics
from metajax.envs.environment import held_out
from metajax.envs.kinematics import chain_to
from metajax.envs.torque_arms.arm_forces import arm_forces
from metajax.envs.torque_arms.pusher import pusher
from metajax.envs.torque_arms.reacher import reacher


def show(env, teacher, num_tasks):
  """Returns the success of each step, [tasks, horizon]."""

  def episode(seed):
    key = jax.random.key(seed)
    task_key, run_key = jax.random.split(key)
    return run_teacher(env, teacher, env.sample_task(task_key), run_key).states

  states = compile_hot(jax.vmap(episode), holds_physics=env.holds_physics)(
    jnp.arange(num_tasks)
  )
  return np.asarray(states.metrics['success'])[:, 1:]


@pytest.mark.parametrize('is_held_out', [False, True])
def test_the_pusher_can_be_solved(is_held_out):
  env = pusher(physics='c')
  env = held_out(env) if is_held_out else env
  success = show(env, pusher_teacher(env, physics='c'), 20)
  assert (success.sum(axis=1) >= 10).mean() >= 0.95


def test_the_reacher_can_be_solved_with_noise():
  env = reacher(physics='c')
  success = show(env, reacher_teacher(env, noise=0.3, physics='c'), 20)
  assert (success.max(axis=1) == 1.0).mean() >= 0.95


def test_the_strongest_pull_can_be_held():
  env = held_out(arm_forces(horizon=200, physics='c'))
  success = show(env, arm_forces_teacher(env, physics='c'), 4)
  assert success[:, 150:].all()


@pytest.mark.parametrize(
  ('file_name', 'body_name'),
  [('pusher.xml', 'hand'), ('reacher.xml', 'forearm')],
)
def test_mass_matrix_equals_c_mujoco(file_name, body_name):
  model = load_model(file_name)
  world = make_physics(model, 'c')
  chain = chain_to(model, body_name)
  size = len(chain.dofs)
  qpos = np.random.default_rng(0).uniform(-1, 1, model.nq)
  measured = world.measure(world.reset(qpos))
  data = mujoco.MjData(model)
  data.qpos[:] = qpos
  mujoco.mj_forward(model, data)
  expected = np.zeros((model.nv, model.nv))
  mujoco.mj_fullM(model, data, expected)
  np.testing.assert_allclose(
    mass_matrix(model, chain, measured),
    expected[:size, :size],
    rtol=1e-4,
    atol=1e-5,
  )
