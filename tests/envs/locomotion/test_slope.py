"""The half-cheetah on slopes: planes are the ground that they stand for."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from metajax.core.validation import InputError
from metajax.envs.engines import load_model, make_physics
from metajax.envs.environment import held_out
from metajax.envs.locomotion.slope import SlopeTask, half_cheetah_slope
from metajax.envs.locomotion.terrain import (
  PROFILES,
  constant_slope,
  height_at,
  profile,
  random_ramps,
)
from metajax.envs.rollout import record_episode
from metajax.testing.environments import check_environment


@pytest.mark.slow
def test_slopes_keep_the_contract():
  """On ground that begins to differ where the robot stands."""

  def sample_task(key):
    return SlopeTask(
      heights=constant_slope(jax.random.uniform(key, minval=-0.2, maxval=0.2))
    )

  env = half_cheetah_slope(physics='c')
  assert env.spec[1:5] == (20, 6, 1000, 0.01)
  check_environment(
    env._replace(sample_task=sample_task), num_envs=8, num_steps=20
  )


def rotate(x, z, angle):
  cosine, sine = np.cos(angle), np.sin(angle)
  return cosine * x + sine * z, cosine * z - sine * x


def in_the_slopes_frame(state, angle):
  """Returns positions and velocities as on ground that is level there."""
  qpos, qvel = state.qpos, state.qvel
  x, height = rotate(qpos[0], qpos[1] + 0.7, angle)
  root = jnp.stack([x, height - 0.7, qpos[2] + angle])
  velocity = jnp.stack(rotate(qvel[0], qvel[1], angle))
  return qpos.at[:3].set(root), qvel.at[:2].set(velocity)


def test_a_constant_slope_is_level_ground_under_turned_gravity():
  """The planes against another scene, for 100 random actions."""
  gradient = 0.15
  angle = np.arctan(gradient)
  env = half_cheetah_slope(physics='c')
  level = make_physics(load_model('half_cheetah.xml'), 'c')
  gravity = 9.81 * jnp.array([-np.sin(angle), 0.0, -np.cos(angle)])
  task = SlopeTask(heights=constant_slope(gradient))
  first = env.reset(task, jax.random.key(0))

  def step(carry, action):
    on_slope, on_level = carry
    on_slope = env.step(on_slope, action)
    on_level, _ = level.step(
      on_level, action, model_fields={'opt.gravity': gravity}
    )
    return (on_slope, on_level), (
      *in_the_slopes_frame(on_slope.physics, angle),
      on_level.qpos,
      on_level.qvel,
    )

  start = level.reset(*in_the_slopes_frame(first.physics, angle))
  actions = jax.random.uniform(jax.random.key(1), (100, 6), minval=-1.0)
  _, (qpos, qvel, level_qpos, level_qvel) = jax.lax.scan(
    step, (first, start), actions
  )
  np.testing.assert_allclose(qpos, level_qpos, atol=1e-3)
  np.testing.assert_allclose(qvel, level_qvel, atol=1e-2)
  assert np.abs(np.diff(level_qpos[:, 3:], axis=0)).max() > 0.01, 'it moved'


def test_a_ball_rolls_down_a_plane_that_is_placed():
  """A placed plane against turned gravity, in C: a ball that slides."""
  scene = (
    '<mujoco><option timestep="0.002"/><worldbody>'
    '<body name="ground" mocap="true"><geom name="ground" type="plane"'
    ' size="1 1 1"/></body><body name="ball" pos="0 0 0.1"><freejoint/>'
    '<geom name="ball" size="0.1" mass="1"/></body></worldbody><contact>'
    '<pair geom1="ball" geom2="ground" friction="0.5 0.5"/></contact>'
    '</mujoco>'
  )
  model = mujoco.MjModel.from_xml_string(scene)
  angle = 0.3
  turned, tilted = mujoco.MjData(model), mujoco.MjData(model)
  tilted.mocap_quat[0] = [np.cos(angle / 2), 0, -np.sin(angle / 2), 0]
  tilted.qpos[:3] = [-0.1 * np.sin(angle), 0, 0.1 * np.cos(angle)]
  for _ in range(250):
    model.opt.gravity[:] = [0, 0, -9.81]
    mujoco.mj_step(model, tilted)
    model.opt.gravity[:] = [
      -9.81 * np.sin(angle),
      0,
      -9.81 * np.cos(angle),
    ]
    mujoco.mj_step(model, turned)
  x, z = rotate(tilted.qpos[0], tilted.qpos[2], angle)
  np.testing.assert_allclose([x, z], turned.qpos[[0, 2]], atol=1e-4)
  assert x < -0.1, 'it went down'


def test_the_robot_meets_the_profile_and_nothing_else():
  """Dropped anywhere, it comes to rest on the ground there."""
  env = half_cheetah_slope(150, physics='c')

  def settle(heights, x):
    task = SlopeTask(heights=heights)
    state = env.reset(task, jax.random.key(0))
    qpos = state.physics.qpos.at[0].add(x)
    qpos = qpos.at[1].add(height_at(heights, x) + 0.15)
    state = state.replace(
      physics=state.physics._replace(qpos=qpos), memory=state.memory + x
    )
    still = jnp.zeros(6)
    return jax.lax.scan(
      lambda state, _: (env.step(state, still), None), state, length=150
    )[0]

  # Before the hill, on its way up, on its way down, behind it.
  x = jnp.array([-1.0, 2.3, 5.3, 20.0])
  states = jax.jit(jax.vmap(settle, in_axes=(None, 0)))(profile('hill'), x)
  level = jax.jit(settle)(constant_slope(0.0), jnp.float32(0.0))
  ground = height_at(profile('hill'), states.physics.qpos[:, 0])
  above = np.asarray(states.physics.qpos[:, 1] - ground)
  np.testing.assert_allclose(above[[0, 3]], level.physics.qpos[1], atol=1e-3)
  np.testing.assert_allclose(above[[1, 2]], level.physics.qpos[1], atol=0.05)
  pitches = np.asarray(states.physics.qpos[:, 2])
  slope = np.arctan(0.2)
  np.testing.assert_allclose(
    pitches - pitches[0], [0, -slope, slope, 0], atol=0.05
  )


def test_the_drawn_ground_is_the_profile_around_the_robot():
  env = half_cheetah_slope(3, physics='c')
  heights = random_ramps(jax.random.key(2))
  states = record_episode(
    env,
    lambda observation, memory, key: (jnp.zeros(6), memory),
    SlopeTask(heights=heights),
    jax.random.key(0),
  )
  model = env.model
  pieces = [
    int(model.body_mocapid[i])
    for i in range(model.nbody)
    if model.body(i).name.startswith('terrain')
  ]
  places = np.asarray(states.physics.mocap_pos)[-1, pieces]
  np.testing.assert_allclose(np.diff(np.sort(places[:, 0])), 0.4, atol=1e-5)
  assert places[:, 0].min() < -2.5
  assert places[:, 0].max() > 2.5
  np.testing.assert_allclose(
    places[:, 2] + 0.1, height_at(heights, places[:, 0]), atol=0.01
  )


def test_held_out_profiles_are_apart_from_ramps():
  env = half_cheetah_slope(physics='c')
  keys = jax.random.split(jax.random.key(0), 100)
  tests = np.asarray(jax.vmap(held_out(env).sample_task)(keys).heights)
  keys = jax.random.split(jax.random.key(1), 100)
  trains = np.asarray(jax.vmap(env.sample_task)(keys).heights)
  known = np.stack([profile(name) for name in PROFILES])
  distances = np.abs(tests[:, None] - known[None]).max(axis=-1)
  assert (distances.min(axis=1) == 0).all()
  assert set(distances.argmin(axis=1)) == {0, 1, 2, 3}
  assert np.abs(trains[:, None] - known[None]).max(axis=-1).min() > 0.05


@pytest.mark.parametrize(
  'arguments', [{'horizon': 0}, {'test_profiles': ['alps']}]
)
def test_bad_arguments_are_named(arguments):
  with pytest.raises(InputError, match=next(iter(arguments))):
    half_cheetah_slope(**arguments, physics='c')
