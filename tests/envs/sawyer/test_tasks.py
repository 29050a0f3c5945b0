"""The Sawyer's families: their contract, numbers by hand, and their splits."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from metajax.core.compilation import compile_hot
from metajax.core.validation import InputError
from metajax.envs.engines import load_model
from metajax.envs.environment import held_out
from metajax.envs.rollout import rollout
from metajax.envs.sawyer.families import FAMILIES
from metajax.envs.sawyer.guided import guided_door, guided_push
from metajax.envs.sawyer.hand import (
  HAND_HIGH,
  HAND_LOW,
  arm_pose,
  mechanism_point,
)
from metajax.envs.sawyer.suites import SUITES, make_suite
from metajax.envs.sawyer.tasks import make_sawyer
from metajax.testing.environments import check_environment

LOOKS = ('.appearance.geom_rgba', '.appearance.texture_seeds')


# One for each kind of contact; the others are slow only together.
QUICK = ('pick_place_wall', 'peg_insert_side', 'door_open', 'button_press')
ALL = [
  name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
  for name in FAMILIES
]


@pytest.mark.parametrize('name', ALL)
def test_every_family_keeps_the_contract(name):
  check_environment(
    make_sawyer(name, physics='c'), num_envs=8, silent_fields=LOOKS
  )


@pytest.mark.slow
@pytest.mark.parametrize('name', ['pick_place', 'door_open'])
def test_the_contract_holds_on_mjx(name):
  check_environment(make_sawyer(name), num_envs=4, silent_fields=LOOKS)


@pytest.mark.parametrize(
  ('make', 'goal'), [(guided_push, '.goal'), (guided_door, '.angle')]
)
def test_guided_tasks_keep_the_contract(make, goal):
  # Random actions reach neither block nor handle, and the goals are hidden:
  # what they do to the rewards stands below.
  check_environment(make(physics='c'), num_envs=8, silent_fields=(*LOOKS, goal))


@pytest.mark.slow
def test_the_engines_agree_on_pushing_and_on_a_door():
  """Both engines from equal tasks; contacts of boxes differ a little."""
  for name, forward in (('push', [0.0, 1.0, -1.0, 1.0]), ('door_open', None)):
    action = jnp.array(forward or [0.5, 1.0, -1.0, 1.0])
    ends = []
    for physics in ('c', 'mjx'):
      env = make_sawyer(name, physics=physics)
      task = env.sample_task(jax.random.key(0))

      def go(task, env=env, action=action):
        return rollout(
          env,
          lambda observation, memory, key: (action, memory),
          task,
          jax.random.key(1),
          num_steps=30,
        ).observations

      ends.append(compile_hot(go, holds_physics=env.holds_physics)(task))
    assert np.abs(ends[0][0] - ends[0][-1]).max() > 0.1
    np.testing.assert_allclose(ends[0], ends[1], atol=5e-3)


def step_for(env, state, action, num_steps):
  step = jax.jit(env.step)
  for _ in range(num_steps):
    state = step(state, jnp.asarray(action, jnp.float32))
  return state


def test_the_hand_moves_one_centimetre_an_action_within_its_limits():
  env = make_sawyer('reach', physics='c')
  task = env.sample_task(jax.random.key(0))
  first = env.reset(task, jax.random.key(1))
  state = step_for(env, first, [1, 0, 0.5, -1], 10)
  state = step_for(env, state, [0, 0, 0, -1], 40)
  moved = state.observation[:3] - first.observation[:3]
  np.testing.assert_allclose(moved, [0.1, 0.0, 0.05], atol=1e-3)
  for direction, limit in ((1.0, HAND_HIGH), (-1.0, HAND_LOW)):
    state = step_for(env, state, [direction] * 3 + [-1], 120)
    np.testing.assert_allclose(state.observation[:3], limit, atol=3e-3)


def test_the_gripper_opens_and_closes():
  env = make_sawyer('reach', physics='c')
  state = env.reset(env.sample_task(jax.random.key(0)), jax.random.key(1))
  assert state.observation[3] == 1.0
  state = step_for(env, state, [0, 0, 0, 1], 30)
  assert state.observation[3] < 0.01
  state = step_for(env, state, [0, 0, 0, -1], 30)
  assert state.observation[3] > 0.98


def test_observation_is_now_before_and_the_goal():
  env = make_sawyer('push', physics='c')
  hidden = make_sawyer('push', hide_goal=True, physics='c')
  task = env.sample_task(jax.random.key(0))
  first = env.reset(task, jax.random.key(1))
  state = env.step(first, jnp.array([1.0, 0.0, 0.0, 0.0]))
  np.testing.assert_array_equal(
    state.observation[18:36], first.observation[:18]
  )
  np.testing.assert_array_equal(state.observation[36:], task.goal)
  np.testing.assert_allclose(state.observation[4:7], task.object_pos, atol=1e-4)
  unseen = hidden.reset(task, jax.random.key(1))
  np.testing.assert_array_equal(unseen.observation[36:], 0.0)
  np.testing.assert_array_equal(unseen.observation[:36], first.observation[:36])


def test_reward_and_success_of_reaching_by_hand():
  """`r = 1 - tanh(10 d) + 4 (1 - d / d_0) + 5 [d <= 0.05]`."""
  env = make_sawyer('reach', physics='c')
  task = env.sample_task(jax.random.key(0))
  first = env.reset(task, jax.random.key(1))
  d_0 = np.linalg.norm(first.observation[:3] - task.goal)
  state = step_for(env, first, [0, 1, 0, 0], 5)
  d = np.linalg.norm(state.observation[:3] - task.goal)
  expected = 1 - np.tanh(10 * d) + 4 * (1 - d / d_0)
  np.testing.assert_allclose(state.reward, expected, rtol=1e-4)
  assert state.metrics['success'] == 0.0
  near = task.replace(goal=state.observation[:3] + jnp.array([0.0, 0.01, 0.0]))
  after = env.step(state.replace(task=near), jnp.zeros((4,)))
  assert after.metrics['success'] == 1.0
  assert after.reward > 5.0


def test_a_mechanisms_goal_is_where_its_joint_leads():
  """The door's handle, 25 cm right and 8 cm before the hinge, by hand."""
  model = load_model('sawyer_door.xml')
  np.testing.assert_allclose(
    mechanism_point(model, np.pi / 2), [-0.08, -0.25, 0.14], atol=1e-6
  )
  env = make_sawyer('door_open', physics='c')
  task = env.sample_task(jax.random.key(0))
  state = env.reset(task, jax.random.key(1))
  qpos = state.physics.qpos.at[-1].set(FAMILIES['door_open'].joint_goal)
  state = state.replace(physics=state.physics._replace(qpos=qpos))
  after = env.step(state, jnp.zeros((4,)))
  assert after.metrics['object_to_goal_m'] < 1e-3


def test_friction_is_the_tasks_own():
  env = make_sawyer('push', physics='c')
  plain = env.sample_task(jax.random.key(0))
  friction = jnp.asarray(env.model.pair_friction, jnp.float32)
  ends = []
  for slide in (0.6, 0.05):
    own = friction.at[0, :2].set(slide)
    task = plain.replace(model_fields={'pair_friction': own})
    state = env.reset(task, jax.random.key(1))
    qvel = state.physics.qvel.at[5].set(0.5)
    state = state.replace(physics=state.physics._replace(qvel=qvel))
    state = step_for(env, state, [0, 0, 0, 0], 80)
    ends.append(float(state.observation[4] - task.object_pos[0]))
  # A block stops after v^2 / (2 mu g).
  np.testing.assert_allclose(ends[0], 0.25 / (2 * 0.6 * 9.81), rtol=0.1)
  assert ends[1] > 5 * ends[0]


@pytest.mark.parametrize('name', ['push', 'door_open'])
def test_held_out_tasks_lie_apart(name):
  env = make_sawyer(name, physics='c')
  train, test = (
    jax.vmap(sample)(jax.random.split(jax.random.key(seed), 500))
    for seed, sample in enumerate((env.sample_task, held_out(env).sample_task))
  )
  family = FAMILIES[name]
  region = family.goal_region or family.object_region
  strips = []
  for task in (train, test):
    x = task.goal[:, 0] if family.goal_region else task.object_pos[:, 0]
    share = (np.asarray(x) - region[0][0]) / (region[1][0] - region[0][0])
    strips.append(set(np.floor(8 * share).astype(int)))
  assert strips == [{0, 1, 3, 4, 6, 7}, {2, 5}]
  seeds = [
    set(np.asarray(task.appearance.texture_seeds).ravel()) - {0}
    for task in (train, test)
  ]
  assert not seeds[0] & seeds[1]


def test_suites_hold_out_whole_families():
  for suite in SUITES.values():
    assert not set(suite.train) & set(suite.test)
    assert set(suite.train) | set(suite.test) <= set(FAMILIES)
  for name in ('ml10_official', 'ml10_dmil'):
    assert (len(SUITES[name].train), len(SUITES[name].test)) == (10, 5)
  envs = make_suite('ml10_official', 100, physics='c')
  sizes = {
    env.spec.observation_size
    for env in [*envs.train.values(), *envs.test.values()]
  }
  assert sizes == {39}
  assert envs.test['lever_pull'].spec.horizon == 100


def test_rewards_of_guided_pushing_and_of_the_door_by_hand():
  env = guided_push(physics='c')
  task = env.sample_task(jax.random.key(0))
  state = step_for(env, env.reset(task, jax.random.key(1)), [0, 1, 0], 20)
  hand, block = np.split(np.asarray(state.observation), 2)
  tips = hand - [0, 0, 0.035]
  start = np.linalg.norm(np.array([0, 0.52]) - task.goal)
  expected = -np.linalg.norm(block - tips) + 100 * (
    start - np.linalg.norm(block[:2] - task.goal)
  )
  assert expected > 1.0
  np.testing.assert_allclose(state.reward, expected, rtol=1e-3)

  env = guided_door(physics='c')
  task = env.sample_task(jax.random.key(0)).replace(angle=jnp.asarray(0.5))
  state = env.reset(task, jax.random.key(1))
  np.testing.assert_allclose(state.observation[3:], [0, 0.92, 0.14], atol=1e-4)
  for angle, reward in ((0.3, 3.0), (0.7, 3.0), (1.2, 0.0)):
    # The hand at the handle, wherever that is.
    model = env.model
    handle = mechanism_point(model, angle) + np.array([-0.25, 1.0, 0.0])
    beside = handle + [0.0, 0.04, 0.035]
    qpos = state.physics.qpos.at[-1].set(angle).at[:3].set(beside)
    moved = state.replace(
      physics=state.physics._replace(qpos=qpos),
      memory=state.memory.replace(setpoint=jnp.asarray(beside, jnp.float32)),
    )
    after = env.step(moved, jnp.array([0.0, 0.0, 0.0, -1.0]))
    np.testing.assert_allclose(after.reward, reward, atol=0.1)
  # The hand far above, the door half open: no reward.
  qpos = state.physics.qpos.at[-1].set(0.4).at[2].set(0.4)
  far = state.replace(
    physics=state.physics._replace(qpos=qpos),
    memory=state.memory.replace(setpoint=qpos[:3]),
  )
  assert env.step(far, jnp.zeros((4,))).reward == 0.0


def test_the_drawn_arm_ends_at_the_wrist():
  hand = jnp.array([0.2, 0.6, 0.15])
  elbow, upper, lower = arm_pose(hand)
  ends = []
  for start, quat in (((0.0, 0.1, 0.317), upper), (elbow, lower)):
    matrix = np.zeros(9)
    mujoco.mju_quat2Mat(matrix, np.asarray(quat, np.float64))
    ends.append(np.asarray(start) + 0.4 * matrix.reshape(3, 3)[:, 2])
  np.testing.assert_allclose(ends[0], elbow, atol=1e-5)
  np.testing.assert_allclose(ends[1], hand + jnp.array([0, 0, 0.24]), atol=1e-5)


def test_unknown_families_are_named():
  with pytest.raises(InputError, match='name: expected one of reach, .*swim'):
    make_sawyer('swim', physics='c')
