"""The planar scenes: what moves, what stops it, what is told."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.core.validation import InputError
from metajax.envs.environment import held_out
from metajax.envs.planar import arm as planar_arm
from metajax.envs.planar.families import (
  PLANAR_FAMILIES,
  key2d,
  peg2d,
  reach2d,
  stick2d,
)
from metajax.testing.environments import check_environment

FORWARD = jnp.asarray([1.0, 0.0, 0.0])


def placed(env, task, pose):
  """Returns the state of an episode whose effector stands at `pose` [3]."""
  state = env.reset(task, jax.random.key(0))
  qpos = state.physics.qpos.at[:3].set(jnp.asarray(pose))
  return state.replace(physics=state.physics._replace(qpos=qpos))


def stepped(env, state, action, num_steps):
  step = jax.jit(lambda state, _: (env.step(state, action), None))
  return jax.lax.scan(step, state, length=num_steps)[0]


def keys(count=400):
  return jax.random.split(jax.random.key(0), count)


def task_of(env, seed=0):
  return env.sample_task(jax.random.key(seed))


@pytest.mark.parametrize(
  'family',
  [
    family
    if family is stick2d
    else pytest.param(family, marks=pytest.mark.slow)
    for family in PLANAR_FAMILIES
  ],
)
def test_the_contract_holds(family):
  check_environment(family(physics='c'), num_envs=8, num_steps=20)


@pytest.mark.slow
def test_the_contract_holds_for_imperfect_scenes():
  check_environment(
    key2d(1.0, physics='c'),
    num_envs=4,
    num_steps=10,
    # The gap is felt inside only, where a few random steps do not lead.
    silent_fields=('.model_fields',),
  )


def test_all_families_have_the_same_spaces():
  specs = {
    family(physics='c').spec._replace(name='') for family in PLANAR_FAMILIES
  }
  assert len(specs) == 1
  assert specs.pop()[1:5] == (4, 3, 60, 0.2)


@pytest.mark.parametrize('family', PLANAR_FAMILIES)
def test_held_out_goals_are_others(family):
  env = family(physics='c')
  train, test = (
    np.unique(np.asarray(jax.vmap(e.sample_task)(keys()).goal), axis=0)
    for e in (env, held_out(env))
  )
  assert (len(train), len(test)) == (40, 10)
  distances = np.linalg.norm(train[:, None] - test[None], axis=-1)
  assert distances.min() > 0.004


def test_a_servo_follows_as_published():
  """v_k = v_command (1 - 0.8^k), less 5 per cent a second."""
  env = reach2d(physics='c')
  state = placed(env, task_of(env), (0.5, 0.4, 0.3))
  state = env.step(state, jnp.asarray([0.5, -2.0, 1.0]))
  moved = 0.01 * sum(1 - 0.8**k for k in range(1, 21))
  np.testing.assert_allclose(
    state.physics.qpos - jnp.asarray([0.5, 0.4, 0.3]),
    [0.05 * moved, -0.1 * moved, 5 * np.pi / 8 * moved],
    rtol=5e-3,
  )


def test_observation_and_reward_by_hand():
  env = reach2d(physics='c')
  task = task_of(env).replace(goal=jnp.asarray([0.3, 0.2]))
  state = placed(env, task, (0.5, 0.4, np.pi / 2))
  state = env.step(state, jnp.zeros((3,)))
  np.testing.assert_allclose(
    state.observation, [-0.14 / 1.28, 0.04 / 0.72, 0.0, 1.0], atol=1e-6
  )
  np.testing.assert_allclose(
    state.reward, -2 * np.hypot(0.2 / 1.28, 0.2 / 0.72), rtol=1e-5
  )
  assert state.metrics['success'] == 0.0
  near = placed(env, task, (0.305, 0.205, 0.0))
  near = env.step(near, jnp.zeros((3,)))
  assert near.done
  assert near.metrics['sparse_reward'] == 1.0


@pytest.mark.parametrize(
  ('family', 'distances'),
  [(reach2d, (0.25, 0.5)), (peg2d, (0.1, 0.25))],
)
def test_episodes_begin_where_they_should(family, distances):
  env = family(physics='c')
  tasks = jax.vmap(env.sample_task)(jax.random.split(jax.random.key(2), 200))
  qpos = np.asarray(jax.vmap(env.reset)(tasks, keys(200)).physics.qpos)
  away = np.linalg.norm(qpos[:, :2] - tasks.entry, axis=1)
  assert (away >= distances[0] - 1e-5).all()
  assert (away <= distances[1] + 1e-5).all()
  assert (qpos[:, :2] >= 0).all()
  assert (qpos[:, :2] <= np.array(planar_arm.WORKSPACE_M)).all()


def test_the_drawn_links_meet_the_effector():
  env = reach2d(physics='c')
  state = stepped(env, env.reset(task_of(env), jax.random.key(3)), FORWARD, 3)
  elbow, turn = state.physics.mocap_pos[1], state.physics.mocap_quat[1]
  angle = 2 * jnp.arctan2(turn[3], turn[0])
  end = elbow[:2] + 0.385 * planar_arm.direction(angle)
  tip, effector_angle = state.physics.qpos[:2], state.physics.qpos[2]
  wrist = tip - 0.275 * planar_arm.direction(effector_angle)
  np.testing.assert_allclose(end, wrist, atol=1e-3)


def test_a_wall_holds_the_effector_up():
  env = peg2d(physics='c')
  task = task_of(env)
  beside = task.entry + jnp.asarray([-0.05, 0.08])
  state = stepped(env, placed(env, task, (*beside, 0.0)), FORWARD, 20)
  assert abs(state.physics.qpos[0] - task.entry[0]) < 2e-3
  # No such thing in front of the hole.
  ahead = task.entry + jnp.asarray([-0.05, 0.0])
  state = stepped(env, placed(env, task, (*ahead, 0.0)), FORWARD, 20)
  assert state.done
  assert abs(state.metrics['goal_distance_m']) < 0.012


def test_an_imperfect_scene_is_near_the_one_of_its_key():
  right, wrong = peg2d(physics='c'), peg2d(1.0, physics='c')
  one, other = (jax.vmap(e.sample_task)(keys()) for e in (right, wrong))
  off = np.abs(one.entry - other.entry)
  assert off[:, 0].max() <= 1.28 / 50 + 1e-6
  assert off[:, 1].max() <= 0.72 / 50 + 1e-6
  assert off.mean() > 0.004
  depths = np.linalg.norm(other.goal - other.entry, axis=1)
  assert depths.max() <= 0.21 + 1e-6
  assert depths.std() > 1e-3


@pytest.mark.parametrize(
  ('family', 'geom', 'upper'),
  [(peg2d, 'corner_left', 0.025), (stick2d, 'tip_left', 0.029)],
)
def test_the_gap_is_as_wide_as_the_task_says(family, geom, upper):
  """Pressed sideways, the effector stops when its 6 mm and more are used."""
  env = family(1.0, physics='c')
  task = env.sample_task(jax.random.key(5))
  row = env.model.geom(geom).id
  widening = task.model_fields['geom_pos'][row, 1] - upper
  assert abs(widening) > 2e-4
  way = (task.goal - task.entry) / jnp.linalg.norm(task.goal - task.entry)
  across = jnp.stack([-way[1], way[0]])
  middle = 0.5 * (task.entry + task.goal)
  angle = jnp.arctan2(way[1], way[0])
  state = placed(env, task, (*middle, angle))
  push = jnp.concatenate([0.5 * across, jnp.zeros((1,))])
  state = stepped(env, state, push, 5)
  went = jnp.dot(state.physics.qpos[:2] - middle, across)
  np.testing.assert_allclose(went, 0.006 + widening, atol=1.5e-3)


def test_a_socket_is_shut_until_the_tip_has_been_at_its_end():
  env = key2d(physics='c')
  task = task_of(env)
  turn = jnp.asarray([0.0, 0.0, 1.0])
  inside = placed(env, task, (*task.goal, 0.0))
  shut = env.step(inside, turn)
  assert shut.metrics['unlocked'] == 1.0
  assert abs(shut.physics.qpos[5]) < 0.04
  opened = env.step(inside.replace(memory=jnp.ones((), bool)), turn)
  assert opened.physics.qpos[5] > 0.15
  half_way = placed(env, task, (*(task.goal - jnp.asarray([0.1, 0])), 0.0))
  still_shut = stepped(env, half_way, turn, 5)
  assert still_shut.metrics['unlocked'] == 0.0
  assert abs(still_shut.physics.qpos[5]) < 0.04


def test_the_socket_stays_where_the_task_puts_it():
  env = key2d(physics='c')
  task = task_of(env)
  state = placed(env, task, (*task.goal, 0.0))
  state = stepped(env, state, jnp.asarray([1.0, 0.3, 0.0]), 60)
  np.testing.assert_allclose(state.physics.qpos[3:5], task.goal, atol=2e-4)


def test_a_drawn_angle_is_what_the_reward_asks_for():
  env = key2d(draws_angle=True, physics='c')
  task = task_of(env)
  assert task.goal.shape == (3,)
  step = jax.jit(env.step)
  state = env.reset(task, jax.random.key(0))
  other = state.replace(task=task.replace(goal=task.goal.at[2].add(0.1)))
  one, other = (step(x, jnp.zeros((3,))).reward for x in (state, other))
  np.testing.assert_allclose(one - other, 0.05, atol=1e-5)


def test_the_soft_spring_turns_the_socket_back():
  env = key2d(physics='c')
  task = task_of(env)
  state = placed(env, task, (*(task.entry - jnp.asarray([0.1, 0])), 0.0))
  qpos = state.physics.qpos.at[5].set(0.3)
  state = state.replace(
    physics=state.physics._replace(qpos=qpos), memory=jnp.ones((), bool)
  )
  after = env.step(state, jnp.zeros((3,)))
  # Inertia 0.017, spring 0.3, damper 0.03: x'' = -17.6 x - 1.76 x'.
  assert 0.15 < after.physics.qpos[5] < 0.28


def test_arguments_are_checked():
  with pytest.raises(InputError, match='imperfection'):
    peg2d(2.0)
