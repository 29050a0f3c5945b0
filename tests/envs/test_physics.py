"""The engine in JAX against the one in C, and what compiles it."""

import time

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from metajax.core.algorithm import SKIPPED, Algorithm
from metajax.core.compilation import CPU_PHYSICS_OPTIONS, compile_hot
from metajax.core.validation import InputError
from metajax.envs.engines import load_model, make_physics
from metajax.envs.physics import field_of, tree_velocity
from metajax.run.loop import run
from metajax.run.schedule import Schedule


def chain(num_links):
  """Hinged links, each hanging from the last, as an arm's or a rope's."""
  link = (
    '<body pos="0 0 {pos}"><joint type="hinge" axis="{axis}" damping="0.1"/>'
    '<geom type="capsule" fromto="0 0 0 0 0 -0.1" size="0.02"'
    ' contype="0" conaffinity="0"/>'
  )
  links = ''.join(
    link.format(pos=-0.1 if i else 1.0, axis=('0 1 0', '1 0 0')[i % 2])
    for i in range(num_links)
  )
  return mujoco.MjModel.from_xml_string(
    f'<mujoco><worldbody>{links}{"</body>" * num_links}</worldbody></mujoco>'
  )


@pytest.fixture(scope='module')
def cheetah():
  return load_model('half_cheetah.xml')


@pytest.fixture(scope='module')
def c_trajectory(cheetah):
  """One hundred (state, control, next state, in contact?) of C MuJoCo."""
  data = mujoco.MjData(cheetah)
  generator = np.random.default_rng(0)
  rows = []
  for i in range(500):
    data.ctrl[:] = generator.uniform(-1, 1, cheetah.nu)
    before = [
      np.array(x)
      for x in (data.qpos, data.qvel, data.qacc_warmstart, data.ctrl)
    ]
    mujoco.mj_step(cheetah, data)
    if i % 5 == 0:
      rows.append((*before, data.qpos.copy(), data.qvel.copy(), data.ncon > 0))
  return [np.stack(column) for column in zip(*rows, strict=True)]


def test_one_step_equals_c_mujoco(cheetah, c_trajectory):
  qpos, qvel, warmstart, ctrl, next_qpos, next_qvel, touches = c_trajectory
  physics = make_physics(cheetah)

  def step(qpos, qvel, warmstart, ctrl):
    state = physics.reset(qpos, qvel)._replace(qacc_warmstart=warmstart)
    return physics.step(state, ctrl)[0]

  inputs = [jnp.asarray(x, jnp.float32) for x in (qpos, qvel, warmstart, ctrl)]
  state = compile_hot(jax.vmap(step), holds_physics=True)(*inputs)
  position_error = np.abs(state.qpos - next_qpos).max(axis=1)
  velocity_error = np.linalg.norm(
    state.qvel - next_qvel, axis=1
  ) / np.linalg.norm(next_qvel, axis=1)
  assert 10 < touches.sum() < 90, 'the trajectory shows one kind of state only'
  assert position_error[~touches].max() < 1e-6
  assert velocity_error[~touches].max() < 1e-5
  assert position_error[touches].max() < 1e-5
  assert velocity_error[touches].max() < 1e-4


def test_measured_velocity_is_that_of_c_mujoco(cheetah, c_trajectory):
  qpos, qvel = c_trajectory[:2]
  physics = make_physics(cheetah)

  def measure(qpos, qvel):
    data = physics.measure(physics.reset(qpos, qvel))
    masses = field_of(physics, 'body_mass')
    return data.subtree_com[1], tree_velocity(data, masses)

  centres, velocities = compile_hot(jax.vmap(measure), holds_physics=True)(
    qpos[:10], qvel[:10]
  )
  data = mujoco.MjData(cheetah)
  for i in range(10):
    data.qpos[:], data.qvel[:] = qpos[i], qvel[i]
    mujoco.mj_forward(cheetah, data)
    mujoco.mj_subtreeVel(cheetah, data)
    np.testing.assert_allclose(centres[i], data.subtree_com[1], atol=1e-6)
    np.testing.assert_allclose(velocities[i], data.subtree_linvel[1], atol=1e-5)


def test_a_task_s_gear_turns_the_joint_that_many_times_as_hard():
  """One link without gravity or damping: its speed is linear in the torque."""
  model = mujoco.MjModel.from_xml_string(
    '<mujoco><option gravity="0 0 0"/><worldbody><body>'
    '<joint name="hinge" axis="0 1 0"/><geom size="0.1" mass="2"/>'
    '</body></worldbody><actuator><motor joint="hinge" gear="1"/></actuator>'
    '</mujoco>'
  )
  physics = make_physics(model)
  start = physics.reset(np.zeros(1), np.zeros(1))

  def speed(gear):
    fields = {'actuator_gear': jnp.zeros((1, 6)).at[0, 0].set(gear)}
    state, _ = physics.step(start, jnp.ones((1,)), model_fields=fields)
    return state.qvel[0]

  once, twice = compile_hot(jax.vmap(speed), holds_physics=True)(
    jnp.array([1.0, 2.0])
  )
  inertia = 0.4 * 2 * 0.1**2
  np.testing.assert_allclose(once, model.opt.timestep / inertia, rtol=1e-5)
  np.testing.assert_allclose(twice, 2 * once, rtol=1e-5)


@pytest.mark.slow
def test_model_fields_equal_a_recompiled_model(cheetah):
  edited = load_model('half_cheetah.xml')
  edited.actuator_gear[1, 0] = 0.0
  edited.pair_friction[:, :2] = 0.05
  fields = {
    'actuator_gear': jnp.asarray(edited.actuator_gear, jnp.float32),
    'pair_friction': jnp.asarray(edited.pair_friction, jnp.float32),
  }
  original, recompiled = make_physics(cheetah), make_physics(edited)
  start = original.reset(
    cheetah.qpos0 - np.eye(cheetah.nq)[1] * 0.1, np.ones(cheetah.nv) * 0.3
  )
  ctrl = jnp.full((cheetah.nu,), 0.8)

  def advance(model_fields):
    return original.step(
      start, ctrl, num_substeps=30, model_fields=model_fields
    )[0]

  replaced = compile_hot(advance, holds_physics=True)(fields)
  same = {
    name: jnp.asarray(getattr(cheetah, name), jnp.float32) for name in fields
  }
  unchanged = compile_hot(advance, holds_physics=True)(same)
  expected = compile_hot(
    lambda: recompiled.step(start, ctrl, num_substeps=30)[0],
    holds_physics=True,
  )()
  np.testing.assert_allclose(replaced.qpos, expected.qpos, atol=1e-5)
  assert np.abs(replaced.qpos - unchanged.qpos).max() > 1e-2


def test_substeps_and_forces():
  """A free ball under a force: `x_n = a dt^2 n (n + 1) / 2`, by hand."""
  ball = mujoco.MjModel.from_xml_string(
    '<mujoco><option gravity="0 0 0" timestep="0.01"/><worldbody>'
    '<body><freejoint/><geom size="0.1" mass="2"/></body>'
    '</worldbody></mujoco>'
  )
  physics = make_physics(ball)
  forces = jnp.zeros((2, 6)).at[1, 0].set(3.0)
  state, _ = physics.step(
    physics.reset(ball.qpos0, jnp.zeros((6,))),
    jnp.zeros((0,)),
    num_substeps=4,
    body_forces=forces,
  )
  np.testing.assert_allclose(state.qvel[0], 1.5 * 0.04, rtol=1e-5)
  np.testing.assert_allclose(state.qpos[0], 1.5e-4 * 10, rtol=1e-5)


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'actuator_gears': jnp.zeros((6, 6))}, 'model_fields: .*actuator_gears'),
    ({'jnt_type': jnp.zeros((9,))}, 'model_fields: .*jnt_type'),
    ({'actuator_gear': jnp.zeros((6,))}, 'actuator_gear.*shape'),
  ],
)
def test_unknown_model_fields_are_named(cheetah, fields, message):
  physics = make_physics(cheetah)
  state = physics.reset(cheetah.qpos0)
  with pytest.raises(InputError, match=message):
    physics.measure(state, model_fields=fields)


def test_unknown_model_files_are_named():
  with pytest.raises(InputError, match='half_cheetah.xml.*, got .unicorn.xml'):
    load_model('unicorn.xml')


@pytest.mark.slow
def test_chains_need_the_options_that_hot_programs_get():
  """Seven links: 600 times slower with the backend's own options."""
  if jax.default_backend() != 'cpu':
    pytest.skip('the options are for the CPU')
  model = chain(7)
  physics = make_physics(model)
  start = physics.reset(np.full(model.nq, 0.1), np.zeros(model.nv))

  def swing(state):
    return physics.step(state, jnp.zeros((0,)), num_substeps=40)[0]

  def seconds(compiled):
    jax.block_until_ready(compiled(start))
    times = []
    for _ in range(3):
      before = time.perf_counter()
      jax.block_until_ready(compiled(start))
      times.append(time.perf_counter() - before)
    return min(times)

  hot = seconds(compile_hot(swing, holds_physics=True))
  plain = seconds(jax.jit(swing))
  assert plain > 10 * hot, f'plain {plain:.2e} s, hot {hot:.2e} s'


@pytest.mark.parametrize('holds_physics', [True, False])
def test_runs_compile_physics_with_those_options(monkeypatch, holds_physics):
  if jax.default_backend() != 'cpu':
    pytest.skip('the options are for the CPU')
  options = []
  plain_jit = jax.jit

  def recording_jit(*args, compiler_options=None, **kwargs):
    options.append(compiler_options)
    return plain_jit(*args, compiler_options=compiler_options, **kwargs)

  algorithm = Algorithm(
    data=(),
    init=lambda data, key: jnp.zeros(()),
    step=lambda data, state, key: (state + 1, {SKIPPED: jnp.zeros(())}),
    evaluate=lambda data, state, key: {'state': jnp.full((2,), state)},
    holds_physics=holds_physics,
  )
  monkeypatch.setattr(jax, 'jit', recording_jit)
  run(algorithm, Schedule(num_steps=2, log_every=1), quiet=True)
  # At least to begin, to go on, to evaluate.
  assert len(options) >= 3
  expected = CPU_PHYSICS_OPTIONS if holds_physics else None
  assert all(given == expected for given in options)
