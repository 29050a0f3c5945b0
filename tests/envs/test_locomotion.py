"""The half-cheetah: its published body, and its rewards told by C MuJoCo."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from metajax.core.compilation import compile_hot
from metajax.core.validation import InputError
from metajax.envs.locomotion import LocomotionTask, half_cheetah


def test_the_body_is_the_published_one():
  env = half_cheetah()
  model = env.model
  np.testing.assert_allclose(model.body_mass.sum(), 14.0, rtol=1e-6)
  np.testing.assert_array_equal(
    model.actuator_gear[:, 0], [120, 90, 60, 120, 60, 30]
  )
  np.testing.assert_array_equal(
    model.jnt_stiffness, [0, 0, 0, 240, 180, 120, 180, 120, 60]
  )
  np.testing.assert_array_equal(
    model.dof_damping, [0, 0, 0, 6, 4.5, 3, 4.5, 3, 1.5]
  )
  np.testing.assert_array_equal(model.pair_friction[:, :2], 0.4)
  assert model.npair == 8, 'every link meets the floor, and nothing else'
  assert model.opt.timestep == env.spec.control_period_s == 0.01
  assert env.spec[1:4] == (20, 6, 200)
  assert env.holds_physics


@pytest.mark.parametrize('goal', ['velocity', 'direction'])
def test_observation_and_reward_follow_the_definition(goal):
  env = half_cheetah(goal)
  target = 1.3 if goal == 'velocity' else -1.0
  action = np.array([2.0, -0.5, 0.25, -3.0, 0.0, 1.0])

  def reset_and_step(action):
    task = LocomotionTask(goal=jnp.array(target))
    state = env.step(env.reset(task, jax.random.key(3)), action)
    # Twice, so that a velocity taken a step too late would show.
    return env.step(state, action)

  state = compile_hot(reset_and_step, holds_physics=True)(action)
  data = mujoco.MjData(env.model)
  data.qpos[:], data.qvel[:] = state.physics.qpos, state.physics.qvel
  mujoco.mj_forward(env.model, data)
  mujoco.mj_subtreeVel(env.model, data)
  velocity = data.subtree_linvel[1, 0]
  progress = (
    -abs(velocity - target) if goal == 'velocity' else target * velocity
  )
  cost = 0.05 * (1 + 0.25 + 0.0625 + 1 + 0 + 1)
  np.testing.assert_allclose(state.reward, progress - cost, atol=1e-5)
  np.testing.assert_allclose(
    state.observation,
    np.concatenate([data.qpos[1:], data.qvel, data.subtree_com[1]]),
    atol=1e-5,
  )
  assert not state.done


def test_episodes_start_with_the_published_noise():
  env = half_cheetah()

  def reset(seed):
    key = jax.random.key(seed)
    return env.reset(LocomotionTask(goal=jnp.array(0.0)), key).physics

  physics = compile_hot(jax.vmap(reset), holds_physics=True)(jnp.arange(2000))
  for array, deviation in ((physics.qpos, 0.01), (physics.qvel, 0.1)):
    # Nine joints of 2,000 episodes: their mean is known to 4 sigma.
    np.testing.assert_allclose(
      np.mean(array, axis=0), 0.0, atol=4 * deviation / np.sqrt(2000)
    )
    np.testing.assert_allclose(np.std(array, axis=0), deviation, rtol=0.1)


def test_tasks_are_drawn_from_their_distributions():
  keys = jax.random.split(jax.random.key(0), 1000)
  velocities = jax.vmap(half_cheetah('velocity').sample_task)(keys).goal
  assert velocities.min() >= 0
  assert velocities.max() <= 2
  np.testing.assert_allclose(velocities.mean(), 1.0, atol=0.08)
  keys = jax.random.split(jax.random.key(1), 1000)
  directions = jax.vmap(half_cheetah('direction').sample_task)(keys).goal
  assert set(directions.tolist()) == {-1.0, 1.0}
  np.testing.assert_allclose(directions.mean(), 0.0, atol=0.13)


def test_a_task_changes_its_own_body():
  """Without gears the motors are deaf to the action, but their cost stays."""
  env = half_cheetah('direction')

  def move(gear, action):
    task = LocomotionTask(
      goal=jnp.array(1.0), model_fields={'actuator_gear': gear}
    )
    state = env.reset(task, jax.random.key(0))
    return env.step(state, jnp.full((6,), action))

  gear = jnp.asarray(env.model.actuator_gear, jnp.float32)
  states = compile_hot(jax.vmap(move), holds_physics=True)(
    jnp.stack([gear, 0 * gear, 0 * gear]), jnp.array([1.0, 1.0, 0.0])
  )
  strong, deaf, still = states.physics.qvel
  np.testing.assert_array_equal(deaf, still)
  np.testing.assert_allclose(
    states.reward[2] - states.reward[1], 0.3, rtol=1e-4
  )
  assert np.abs(strong - still).max() > 0.5


@pytest.mark.parametrize('arguments', [{'goal': 'speed'}, {'horizon': 0}])
def test_bad_arguments_are_named(arguments):
  with pytest.raises(InputError, match=next(iter(arguments))):
    half_cheetah(**arguments)
