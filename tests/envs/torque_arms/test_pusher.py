"""Pushing: the objects, the disc, what a task changes."""

import copy

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from metajax.core.compilation import compile_hot
from metajax.core.validation import InputError
from metajax.envs.environment import EnvSpec
from metajax.envs.torque_arms.pushed_objects import (
  MAX_HALF_LENGTH_M,
  MAX_RADIUS_M,
  TEST_TEXTURE_SEEDS,
  geometry_of,
)
from metajax.envs.torque_arms.pusher import (
  exchange_roles,
  object_geoms,
  pusher,
  sample_starts,
  sliding_fields,
)
from metajax.testing.environments import check_environment

COLOURS = ('.appearance.geom_rgba', '.appearance.texture_seeds')


@pytest.fixture(scope='module')
def env():
  return pusher(physics='c')


@pytest.fixture(scope='module')
def state(env):
  return env.reset(env.sample_task(jax.random.key(0)), jax.random.key(1))


@pytest.fixture(scope='module')
def step(env):
  return compile_hot(env.step, holds_physics=env.holds_physics)


def test_the_model_is_compiled_for_the_largest_objects(env):
  """C MuJoCo finds pairs by bounding radii, which are the compiler's."""
  sizes = env.model.geom_size[object_geoms(env.model)]
  np.testing.assert_allclose(sizes[..., 0], MAX_RADIUS_M)
  np.testing.assert_allclose(sizes[..., 1], MAX_HALF_LENGTH_M)


def with_objects(state, positions, velocities=((0.0, 0.0), (0.0, 0.0))):
  """Puts the two objects somewhere."""
  physics = state.physics
  positions = jnp.ravel(jnp.asarray(positions))
  velocities = jnp.ravel(jnp.asarray(velocities))
  return state.replace(
    physics=physics._replace(
      qpos=physics.qpos.at[7:].set(positions),
      qvel=physics.qvel.at[7:].set(velocities),
    )
  )


@pytest.mark.parametrize(
  'physics', ['c', pytest.param('mjx', marks=pytest.mark.slow)]
)
def test_keeps_the_contract(physics):
  check_environment(pusher(physics=physics), num_envs=8, silent_fields=COLOURS)


def test_sizes(env, state):
  assert env.spec == EnvSpec('pusher', 24, 7, 100, 0.05)
  assert pusher(observe_objects=False, physics='c').spec.observation_size == 20
  np.testing.assert_allclose(state.observation[17:20], [0, 0, -0.3245])
  np.testing.assert_array_equal(state.observation[20:], state.physics.qpos[7:])


@pytest.mark.parametrize('slot', [0, 1])
@pytest.mark.parametrize(('distance', 'success'), [(0.129, 1.0), (0.132, 0.0)])
def test_success_and_reward_by_hand(state, step, slot, distance, success):
  """The square root of 0.017 m^2 is 0.1304 m."""
  state = state.replace(
    task=state.task.replace(target_slot=jnp.array(slot, jnp.int32))
  )
  far = [-0.3, 0.2]
  near = [0.6 * distance, -0.8 * distance]
  positions = [near, far] if slot == 0 else [far, near]
  action = jnp.full((7,), 0.1)
  after = step(with_objects(state, positions), action)
  assert after.metrics['success'] == success
  tip = after.observation[14:17]
  to_tip = np.linalg.norm(np.array([*near, -0.325]) - tip)
  np.testing.assert_allclose(
    after.reward, -distance - 0.5 * to_tip - 0.1 * 0.07, rtol=1e-5
  )


def test_objects_slide_as_their_masses_and_damping_say(state, step):
  """Implicit damping: `v_{n+1} = v_n / (1 + dt c / m)`, five steps of 10 ms."""
  speed = 0.3
  before = with_objects(
    state, [[-0.1, 0.3], [-0.1, -0.3]], [[0.0, speed], [speed, 0.0]]
  )
  after = step(before, jnp.zeros((7,)))
  task = state.task
  shares = 1 / (1 + 0.01 * task.damping / task.masses)
  np.testing.assert_allclose(
    after.physics.qvel[jnp.array([8, 9])], speed * shares**5, rtol=1e-4
  )


def test_sliding_fields_are_what_the_compiler_derives(env):
  masses, damping = jnp.array([0.2, 1.7]), jnp.array([0.5, 3.0])
  fields = sliding_fields(env.model, masses, damping)
  edited = copy.copy(env.model)
  for slot in (0, 1):
    edited.body(f'object_{slot}').mass = masses[slot]
  mujoco.mj_setConst(edited, mujoco.MjData(edited))
  for name in fields.keys() - {'dof_damping'}:
    np.testing.assert_allclose(
      fields[name], getattr(edited, name), rtol=1e-5, atol=1e-9, err_msg=name
    )
  np.testing.assert_allclose(fields['dof_damping'][7:], [0.5, 0.5, 3, 3])


def test_exchanging_roles_changes_the_target_and_nothing_else(env, state):
  task = env.sample_task(jax.random.key(3))
  partner = exchange_roles(task)
  assert task.target_slot + partner.target_slot == 1
  one, other = (env.reset(t, jax.random.key(4)) for t in (task, partner))
  np.testing.assert_array_equal(one.observation, other.observation)
  distances = [s.metrics['target_distance_m'] for s in (one, other)]
  places = np.asarray(one.observation[20:]).reshape(2, 2)
  expected = np.linalg.norm(places, axis=-1)
  if task.target_slot == 1:
    expected = expected[::-1]
  np.testing.assert_allclose(distances, expected, rtol=1e-5)


def test_objects_start_where_the_paper_has_them():
  starts = jax.vmap(sample_starts)(jax.random.split(jax.random.key(0), 2000))
  assert (starts[..., 0] <= 0).all()
  assert (starts[..., 0] >= -0.3).all()
  assert (jnp.abs(starts[..., 1]) <= 0.2).all()
  assert (starts[:, 0, 1] * starts[:, 1, 1] <= 0).all()
  assert (jnp.linalg.norm(starts, axis=-1) > 0.17).all()
  gaps = jnp.linalg.norm(starts[:, 0] - starts[:, 1], axis=-1)
  assert (gaps > 0.1).all()
  # Neither slot is on one side, or nearer, more often than the other.
  np.testing.assert_allclose(jnp.mean(starts[:, 0, 1] > 0), 0.5, atol=0.05)
  distances = jnp.mean(jnp.linalg.norm(starts, axis=-1), axis=0)
  np.testing.assert_allclose(distances[0], distances[1], atol=5e-3)


def test_held_out_tasks_have_held_out_shapes_and_textures(env):
  ratios = geometry_of(jnp.arange(116), jnp.ones((116,))).sizes[..., 0]
  ratios = np.asarray(ratios / ratios[:, :1])
  geoms = object_geoms(env.model)
  for sample, shapes in (
    (env.sample_task, range(105)),
    (env.sample_test_task, range(105, 116)),
  ):
    keys = jax.random.split(jax.random.key(0), 50)
    tasks = jax.jit(jax.vmap(sample))(keys)
    radii = np.asarray(tasks.model_fields['geom_size'][:, geoms, 0])
    radii = radii.reshape(-1, 4)
    assert radii.min() > 0.5 * 0.01
    # Ratios of radii tell which shape it is, whatever its size.
    errors = np.abs((radii / radii[:, :1])[:, None] - ratios[None]).max(-1)
    assert set(errors.argmin(axis=1)) <= set(shapes)
    seeds = np.asarray(tasks.appearance.texture_seeds)[:, geoms]
    is_held_out = (seeds >= TEST_TEXTURE_SEEDS[0]).all()
    assert is_held_out == (shapes[0] == 105)
    assert 0.1 <= tasks.masses.min() < tasks.masses.max() <= 2.0
    assert 0.2 <= tasks.damping.min() < tasks.damping.max() <= 5.0


def test_a_horizon_is_a_count():
  with pytest.raises(InputError, match='horizon: expected'):
    pusher(0, physics='c')
