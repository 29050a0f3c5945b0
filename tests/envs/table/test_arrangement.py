"""The table: what a relation is, what tasks change, how objects slide."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from metajax.core.validation import InputError
from metajax.envs.table.arrangement import (
  RELATIONS,
  positions_of,
  relation_distance,
  table,
)
from metajax.envs.table.shapes import (
  MAX_HALF_LENGTH_M,
  MAX_RADIUS_M,
  make_shapes,
)
from metajax.testing.environments import check_environment


@pytest.fixture(scope='module')
def env():
  return table(physics='c')


def set_out(env, task, places, pusher=(0.3, 0.3)):
  """Returns a state at rest with the objects at places, unturned."""
  state = env.reset(task, jax.random.key(0))
  poses = np.concatenate([np.asarray(places), np.zeros((3, 1))], axis=1)
  qpos = jnp.asarray(np.concatenate([pusher, poses.ravel()]), jnp.float32)
  return state.replace(
    physics=state.physics._replace(qpos=qpos),
    memory=jnp.zeros((), jnp.int32),
  )


@pytest.mark.parametrize(
  'num_relations', [1, pytest.param(2, marks=pytest.mark.slow)]
)
def test_keeps_the_contract(num_relations):
  check_environment(table(num_relations, physics='c'), num_envs=8)


@pytest.mark.slow
def test_steps_on_mjx_as_in_c(env):
  """A push, up to contact and through it; then to rest."""
  other = table(physics='mjx')
  task = env.sample_task(jax.random.key(1))
  places = [[0.0, 0.0], [0.2, 0.2], [-0.2, -0.2]]
  finals = []
  for one in (env, other):
    state = set_out(one, task, places, pusher=(-0.08, 0.004))
    step = jax.jit(one.step)
    for _ in range(6):
      state = step(state, jnp.array([0.3, 0.0]))
    finals.append(np.asarray(state.physics.qpos))
  assert finals[0][2] > 0.01
  np.testing.assert_allclose(finals[1], finals[0], atol=2e-3)


def test_shapes_change_how_objects_slide(env):
  """The same push at objects of two shapes; how far they reach is told."""
  places = [[0.0, 0.0], [0.2, 0.2], [-0.2, -0.2]]
  finals = []
  for seed in (1, 2):
    task = env.sample_task(jax.random.key(seed))
    state = set_out(env, task, places, pusher=(-0.08, 0.004))
    for _ in range(6):
      state = env.step(state, jnp.array([0.3, 0.0]))
    finals.append(np.asarray(state.physics.qpos[2:5]))
    radius, half_length = np.asarray(task.model_fields['geom_size'])[
      env.model.geom('first_a').id, :2
    ]
    # The longer capsule lies along the object's x.
    reach = state.observation[11:13]
    assert reach[0] >= half_length + radius - 1e-6
    assert reach.max() <= 0.05
    assert reach.min() >= radius - 1e-6
  assert np.abs(finals[0] - finals[1]).max() > 1e-3


@pytest.mark.parametrize('seed', range(4))
def test_relation_distance_is_that_to_the_nearest_place(seed):
  """Against a fine net over the sector."""
  offset = jax.random.uniform(
    jax.random.key(seed), (2,), minval=-0.25, maxval=0.25
  )
  direction = 2 * np.pi * seed / 8
  angles = direction + np.deg2rad(np.linspace(-20, 20, 401))
  distances = np.linspace(0.05, 0.15, 401)[:, None]
  net = np.stack([distances * np.cos(angles), distances * np.sin(angles)], -1)
  expected = np.linalg.norm(net - np.asarray(offset), axis=-1).min()
  got = relation_distance(offset, jnp.asarray(direction, jnp.float32))
  np.testing.assert_allclose(got, expected, atol=3e-4)


@pytest.mark.parametrize(
  ('name', 'offset', 'holds'),
  [
    ('right', (0.1, 0.0), True),
    ('left', (-0.1, 0.02), True),
    ('above', (0.0, 0.14), True),
    ('above', (0.0, 0.16), False),
    ('below', (0.0, -0.04), False),
    ('below_left', (-0.07, -0.07), True),
    ('below_right', (-0.07, -0.07), False),
    ('above_right', (0.1, 0.03), False),
  ],
)
def test_relations_by_hand(env, name, offset, holds):
  direction = RELATIONS.index(name) * np.pi / 4
  task = env.sample_task(jax.random.key(0))
  task = task.replace(directions=jnp.array([direction], jnp.float32))
  places = [np.add((0.05, -0.05), offset), (0.05, -0.05), (-0.2, 0.2)]
  state = env.step(set_out(env, task, places), jnp.zeros((2,)))
  assert state.metrics['success'] == float(holds)
  assert (state.reward == 0.0) == holds
  np.testing.assert_allclose(
    state.reward, -state.metrics['arrangement_distance_m']
  )


def test_a_line_of_three_is_made_in_its_order():
  env = table(2, physics='c')
  task = env.sample_task(jax.random.key(0))
  task = task.replace(directions=jnp.array([jnp.pi, 0.0]))
  right, left, away = (0.1, 0.0), (-0.1, 0.0), (0.0, 0.25)
  stages = []
  state = set_out(env, task, [away, (0.0, 0.0), right])
  # The second relation alone; both; the first one lost again.
  for first, third in ((away, right), (left, right), (away, right)):
    placed = set_out(env, task, [first, (0.0, 0.0), third])
    state = env.step(state.replace(physics=placed.physics), jnp.zeros((2,)))
    stages.append(
      (float(state.metrics['stage']), float(state.metrics['success']))
    )
  assert stages == [(0.0, 0.0), (2.0, 1.0), (2.0, 0.0)]


def test_held_out_tasks_have_other_shapes_and_textures(env):
  keys = jax.random.split(jax.random.key(2), 64)
  train = jax.vmap(env.sample_task)(keys)
  test = jax.vmap(env.sample_test_task)(jax.random.split(jax.random.key(3), 64))
  geoms = [env.model.geom(name).id for name in ('first_a', 'second_a')]

  def shapes_of(tasks):
    sizes = np.asarray(tasks.model_fields['geom_size'])[:, geoms]
    return set(map(tuple, sizes.reshape(-1, 3).tolist()))

  def seeds_of(tasks):
    seeds = np.asarray(tasks.appearance.texture_seeds)[:, geoms]
    return set(seeds.ravel().tolist())

  assert not shapes_of(train) & shapes_of(test)
  assert len(shapes_of(train)) > 50
  assert len(shapes_of(test)) == 10
  assert not seeds_of(train) & seeds_of(test)


def test_tasks_cover_all_relations_and_a_third_has_a_distractor():
  keys = jax.random.split(jax.random.key(4), 1000)
  tasks = jax.vmap(table(2, physics='c').sample_task)(keys)
  turns = np.rint(np.asarray(tasks.directions) / (np.pi / 4)).astype(int)
  np.testing.assert_array_equal(np.unique(turns), range(8))
  between = (turns[:, 1] - turns[:, 0]) % 8
  np.testing.assert_array_equal(np.unique(between), [2, 3, 4, 5, 6])
  single = jax.vmap(table(physics='c').sample_task)(
    jax.random.split(jax.random.key(5), 1000)
  )
  assert 0.28 < np.mean(single.distractor) < 0.39


def test_episodes_begin_apart_with_no_relation(env):
  task = env.sample_task(jax.random.key(6))
  task = task.replace(distractor=jnp.ones(()))
  reset = jax.jit(jax.vmap(lambda key: env.reset(task, key)))
  states = reset(jax.random.split(jax.random.key(7), 200))
  assert (states.metrics['success'] == 0).all()
  pusher, places, _ = jax.vmap(positions_of)(states.physics)
  for i, j in ((0, 1), (0, 2), (1, 2)):
    gap = np.linalg.norm(places[:, i] - places[:, j], axis=1)
    assert gap.min() > 0.10
  assert np.linalg.norm(places - pusher[:, None], axis=-1).min() > 0.06
  absent = env.reset(task.replace(distractor=jnp.zeros(())), jax.random.key(8))
  assert positions_of(absent.physics)[1][2].min() > 0.8


def test_a_sliding_object_stops_as_friction_says(env):
  """`m dv/dt = -F - b v`: `x = m/b (v - F/b log(1 + b v / F))`."""
  task = env.sample_task(jax.random.key(0))
  state = set_out(env, task, [[0.0, 0.0], [0.2, 0.2], [-0.2, -0.2]])
  m, v, force, b = 0.2, 0.4, 0.8, 0.5
  qvel = jnp.zeros_like(state.physics.qvel).at[2].set(v)
  state = state.replace(physics=state.physics._replace(qvel=qvel))
  for _ in range(4):
    state = env.step(state, jnp.zeros((2,)))
  expected = m / b * (v - force / b * np.log1p(b * v / force))
  # The engine advances by the velocity after each step of 10 ms.
  expected -= 0.5 * v * 0.01
  np.testing.assert_allclose(state.physics.qpos[2], expected, rtol=0.05)
  np.testing.assert_allclose(state.physics.qvel[2], 0.0, atol=2e-3)


def test_shapes_fit_the_model(env):
  """The engine in C finds pairs by the sizes that the model was made with."""
  shapes = make_shapes(100)
  assert shapes.sizes[..., 0].max() <= MAX_RADIUS_M
  assert shapes.sizes[..., 1].max() <= MAX_HALF_LENGTH_M
  geom = env.model.geom('first_a').id
  np.testing.assert_allclose(
    env.model.geom_size[geom, :2], [MAX_RADIUS_M, MAX_HALF_LENGTH_M]
  )
  np.testing.assert_array_equal(make_shapes(20).sizes, shapes.sizes[:20])
  # The capsules lie flat: their z-axes are horizontal.
  matrices = np.zeros(9)
  for quaternion in np.asarray(shapes.quaternions, float).reshape(-1, 4):
    mujoco.mju_quat2Mat(matrices, quaternion)
    assert abs(matrices[8]) < 1e-6


def test_arguments_are_checked():
  with pytest.raises(InputError, match='num_relations'):
    table(3)
