"""Half-cheetah and ant: published bodies, and rewards told by C MuJoCo."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from metajax.core.compilation import compile_hot
from metajax.core.validation import InputError
from metajax.demos.teachers.planning import PlanningConfig, planner
from metajax.demos.teachers.teacher import run_teacher
from metajax.envs.engines import load_model
from metajax.envs.locomotion.goals import LocomotionTask, ant, half_cheetah
from metajax.testing.environments import check_environment

PLACES = ('position', 'sparse_position')


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


@pytest.mark.parametrize(
  'physics', ['c', pytest.param('mjx', marks=pytest.mark.slow)]
)
@pytest.mark.parametrize('goal', ['velocity', 'direction'])
def test_observation_and_reward_follow_the_definition(goal, physics):
  env = half_cheetah(goal, physics=physics)
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


@pytest.mark.parametrize(
  'physics', ['c', pytest.param('mjx', marks=pytest.mark.slow)]
)
def test_a_task_changes_its_own_body(physics):
  """Without gears the motors are deaf to the action, but their cost stays."""
  env = half_cheetah('direction', physics=physics)

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


@pytest.mark.parametrize('factory', [half_cheetah, ant])
@pytest.mark.parametrize('arguments', [{'goal': 'speed'}, {'horizon': 0}])
def test_bad_arguments_are_named(factory, arguments):
  with pytest.raises(InputError, match=next(iter(arguments))):
    factory(**arguments)


@pytest.mark.parametrize(
  ('factory', 'goal'),
  [
    pytest.param(half_cheetah, 'position', marks=pytest.mark.slow),
    pytest.param(ant, 'velocity', marks=pytest.mark.slow),
    (ant, 'sparse_position'),
  ],
)
def test_goals_keep_the_contract(factory, goal):
  env = factory(goal, physics='c')
  # A sparse reward does not tell of its goal before it is near.
  silent = ['.goal'] if goal == 'sparse_position' else []
  check_environment(env, num_envs=8, num_steps=20, silent_fields=silent)


@pytest.mark.slow
def test_the_ant_keeps_the_contract_in_mjx():
  check_environment(ant('direction'), num_envs=8, num_steps=10)


def test_the_ant_is_the_published_one():
  env = ant(physics='c')
  model = env.model
  ball = 4 / 3 * np.pi * 0.25**3

  def capsule(length):
    return np.pi * 0.08**2 * (length + 4 / 3 * 0.08)

  # Four legs: a stub, an upper and a lower link; 5 kg/m^3.
  leg = 2 * capsule(np.hypot(0.2, 0.2)) + capsule(np.hypot(0.4, 0.4))
  np.testing.assert_allclose(
    model.body_mass.sum(), 5 * (ball + 4 * leg), rtol=1e-5
  )
  np.testing.assert_array_equal(model.actuator_gear[:, 0], 150)
  np.testing.assert_array_equal(model.dof_armature, [0] * 6 + [1] * 8)
  np.testing.assert_allclose(
    np.degrees(model.jnt_range[1:]),
    [[-30, 30], [30, 70], [-30, 30], [-70, -30]]
    + [[-30, 30], [-70, -30], [-30, 30], [30, 70]],
    atol=0.01,
  )
  assert model.npair == 9, 'torso, upper and lower legs meet the floor'
  assert env.spec[1:5] == (41, 8, 200, 0.02)


def ant_after_two_steps(goal, target, action):
  env = ant(goal, physics='c')
  task = LocomotionTask(goal=jnp.array(target))
  first = env.reset(task, jax.random.key(3))
  state = env.step(env.step(first, action), action)
  data = mujoco.MjData(env.model)
  data.qpos[:], data.qvel[:] = state.physics.qpos, state.physics.qvel
  mujoco.mj_forward(env.model, data)
  mujoco.mj_subtreeVel(env.model, data)
  return first, state, data


@pytest.mark.parametrize('goal', ['velocity', 'direction', *PLACES])
def test_the_ants_observation_and_reward_follow_the_definition(goal):
  target = {'velocity': 2.0, 'direction': -1.0}.get(goal, [1.0, 1.5])
  action = jnp.array([2.0, -0.5, 0.25, -3.0, 0.0, 1.0, 0.0, 0.0])
  first, state, data = ant_after_two_steps(goal, target, action)
  velocity = data.subtree_linvel[1, 0]
  place = data.subtree_com[1, :2]
  first_place = np.asarray(first.observation[-3:-1])
  progress = {
    'velocity': 1.0 - abs(velocity - 2.0),
    'direction': -velocity,
    'position': 4.0 - np.abs(place - np.array([1.0, 1.5])).sum(),
    'sparse_position': 4.0 - np.abs(first_place - np.array([1.0, 1.5])).sum(),
  }[goal]
  effort = 0.05 - 0.005 * (1 + 0.25 + 0.0625 + 1 + 0 + 1)
  np.testing.assert_allclose(state.reward, progress + effort, atol=1e-5)
  np.testing.assert_allclose(
    state.observation,
    np.concatenate([data.qpos, data.qvel, data.xmat[1], data.subtree_com[1]]),
    atol=1e-5,
  )
  assert not state.done


@pytest.mark.parametrize(
  ('factory', 'target'), [(half_cheetah, 0.5), (ant, [0.3, 0.4])]
)
def test_near_its_goal_a_sparse_reward_is_the_dense_one(factory, target):
  task = LocomotionTask(goal=jnp.array(target))
  near, far = (
    [
      env.step(env.reset(task, jax.random.key(0)), jnp.zeros(env.spec[2]))
      for env in (factory(goal, physics='c') for goal in PLACES)
    ]
    for task in (task, task.replace(goal=3 * task.goal))
  )
  np.testing.assert_array_equal(near[0].reward, near[1].reward)
  assert near[1].metrics['success'] == 1.0
  assert far[0].reward != far[1].reward
  assert far[1].metrics['success'] == 0.0
  np.testing.assert_allclose(near[0].metrics['distance_m'], 0.5, atol=0.05)


def test_goal_positions_are_drawn_from_their_distributions():
  keys = jax.random.split(jax.random.key(0), 1000)
  goals = jax.vmap(ant('position', physics='c').sample_task)(keys).goal
  np.testing.assert_allclose(np.linalg.norm(goals, axis=1), 2.0, rtol=1e-5)
  angles = np.degrees(np.arctan2(goals[:, 1], goals[:, 0]))
  assert 0 <= angles.min() < 2
  assert 88 < angles.max() <= 90
  keys = jax.random.split(jax.random.key(1), 1000)
  goals = jax.vmap(half_cheetah('position', physics='c').sample_task)(keys).goal
  assert 1.0 <= np.abs(goals).min() <= np.abs(goals).max() <= 2.0
  np.testing.assert_allclose(np.mean(goals > 0), 0.5, atol=0.06)


@pytest.mark.parametrize('height', [-0.5, 0.0, 0.6])
def test_an_ant_that_leaves_its_heights_has_fallen(height):
  env = ant(physics='c')
  # Without a floor, which would lift it before the step is over.
  task = LocomotionTask(
    goal=jnp.array(1.0),
    model_fields={'pair_margin': jnp.full((env.model.npair,), -10.0)},
  )
  state = env.reset(task, jax.random.key(1))
  qpos = state.physics.qpos.at[2].add(height)
  state = state.replace(physics=state.physics._replace(qpos=qpos))
  assert env.step(state, jnp.zeros(8)).done == (height != 0)


@pytest.mark.slow
def test_a_planner_reaches_goal_positions_on_both_sides():
  env = half_cheetah('position', horizon=120, physics='c')
  teacher = planner(
    env,
    PlanningConfig(
      num_samples=32, num_elites=5, num_iterations=2, horizon=16, repeats=4
    ),
  )
  tasks = LocomotionTask(goal=jnp.array([-1.2, 1.2]))
  states = jax.jit(
    jax.vmap(lambda task, key: run_teacher(env, teacher, task, key).states)
  )(tasks, jax.random.split(jax.random.key(0), 2))
  assert (states.metrics['success'][:, 0] == 0).all()
  assert (states.metrics['success'][:, -1] == 1).all()


def test_two_euler_steps_are_as_good_as_one_of_runge_kutta():
  """Both against 100 Runge-Kutta steps over the same 0.02 s, in C."""
  integrators = mujoco.mjtIntegrator
  schemes = {
    'ours': (integrators.mjINT_EULER, 2),
    'published': (integrators.mjINT_RK4, 1),
    'exact': (integrators.mjINT_RK4, 100),
  }
  models = {}
  for name, (integrator, num_steps) in schemes.items():
    models[name] = load_model('ant.xml')
    models[name].opt.integrator = int(integrator)
    models[name].opt.timestep = 0.02 / num_steps
  generator = np.random.default_rng(0)
  walker = mujoco.MjData(models['ours'])
  walker.qpos[:] = [0, 0, 0.55, 1, 0, 0, 0, 0, 1, 0, -1, 0, -1, 0, 1]
  errors = {'ours': [], 'published': []}
  for _ in range(100):
    walker.ctrl[:] = generator.uniform(-1, 1, 8)
    after = {}
    for name, model in models.items():
      data = mujoco.MjData(model)
      data.qpos[:], data.qvel[:] = walker.qpos, walker.qvel
      data.ctrl[:] = walker.ctrl
      mujoco.mj_step(model, data, schemes[name][1])
      after[name] = data.qvel.copy()
    for name, rows in errors.items():
      rows.append(np.linalg.norm(after[name] - after['exact']))
    mujoco.mj_step(models['ours'], walker, 2)
  assert np.median(errors['ours']) < 1.5 * np.median(errors['published'])
