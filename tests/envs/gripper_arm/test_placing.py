"""Placing, pick-and-place and pushing: arm, things, rewards, both bodies."""

import functools

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from metajax.core.compilation import compile_hot
from metajax.core.validation import InputError
from metajax.envs.engines import make_physics
from metajax.envs.environment import EnvSpec
from metajax.envs.gripper_arm.control import (
  find_carrier,
  resolved_rates,
)
from metajax.envs.gripper_arm.demonstrator_hand import demonstrator_hand
from metajax.envs.gripper_arm.objects import (
  container_shapes,
  first_and_last,
  object_shapes,
)
from metajax.envs.gripper_arm.placing import pick_and_place, placing
from metajax.envs.gripper_arm.pushing import gripper_pushing
from metajax.envs.kinematics import jacobian
from metajax.testing.environments import check_environment

FAMILIES = {
  'placing': placing,
  'pick_and_place': pick_and_place,
  'gripper_pushing': gripper_pushing,
}
HANDS = {
  f'hand_{family}': functools.partial(demonstrator_hand, family)
  for family in FAMILIES
}
# Colours; and what follows from masses, read for resting contacts or by one
# of the engines alone.
SILENT = (
  '.appearance.geom_rgba',
  '.appearance.texture_seeds',
  '.appearance.light.direction',
  '.appearance.light.ambient',
  '.appearance.light.sky',
  ".model_fields['dof_M0']",
  ".model_fields['dof_invweight0']",
  ".model_fields['body_invweight0']",
  ".model_fields['body_subtreemass']",
)


@functools.cache
def build(name):
  return {**FAMILIES, **HANDS}[name](physics='c')


def first_task(env, seed=0):
  return jax.jit(env.sample_task)(jax.random.key(seed))


def many(sample):
  keys = jax.random.split(jax.random.key(0), 300)
  return jax.jit(jax.vmap(sample))(keys)


# One of each robot; the others are slow only together.
@pytest.mark.slow
@pytest.mark.parametrize('name', [*FAMILIES, *HANDS])
def test_families_keep_the_contract(name):
  check_environment(build(name), num_envs=8, num_steps=20, silent_fields=SILENT)


@pytest.mark.slow
def test_placing_keeps_the_contract_on_mjx():
  check_environment(
    placing(physics='mjx'), num_envs=4, num_steps=10, silent_fields=SILENT
  )


@pytest.mark.parametrize(
  ('name', 'size', 'horizon'),
  [
    ('placing', 57, 30),
    ('pick_and_place', 57, 80),
    ('gripper_pushing', 55, 50),
    ('hand_placing', 55, 80),
    ('hand_pick_and_place', 55, 80),
    ('hand_gripper_pushing', 53, 80),
  ],
)
def test_specs(name, size, horizon):
  spec = build(name).spec
  assert spec == EnvSpec(name, size, 7, horizon, 0.1)


@pytest.mark.parametrize('name', ['placing', 'hand_placing'])
def test_the_jacobian_is_that_of_c_mujoco(name):
  model = build(name).model
  posture = model.numeric('start_above').data
  carrier = find_carrier(model, posture, ((-1, -1, -1), (1, 1, 1)))
  world = make_physics(model, 'c')
  qpos = model.qpos0.copy()
  qpos[: len(posture)] = posture + 0.2
  measured = world.measure(world.reset(qpos))
  data = mujoco.MjData(model)
  data.qpos[:] = qpos
  mujoco.mj_forward(model, data)
  expected = np.zeros((6, model.nv))
  mujoco.mj_jacSite(model, data, expected[:3], expected[3:], carrier.tool)
  rows = jacobian(carrier.chain, measured, measured.site_xpos[carrier.tool])
  np.testing.assert_allclose(rows, expected[:, : len(posture)], atol=1e-5)
  twist = jnp.array([0.1, -0.2, 0.05, 0.3, 0.0, -0.4])
  rates = resolved_rates(rows, twist, jnp.zeros((len(posture),)))
  np.testing.assert_allclose(rows @ rates, twist, atol=0.02)


@pytest.mark.parametrize(
  ('name', 'speed'), [('placing', 0.3), ('hand_placing', None)]
)
def test_the_hand_moves_as_commanded(name, speed):
  """Four tenths of the limit to the left, ten steps: not far from v t."""
  env = build(name)
  num_joints = (env.spec.observation_size - 43) // 2
  point = slice(2 * num_joints, 2 * num_joints + 3)

  def move(task, key):
    first = env.reset(task, key)
    action = jnp.zeros((7,)).at[1].set(0.4).at[6].set(1.0)
    last, _ = jax.lax.scan(
      lambda state, _: (env.step(state, action), None), first, length=10
    )
    return last.observation[point] - first.observation[point]

  task = first_task(env)
  moved = compile_hot(move)(task, jax.random.key(1))
  limit = task.speed if speed is None else speed
  # The servos lag by some hundredths of a second.
  np.testing.assert_allclose(moved[1], 0.4 * limit, rtol=0.1)
  np.testing.assert_allclose(moved[jnp.array([0, 2])], 0.0, atol=0.01)


@pytest.mark.parametrize('name', ['placing', 'hand_placing'])
def test_a_firm_hand_holds_its_object(name):
  env = build(name)
  own = env.spec.observation_size - 27

  def hold(seed, grip):
    task = env.sample_task(jax.random.key(seed))
    first = env.reset(task, jax.random.key(100 + seed))
    action = jnp.zeros((7,)).at[6].set(grip)
    last, _ = jax.lax.scan(
      lambda state, _: (env.step(state, action), None), first, length=20
    )
    heights = first.observation[own + 2], last.observation[own + 2]
    return heights[0] - heights[1]

  falls = compile_hot(jax.vmap(jax.vmap(hold, (None, 0)), (0, None)))(
    jnp.arange(8), jnp.array([1.0, -1.0])
  )
  assert falls[:, 0].max() < 0.015
  assert falls[:, 1].min() > 0.05


def test_success_and_reward_by_hand():
  """The object stands in the target, then in another, then is held there."""
  env = build('pick_and_place')
  task = first_task(env)
  state = env.reset(task, jax.random.key(0))
  target = int(task.target)
  half = task.model_fields['geom_size'][env.model.geom('object_body').id]

  def judged(container, height=0.0):
    place = state.physics.mocap_pos[container]
    pose = jnp.concatenate(
      [place[:2] + 0.01, (half[2] + height)[None], jnp.array([1.0, 0, 0, 0])]
    )
    qpos = state.physics.qpos.at[-7:].set(pose)
    moved = state.replace(physics=state.physics._replace(qpos=qpos))
    return env.step(moved, jnp.zeros((7,)).at[6].set(-1.0))

  there, elsewhere = judged(target), judged((target + 1) % 3)
  lifted = judged(target, 0.2)
  assert there.metrics['success'] == 1.0
  assert there.metrics['nearest_is_target'] == 1.0
  assert elsewhere.metrics['success'] == 0.0
  assert elsewhere.metrics['nearest_is_target'] == 0.0
  assert lifted.metrics['success'] == 0.0
  np.testing.assert_allclose(
    there.metrics['object_to_target_m'], 0.01 * np.sqrt(2), atol=2e-3
  )
  np.testing.assert_allclose(
    there.reward,
    1.0
    - there.metrics['object_to_target_m']
    - there.metrics['hand_to_object_m'],
    rtol=1e-6,
  )


def test_the_target_decides_which_container_counts():
  env = build('placing')
  task = first_task(env)
  distances = []
  for target in range(3):
    own = task.replace(target=jnp.asarray(target, jnp.int32))
    state = env.reset(own, jax.random.key(3))
    centre = state.observation[30:33]
    place = state.physics.mocap_pos[target]
    distances.append(float(state.metrics['object_to_target_m']))
    np.testing.assert_allclose(
      distances[-1], np.linalg.norm(centre[:2] - place[:2]), rtol=1e-4
    )
  assert len(set(distances)) == 3


def test_pushing_past_the_left_finger_is_success():
  env = build('gripper_pushing')
  task = first_task(env)
  state = env.reset(task, jax.random.key(0))
  line = state.physics.mocap_pos[0, 1]
  start = 9 + 3 * int(task.target)
  for ahead, success in ((0.04, 1.0), (0.06, 0.0), (-0.1, 1.0)):
    qpos = state.physics.qpos.at[start + 1].set(line - ahead)
    moved = state.replace(physics=state.physics._replace(qpos=qpos))
    after = env.step(moved, jnp.zeros((7,)))
    assert after.metrics['success'] == success
    np.testing.assert_allclose(
      after.metrics['target_to_line_m'], ahead, atol=1e-4
    )
    np.testing.assert_allclose(
      after.reward,
      success - max(ahead, 0.0) - 0.5 * after.metrics['hand_to_target_m'],
      atol=1e-4,
    )


@pytest.mark.parametrize('name', ['placing', 'gripper_pushing'])
def test_what_follows_from_masses_is_what_the_compiler_derives(name):
  env = build(name)
  task = first_task(env, 5)
  model = env.model
  expected = {key: getattr(model, key).copy() for key in task.model_fields}
  try:
    for key in ('body_mass', 'body_inertia'):
      getattr(model, key)[:] = task.model_fields[key]
    mujoco.mj_setConst(model, mujoco.MjData(model))
    derived = {
      key: getattr(model, key).copy()
      for key in task.model_fields
      if key.startswith(('body_', 'dof_'))
    }
  finally:
    for key, value in expected.items():
      getattr(model, key)[:] = value
    mujoco.mj_setConst(model, mujoco.MjData(model))
  for key in set(derived) - {'dof_frictionloss'}:
    np.testing.assert_allclose(
      task.model_fields[key], derived[key], rtol=1e-3, err_msg=key
    )


@pytest.mark.parametrize('family', FAMILIES)
def test_equal_keys_draw_equal_things_for_both_bodies(family):
  """A demonstration by the hand belongs to a task of the robot."""
  robot, hand = build(family), build(f'hand_{family}')
  for sample in ('sample_task', 'sample_test_task'):
    tasks = [
      jax.jit(getattr(env, sample))(jax.random.key(7)) for env in (robot, hand)
    ]
    assert tasks[0].target == tasks[1].target
    assert tasks[0].speed is None
    assert 0.2 <= tasks[1].speed <= 0.4
    things = [
      [
        i
        for i in range(env.model.nbody)
        if 'object' in env.model.body(i).name
        or 'container' in env.model.body(i).name
      ]
      for env in (robot, hand)
    ]
    for field in ('geom_size', 'geom_pos'):
      values = [
        task.model_fields[field][np.isin(env.model.geom_bodyid, bodies)]
        for task, env, bodies in zip(tasks, (robot, hand), things, strict=True)
      ]
      np.testing.assert_array_equal(*values)
    np.testing.assert_array_equal(
      *[task.model_fields['pair_friction'] for task in tasks]
    )


def test_things_are_many_and_the_splits_apart():
  ranges = [
    first_and_last(split, 12, 15)
    for split in ('training', 'validation', 'test')
  ]
  assert ranges == [(0, 100), (100, 112), (112, 127)]
  indices = jnp.arange(127)
  containers = container_shapes(indices)['half_sizes']
  objects = object_shapes(indices, (0.02,) * 3, (0.03,) * 3)['half_sizes']
  for sizes in (containers, objects):
    assert len(np.unique(np.asarray(sizes), axis=0)) == 127
  env = build('placing')
  plates = [env.model.geom(f'container_{i}_plate').id for i in range(3)]
  found = []
  for sample in (env.sample_task, env.sample_test_task):
    tasks = many(sample)
    sizes = tasks.model_fields['geom_size'][:, jnp.array(plates), 0]
    found.append(set(np.asarray(sizes).ravel().tolist()))
    assert all(len(set(row)) == 3 for row in np.asarray(sizes).tolist())
    seeds = tasks.appearance.texture_seeds[:, jnp.array(plates)]
    assert (seeds.min() < 1001) == (sample is env.sample_task)
  assert len(found[0]) == 100
  assert len(found[1]) == 15
  assert not found[0] & found[1]


@pytest.mark.slow
def test_demonstrators_are_apart():
  """Size, skin and sleeve of held-out hands occur in no training task."""
  env = build('hand_placing')
  model = env.model
  fingers, palm = model.body('fingers').id, model.geom('palm').id
  sleeve = model.geom('sleeve').id
  scales, skins, seeds = [], [], []
  for sample in (env.sample_task, env.sample_test_task):
    tasks = many(sample)
    lengths = tasks.model_fields['body_pos'][:, fingers, 0]
    scales.append(lengths / model.body_pos[fingers, 0])
    skins.append(tasks.appearance.geom_rgba[:, palm, 0])
    seeds.append(tasks.appearance.texture_seeds[:, sleeve])
  assert scales[0].max() < 1.09 < scales[1].min()
  assert seeds[0].max() < 1000 <= seeds[1].min()
  held_out = (skins[1].min() - 1e-6, skins[1].max() + 1e-6)
  inside = (skins[0] > held_out[0]) & (skins[0] < held_out[1])
  assert not inside.any()
  assert skins[0].min() < held_out[0] < held_out[1] < skins[0].max()


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (lambda: placing(horizon=0), 'horizon'),
    (lambda: gripper_pushing(held_out='training'), 'held_out'),
    (lambda: demonstrator_hand('reaching'), 'family'),
  ],
)
def test_bad_arguments_are_named(make, message):
  with pytest.raises(InputError, match=message):
    make()
