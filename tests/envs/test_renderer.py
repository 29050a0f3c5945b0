"""Pictures: held to MuJoCo's rays, to geometry, and to what one expects."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.core.validation import InputError
from metajax.envs.appearance import Light, random_light
from metajax.envs.camera import camera_of, look_at, pixel_rays
from metajax.envs.catalogue import FAMILIES, make_environment
from metajax.envs.engines import make_physics
from metajax.envs.navigation import navigation
from metajax.envs.renderer import NOTHING, Scene, render
from metajax.envs.textures import PATTERNS, pattern_of
from metajax.envs.views import camera_view

HEIGHT, WIDTH = 36, 48
# One with textures, and one whose camera follows it, on every machine.
_SCENES = ('ant_velocity', 'placing')

build = functools.cache(functools.partial(make_environment, physics='c'))


def bodies():
  return [
    name if name in _SCENES else pytest.param(name, marks=pytest.mark.slow)
    for name in FAMILIES
  ]


def one_ball(texture_seed=0):
  """A ball of 0.5 m over a floor."""
  return Scene(
    positions=jnp.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]),
    orientations=jnp.broadcast_to(jnp.eye(3), (2, 3, 3)),
    sizes=jnp.array([[0.0, 0.0, 0.0], [0.5, 0.0, 0.0]]),
    colours=jnp.array([[0.5, 0.5, 0.5], [1.0, 0.0, 0.0]]),
    texture_seeds=jnp.array([0, texture_seed]),
    kinds=('plane', 'sphere'),
    geoms=(4, 7),
    has_textures=texture_seed > 0,
  )


def draw(scene, camera=None, **settings):
  camera = look_at(jnp.array([0.0, -4.0, 1.0]), jnp.array([0.0, 0.0, 1.0]))
  return render(scene, camera, height=HEIGHT, width=WIDTH, **settings)


@pytest.mark.parametrize('name', bodies())
def test_segmentation_and_depth_are_those_of_mujocos_rays(name):
  env = build(name)
  if env.model is None:
    pytest.skip('it has no body')
  mujoco = importlib.import_module('mujoco')
  state = env.reset(env.sample_task(jax.random.key(3)), jax.random.key(4))
  fields = env.fields_in(state)
  measured = make_physics(env.model, 'c').measure(
    state.physics, model_fields=fields
  )
  camera = camera_of(env.model, 'overview')(measured)
  picture = jax.jit(camera_view(env, height=HEIGHT, width=WIDTH))(state)
  model = importlib.import_module('copy').copy(env.model)
  for field, values in fields.items():
    getattr(model, field)[:] = np.asarray(values)
  data = mujoco.MjData(model)
  data.qpos[:] = state.physics.qpos
  data.mocap_pos[:] = state.physics.mocap_pos
  data.mocap_quat[:] = state.physics.mocap_quat
  mujoco.mj_forward(model, data)
  rays = pixel_rays(camera, HEIGHT, WIDTH)
  directions = np.stack([np.asarray(part, float) for part in rays], axis=-1)
  origin, geom = np.asarray(camera.position, float), np.zeros(1, np.int32)
  distances, geoms = np.zeros((2, HEIGHT, WIDTH))
  for row, column in np.ndindex(HEIGHT, WIDTH):
    distances[row, column] = mujoco.mj_ray(
      model, data, origin, directions[row, column], None, 1, -1, geom
    )
    geoms[row, column] = geom[0]
  agrees = geoms == np.asarray(picture.segmentation)
  assert agrees.mean() > 0.97
  seen = agrees & (geoms >= 0)
  assert seen.mean() > 0.1
  depths = distances * -(directions @ np.asarray(camera.axes)[:, 2])
  np.testing.assert_allclose(picture.depth_m[seen], depths[seen], rtol=0.01)


def test_a_ball_is_where_it_is():
  picture = draw(one_ball())
  middle = picture.depth_m[HEIGHT // 2, WIDTH // 2]
  np.testing.assert_allclose(middle, 3.5, atol=0.01)
  assert picture.segmentation[HEIGHT // 2, WIDTH // 2] == 7
  assert picture.segmentation[-1, 0] == 4
  assert picture.segmentation[0, 0] == NOTHING
  assert np.isinf(picture.depth_m[0, 0])
  red, green, _ = np.asarray(picture.rgb[HEIGHT // 2, WIDTH // 2], int)
  assert red > 100 > green
  # Its silhouette: a cone of half angle asin(0.5 / 4) through a tall picture.
  seen = float(jnp.mean(picture.segmentation == 7))
  reach = np.tan(np.pi / 8)
  disc = np.pi * np.tan(np.arcsin(0.5 / 4.0)) ** 2
  expected = disc / (4.0 * reach**2 * WIDTH / HEIGHT)
  np.testing.assert_allclose(seen, expected, rtol=0.08)


def test_it_is_lit_from_where_the_light_stands_and_casts_a_shadow():
  above = draw(one_ball(), light=Light(direction=jnp.array([0.0, 0.0, 1.0])))
  ball = np.asarray(above.segmentation) == 7
  rows = np.flatnonzero(ball.any(axis=1))
  column = WIDTH // 2
  reds = np.asarray(above.rgb, int)[..., 0]
  assert reds[rows[0] + 1, column] > reds[rows[-1], column] + 50
  bare = draw(
    one_ball(),
    light=Light(direction=jnp.array([0.0, 0.0, 1.0])),
    shadows=False,
  )
  floor = np.asarray(above.segmentation) == 4
  darker = np.asarray(bare.rgb, int)[floor] - np.asarray(above.rgb, int)[floor]
  assert (darker >= 0).all()
  assert 0 < (darker[:, 0] > 50).sum() < floor.sum() / 2


def test_rooms_are_lit_from_above_and_each_in_its_way():
  lights = jax.vmap(random_light)(jax.random.split(jax.random.key(0), 200))
  heights = np.asarray(lights.direction)[:, 2]
  np.testing.assert_allclose(
    np.linalg.norm(lights.direction, axis=1), 1.0, atol=1e-6
  )
  assert heights.min() >= 0.5 - 1e-6
  assert np.ptp(heights) > 0.4
  assert np.ptp(np.asarray(lights.ambient)) > 0.25


def test_a_tasks_own_light_is_taken_unless_another_is_given():
  env = build('placing')

  @jax.jit
  def draw():
    state = env.reset(env.sample_task(jax.random.key(0)), jax.random.key(1))
    own = state.task.appearance.light
    return [
      camera_view(env, height=12, width=16, light=light)(state).rgb
      for light in (None, own, Light())
    ]

  unsaid, same, other = draw()
  np.testing.assert_array_equal(unsaid, same)
  assert (np.asarray(unsaid) != np.asarray(other)).any()


def test_more_rays_soften_edges_and_move_nothing():
  hard, soft = draw(one_ball()), draw(one_ball(), samples=3)
  np.testing.assert_array_equal(hard.segmentation, soft.segmentation)
  inner = (np.asarray(hard.segmentation) == 7)[10:26, 16:32]
  assert inner.any()
  colours = {tuple(c) for c in np.asarray(soft.rgb).reshape(-1, 3)}
  assert len(colours) > len(
    {tuple(c) for c in np.asarray(hard.rgb).reshape(-1, 3)}
  )


@pytest.mark.parametrize('seed', range(1, len(PATTERNS)))
def test_a_texture_is_its_seeds_own(seed):
  assert int(pattern_of(jnp.int32(seed))) == seed
  plain, first, again, other = (
    np.asarray(draw(one_ball(s)).rgb, int)
    for s in (0, seed, seed, seed + len(PATTERNS) - 1)
  )
  ball = np.asarray(draw(one_ball()).segmentation) == 7
  np.testing.assert_array_equal(first, again)
  assert np.abs(first - plain)[ball].max() > 30
  assert np.abs(first - other)[ball].max() > 30
  np.testing.assert_array_equal(first[~ball], plain[~ball])


def test_one_jitted_batch_equals_single_pictures():
  env = build('placing')
  view = camera_view(env, 'workspace', height=20, width=24)
  task_keys, reset_keys = jax.random.split(jax.random.key(0), (2, 3))
  tasks = jax.jit(jax.vmap(env.sample_task))(task_keys)
  states = jax.jit(jax.vmap(env.reset))(tasks, reset_keys)
  batch = jax.jit(jax.vmap(view))(states)
  assert batch.rgb.shape == (3, 20, 24, 3)
  assert batch.rgb.dtype == jnp.uint8
  for i in range(3):
    one = jax.jit(view)(jax.tree.map(lambda x, i=i: x[i], states))
    differs = np.asarray(one.rgb != batch.rgb[i]).any(axis=-1)
    assert differs.mean() < 0.01
  assert len({bytes(np.asarray(picture)) for picture in batch.rgb}) == 3


def test_a_flat_world_is_drawn_by_the_same_call():
  env = make_environment('spriteworld')

  @jax.jit
  def draw():
    state = env.reset(env.sample_task(jax.random.key(0)), jax.random.key(1))
    same = camera_view(env, height=80, width=80)(state)
    small = camera_view(env, height=40, width=60)(state)
    return same, small, env.picture(state)

  same, small, own = draw()
  np.testing.assert_array_equal(same.rgb, own)
  assert small.rgb.shape == (40, 60, 3)
  assert small.rgb.dtype == jnp.uint8
  assert (np.asarray(small.segmentation) == NOTHING).all()
  with pytest.raises(InputError, match='camera: expected one of overview'):
    camera_view(env, 'workspace', height=8, width=8)
  with pytest.raises(InputError, match='camera: expected one of overview'):
    camera_view(env, look_at([0, -1, 1], [0, 0, 0]), height=8, width=8)


def test_what_cannot_be_drawn_is_named():
  with pytest.raises(InputError, match='env: expected one that is drawn'):
    camera_view(navigation(), height=8, width=8)
  env = build('placing')
  with pytest.raises(InputError, match='camera: expected one of .*overview'):
    camera_view(env, 'overviw', height=8, width=8)
  with pytest.raises(InputError, match='samples: expected'):
    draw(one_ball(), samples=0)
  with pytest.raises(InputError, match='hidden: expected one of'):
    camera_view(env, height=8, width=8, hidden=('no such geom',))
