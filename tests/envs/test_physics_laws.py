"""Both engines obey mechanics: what a task changes has its analytic effect."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.core.compilation import compile_hot
from metajax.envs.engines import compile_model, make_physics
from metajax.envs.mass_properties import mass_properties

_GRAVITY = 9.81

_SLIDING_SPHERE = """
<mujoco><option timestep="0.002" iterations="20" ls_iterations="20"/>
<worldbody><geom name="floor" type="plane" size="5 5 1" {tilt}/>
<body pos="0 0 0.1"><joint name="x" type="slide" axis="1 0 0"/>
<joint name="z" type="slide" axis="0 0 1"/>
<geom name="ball" size="0.1" mass="2" contype="0" conaffinity="0"/></body>
</worldbody><contact><pair geom1="ball" geom2="floor" condim="3"
friction="0.3 0.3 0.01 0.001 0.001" solref="0.01 1"/></contact></mujoco>"""

_MOTOR = """
<mujoco><option timestep="0.001" gravity="0 0 0"/><worldbody><body>
<joint name="slide" type="slide" axis="1 0 0"/>
<geom size="0.1" mass="2" contype="0" conaffinity="0"/></body></worldbody>
<actuator><motor joint="slide" gear="3"/></actuator></mujoco>"""


@pytest.fixture(params=['mjx', 'c'], scope='module')
def engine(request):
  return request.param


def advance(physics, state, num_steps, ctrl=(), **given):
  def steps(state, given):
    ctrl_now = jnp.asarray(ctrl, jnp.float32).reshape(-1)
    return physics.step(state, ctrl_now, num_substeps=num_steps, **given)[0]

  return compile_hot(steps, holds_physics=physics.needs_options)(state, given)


@pytest.mark.parametrize('friction', [0.3, 0.15])
def test_a_sphere_slides_to_rest_where_friction_says(engine, friction):
  model = compile_model(_SLIDING_SPHERE.format(tilt=''))
  physics = make_physics(model, engine)
  speed = 1.2
  state = physics.reset(model.qpos0, jnp.array([speed, 0.0]))
  fields = jnp.asarray(model.pair_friction, jnp.float32)
  fields = {'pair_friction': fields.at[0, :2].set(friction)}
  stopped = advance(physics, state, 800, model_fields=fields)
  # v^2 / (2 mu g): it cannot roll, for it has no hinge.
  np.testing.assert_allclose(
    stopped.qpos[0], speed**2 / (2 * friction * _GRAVITY), rtol=0.05
  )
  assert abs(stopped.qvel[0]) < 1e-2


def test_a_slope_by_rotated_gravity_equals_a_tilted_plane(engine):
  angle = 0.5  # steeper than friction holds
  flat = compile_model(_SLIDING_SPHERE.format(tilt=''))
  tilted = compile_model(
    _SLIDING_SPHERE.format(tilt=f'euler="0 {np.degrees(angle)} 0"')
  )
  cosine, sine = np.cos(angle), np.sin(angle)
  physics = make_physics(flat, engine)
  gravity = _GRAVITY * jnp.array([sine, 0.0, -cosine])
  by_gravity = advance(
    physics,
    physics.reset(flat.qpos0),
    250,
    model_fields={'opt.gravity': gravity},
  )
  other = make_physics(tilted, engine)
  # The sphere touches the tilted plane: its centre is 0.1 m off it.
  start = jnp.array([0.1 * sine, 0.1 * cosine - 0.1])
  by_plane = advance(other, other.reset(start), 250)
  along = (by_plane.qpos[0] - start[0]) * cosine - (
    by_plane.qpos[1] - start[1]
  ) * sine
  # a = g (sin - mu cos)
  expected = 0.5 * _GRAVITY * (sine - 0.3 * cosine) * 0.5**2
  np.testing.assert_allclose(by_gravity.qpos[0], expected, rtol=0.02)
  np.testing.assert_allclose(along, by_gravity.qpos[0], rtol=1e-5)


def test_gears_masses_and_forces_accelerate_as_newton_says(engine):
  model = compile_model(_MOTOR)
  physics = make_physics(model, engine)
  state = physics.reset(model.qpos0)
  gear = jnp.asarray(model.actuator_gear, jnp.float32)
  threefold = mass_properties(model)(
    3 * jnp.asarray(model.body_mass, jnp.float32),
    3 * jnp.asarray(model.body_inertia, jnp.float32),
  )
  force = jnp.zeros((2, 6)).at[1, 0].set(5.0)
  duration, ctrl = 0.2, 0.5
  for given, acceleration in (
    ({}, 3 * ctrl / 2),
    ({'model_fields': {'actuator_gear': gear.at[0, 0].set(7.0)}}, 7 * ctrl / 2),
    ({'model_fields': threefold}, 3 * ctrl / 6),
    ({'body_forces': force}, (3 * ctrl + 5.0) / 2),
  ):
    after = advance(physics, state, 200, ctrl=(ctrl,), **given)
    np.testing.assert_allclose(
      after.qvel[0], acceleration * duration, rtol=1e-3
    )


def test_a_world_that_goes_wrong_harms_no_other(engine):
  model = compile_model(_SLIDING_SPHERE.format(tilt=''))
  physics = make_physics(model, engine)

  def step(start, speed):
    state = physics.reset(start, jnp.array([speed, 0.0]))
    return physics.step(state, jnp.zeros((0,)), num_substeps=2)

  starts = jnp.tile(jnp.asarray(model.qpos0, jnp.float32), (4, 1))
  speeds = jnp.arange(4.0)
  batch = compile_hot(jax.vmap(step), holds_physics=physics.needs_options)
  good = batch(starts, speeds)
  bad = batch(starts.at[1].set(jnp.nan), speeds)
  for name in ('qpos', 'qvel'):
    one, other = getattr(good[0], name), getattr(bad[0], name)
    keep = np.array([0, 2, 3])
    np.testing.assert_array_equal(one[keep], other[keep])
    assert not np.isfinite(other[1]).all()


def test_c_mujoco_gives_up_a_world_that_it_would_reset():
  model = compile_model(_SLIDING_SPHERE.format(tilt=''))
  physics = make_physics(model, 'c')
  state = physics.reset(model.qpos0, jnp.array([1e12, 0.0]))
  after, measured = physics.step(state, jnp.zeros((0,)), num_substeps=3)
  assert np.isnan(after.qpos).all()
  assert np.isnan(measured.xpos).all()


def test_c_mujoco_batches_over_any_axes():
  """Tasks times episodes, own fields along one axis only, as one call."""
  model = compile_model(_MOTOR)
  physics = make_physics(model, 'c')
  gear = jnp.asarray(model.actuator_gear, jnp.float32)

  def final_speed(strength, ctrl):
    state, _ = physics.step(
      physics.reset(model.qpos0),
      ctrl[None],
      num_substeps=10,
      model_fields={'actuator_gear': gear * strength},
    )
    return state.qvel[0]

  strengths, ctrls = jnp.arange(1.0, 4.0), jnp.linspace(-1.0, 1.0, 5)
  grid = jax.jit(
    jax.vmap(jax.vmap(final_speed, in_axes=(None, 0)), in_axes=(0, None))
  )(strengths, ctrls)
  np.testing.assert_allclose(
    grid, 3 / 2 * strengths[:, None] * ctrls[None, :] * 0.01, rtol=1e-4
  )


def test_a_shape_stands_where_a_task_puts_it(engine):
  """Also one that the model has just where its body is."""
  model = compile_model(_MOTOR)
  physics = make_physics(model, engine)
  places = jnp.asarray(model.geom_pos, jnp.float32).at[0].set([0.0, 0.2, 0.3])
  measured = physics.measure(
    physics.reset(model.qpos0), model_fields={'geom_pos': places}
  )
  np.testing.assert_allclose(measured.geom_xpos[0], [0.0, 0.2, 0.3], atol=1e-6)
