"""The Jaco over its table: what it is told, what it can do, what pays."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.core.compilation import compile_hot
from metajax.core.validation import InputError
from metajax.envs.engines import load_model, make_physics
from metajax.envs.jaco.stacking import jaco
from metajax.testing.environments import check_environment

_COLOURS = ('.appearance.geom_rgba', '.appearance.texture_seeds')
_HAND, _TARGET, _OTHER = slice(18, 21), slice(24, 27), slice(37, 40)

build = functools.cache(functools.partial(jaco, physics='c'))


@functools.cache
def functions_of(env):
  return jax.jit(env.reset), jax.jit(env.step), jax.jit(env.sample_task)


def begin(env, seed=0, *, target=None):
  reset, _, sample = functions_of(env)
  task = sample(jax.random.key(seed))
  if target is not None:
    task = task.replace(target=jnp.int32(target))
  return reset(task, jax.random.key(seed + 1))


def with_qpos(state, qpos):
  return state.replace(physics=state.physics._replace(qpos=jnp.asarray(qpos)))


def rest(env, state, num_steps=1, action=None):
  action = jnp.zeros((9,)) if action is None else action
  for _ in range(num_steps):
    state = functions_of(env)[1](state, action)
  return state


def test_it_keeps_the_contract():
  check_environment(build('stack'), num_envs=8, silent_fields=_COLOURS)


def test_without_blocks_the_observation_is_the_body():
  env = build('stack', observation='body')
  assert env.spec.observation_size == 24
  np.testing.assert_array_equal(
    begin(env).observation, begin(build('stack')).observation[:24]
  )


@pytest.mark.slow
def test_it_keeps_the_contract_on_mjx():
  """Two minutes of compiling."""
  check_environment(jaco(), num_envs=8, silent_fields=_COLOURS)


def test_sizes_and_times():
  env = build('stack')
  spec = env.spec
  assert (spec.name, spec.horizon) == ('jaco_stack', 600)
  assert (spec.observation_size, spec.action_size) == (50, 9)
  assert spec.control_period_s == pytest.approx(0.05)
  assert set(begin(env).metrics) == {
    'stage',
    'success',
    'hand_distance_m',
    'height_m',
    'stack_offset_m',
    'stack_gap_m',
  }
  with pytest.raises(InputError, match='stage: .*reach, lift, stack.*push'):
    jaco('push')


def test_it_begins_anywhere_over_the_table():
  env = build('stack')
  reset, _, sample = functions_of(env)
  task = sample(jax.random.key(0))
  keys = jax.random.split(jax.random.key(1), 500)
  told = np.asarray(jax.vmap(lambda key: reset(task, key))(keys).observation)
  hands, blocks = told[:, _HAND], told[:, _TARGET]
  low, high = [0.33, -0.15, 0.12], [0.57, 0.15, 0.28]
  # Interpolated joints place the hand to 1 mm.
  assert (hands > np.array(low) - 1e-3).all()
  assert (hands < np.array(high) + 1e-3).all()
  np.testing.assert_allclose(hands.min(axis=0), low, atol=0.01)
  np.testing.assert_allclose(hands.max(axis=0), high, atol=0.01)
  np.testing.assert_allclose(blocks[:, :2].min(axis=0), [0.3, -0.15], atol=0.01)
  np.testing.assert_allclose(blocks[:, :2].max(axis=0), [0.6, 0.15], atol=0.01)
  distances = np.linalg.norm(blocks - told[:, _OTHER], axis=1)
  assert 0.09 <= distances.min() < 0.1


def test_joints_move_as_fast_as_they_are_told():
  env = build('stack')
  start = begin(env)
  for joint, speed in ((0, 0.6283), (1, 0.6283), (3, 0.8378), (5, 0.8378)):
    action = jnp.zeros((9,)).at[joint].set(-3.0)  # acts as -1
    state = rest(env, start, 10, action)
    velocities = np.asarray(state.physics.qvel[:6])
    assert velocities[joint] == pytest.approx(-speed, rel=0.02)
    assert np.abs(np.delete(velocities, joint)).max() < 0.02
  # Fingers lose some speed to the friction of their gears.
  state = rest(env, start, 4, jnp.zeros((9,)).at[6:].set(1.0))
  velocities = np.asarray(state.physics.qvel[6:9])
  assert ((velocities > 0.8) & (velocities < 1.0)).all()


def test_the_arm_does_not_sag():
  env = build('stack')
  start = begin(env)
  after = rest(env, start, 100)
  moved = np.asarray(after.observation - start.observation)
  assert np.abs(moved[_HAND]).max() < 1e-4


def test_the_hand_s_velocity_is_how_its_position_changes():
  env = build('stack')
  action = jnp.array([0.5, -0.5, 0.5, 0.3, -0.4, 0.2, 0.0, 0.0, 0.0])
  rows = [begin(env)]
  for _ in range(12):
    rows.append(rest(env, rows[-1], 1, action))
  told = np.stack([row.observation for row in rows])
  measured = (told[12, _HAND] - told[10, _HAND]) / 0.1
  np.testing.assert_allclose(told[11, 21:24], measured, atol=2e-3)


def test_the_target_is_told_first_and_is_the_red_one():
  env = build('stack')
  seen = set()
  for seed in range(8):
    state = begin(env, seed)
    target = int(state.task.target)
    seen.add(target)
    blocks = np.asarray(state.physics.qpos[9:]).reshape(2, 7)
    told = np.asarray(state.observation)
    np.testing.assert_array_equal(told[24:31], blocks[target])
    np.testing.assert_array_equal(told[37:44], blocks[1 - target])
    for block in range(2):
      geom = env.model.geom(f'block_{block}').id
      red, _, blue = np.asarray(state.task.appearance.geom_rgba)[geom, :3]
      assert (red > blue) == (block == target)
  assert seen == {0, 1}


# The hand at (0.45, 0) m, 0.035 m and 0.2 m above the table.
_LOW_ARM = (-0.0218, 2.4196, 4.9483, 0.0, 2.5287, -0.0218)
_HIGH_ARM = (-0.0218, 2.692, 4.771, 0.0, 2.078, -0.0218)


def scene(arm, target, other=(0.3, 0.3, 0.025)):
  return np.array(
    [*arm, 0.4, 0.4, 0.4, *target, 1, 0, 0, 0, *other, 1, 0, 0, 0]
  )


@pytest.mark.parametrize(
  ('stage', 'pays'),
  [
    ('stack', (0.0, 0.125, 0.25, 1.0, 0.0, 0.0)),
    ('lift', (0.0, 0.125, 1.0, 0.0, 0.0, 0.0)),
    ('reach', (0.0, 1.0, 1.0, 0.0, 0.0, 0.0)),
  ],
)
def test_stages_pay(stage, pays):
  env = build(stage)
  start = begin(env, target=0)
  scenes = [
    scene(_HIGH_ARM, (0.45, 0.0, 0.025)),  # far below the hand
    scene(_LOW_ARM, (0.45, 0.0, 0.025)),  # in the hand
    scene(_HIGH_ARM, (0.45, 0.0, 0.2)),  # in the hand, in the air
    scene(_HIGH_ARM, (0.31, 0.305, 0.075)),  # stacked
    scene(_HIGH_ARM, (0.32, 0.305, 0.075)),  # too far aside
    scene(_HIGH_ARM, (0.3, 0.3, 0.11)),  # falling onto the other
  ]
  for qpos, expected in zip(scenes, pays, strict=True):
    state = rest(env, with_qpos(start, qpos))
    assert float(state.reward) == pytest.approx(expected)
    assert float(state.metrics['success']) == float(expected == 1.0)


def test_distances_are_those_of_the_scene():
  env = build('stack')
  qpos = scene(_HIGH_ARM, (0.45, 0.0, 0.025), (0.45, -0.1, 0.025))
  # Turned by 45 degrees about x: it stands on an edge.
  qpos[12:16] = [np.cos(np.pi / 8), np.sin(np.pi / 8), 0, 0]
  qpos[11] = 0.5
  metrics = rest(env, with_qpos(begin(env, target=0), qpos)).metrics
  fallen = 9.81 * 0.005**2 * 55  # ten steps of semi-implicit Euler
  centre = 0.5 - fallen
  assert float(metrics['height_m']) == pytest.approx(
    centre - 0.025 * np.sqrt(2), abs=1e-4
  )
  assert float(metrics['stack_offset_m']) == pytest.approx(0.1, abs=1e-4)
  assert float(metrics['stack_gap_m']) == pytest.approx(
    centre - 0.075, abs=1e-4
  )
  assert float(metrics['hand_distance_m']) == pytest.approx(
    centre - 0.2, abs=1e-3
  )


@pytest.mark.parametrize(
  'engine', ['c', pytest.param('mjx', marks=pytest.mark.slow)]
)
def test_stacked_blocks_rest_for_ten_seconds(engine):
  model = load_model('jaco_stack.xml')
  world = make_physics(model, engine)
  qpos = scene(_HIGH_ARM, (0.305, 0.295, 0.075))
  qpos[12:16] = [np.cos(0.4), 0, 0, np.sin(0.4)]

  def rest_long(qpos):
    def one_second(state, _):
      state, _ = world.step(state, jnp.zeros((9,)), num_substeps=200)
      return state, state.qpos

    return jax.lax.scan(one_second, world.reset(qpos), length=10)[1]

  after = compile_hot(rest_long, holds_physics=world.needs_options)(qpos)
  np.testing.assert_allclose(after, np.tile(qpos, (10, 1)), atol=1e-3)


@pytest.mark.slow
def test_varied_blocks_weigh_what_their_size_says():
  env = build('stack', blocks='varied')
  model = env.model
  blocks = [model.body(f'block_{i}').id for i in range(2)]
  geoms = [model.geom(f'block_{i}').id for i in range(2)]
  for seed in range(3):
    state = begin(env, seed)
    fields = jax.tree.map(np.asarray, dict(state.task.model_fields))
    half = fields['geom_size'][geoms]
    assert ((half >= 0.02) & (half <= 0.03)).all()
    assert (half == half[:, :1]).all()
    density = fields['body_mass'][blocks] / (2 * half[:, 0]) ** 3
    assert ((density > 0.5 * 799) & (density < 2 * 801)).all()
    np.testing.assert_allclose(
      fields['body_inertia'][blocks, 0],
      fields['body_mass'][blocks] * (2 * half[:, 0]) ** 2 / 6,
      rtol=1e-5,
    )
    assert 0.7 <= fields['pair_friction'][0, 0] <= 1.3


@pytest.mark.slow
def test_blocks_rest_on_their_faces_and_slide_by_the_task_s_friction():
  """A third of its friction, or a cube would tip: `v^2 / (2 mu g)`."""
  env = build('stack', blocks='varied')
  state = begin(env)
  fields = dict(state.task.model_fields)
  fields['pair_friction'] = fields['pair_friction'] / 3
  half = fields['geom_size'][env.model.geom('block_0').id, 0]
  qpos = scene(_HIGH_ARM, (0.3, 0.3, half), (0.3, -0.4, 0.025))
  moving = with_qpos(state, qpos.astype(np.float32))
  qvel = jnp.zeros((21,)).at[9].set(0.8)
  moving = moving.replace(
    task=moving.task.replace(model_fields=fields),
    physics=moving.physics._replace(qvel=qvel),
  )
  after = np.asarray(rest(env, moving, 20).physics.qpos)
  pair = env.model.pair('block_0_table').id
  friction = float(fields['pair_friction'][pair, 0])
  way = 0.8**2 / (2 * friction * 9.81)
  assert after[9] - 0.3 == pytest.approx(way, rel=0.05)
  assert after[11] == pytest.approx(float(half), abs=5e-4)
