"""What an environment looks like from a camera, inside jit and vmap."""

from collections.abc import Callable

import jax
from jax import Array
import jax.numpy as jnp

from metajax.core.validation import InputError, check_choice
from metajax.envs.appearance import Light
from metajax.envs.camera import Camera, camera_of, cameras_in
from metajax.envs.engines import make_physics
from metajax.envs.environment import Env, EnvState
from metajax.envs.physics import Measurement
from metajax.envs.renderer import NOTHING, Picture, render, scene_of


def camera_names(env: Env) -> tuple[str, ...]:
  """Returns the cameras that see an environment: the model's, the tasks' own.

  Those of a scene begin with `overview`, which shows all of the body; scenes
  of arms have `workspace`, too, which stands near what is handled.
  """
  if env.picture is not None:
    return ('overview',)
  if env.model is None:
    return ()
  return cameras_in(env.model) + _own_cameras(env)


def camera_view(
  env: Env,
  camera: str | Camera = 'overview',
  *,
  height: int,
  width: int,
  light: Light | None = None,
  samples: int = 1,
  shadows: bool = True,
  hidden: tuple[str, ...] = (),
) -> Callable[[EnvState], Picture]:
  """Returns what draws an environment's states, one at a time.

  Colours, textures and sizes are the task's own where it has them
  (`appearance`, `model_fields`). Shapes are placed by the engine that the
  environment steps with. Many states are drawn by `vmap`. A flat environment
  has a picture of its own, which is scaled, and one camera; in it nothing has
  depth, and no pixel belongs to a shape.

  >>> import jax
  >>> from metajax.envs.planar.families import reach2d
  >>> env = reach2d(physics='c')
  >>> state = env.reset(env.sample_task(jax.random.key(0)), jax.random.key(1))
  >>> camera_view(env, height=24, width=32)(state).rgb.shape
  (24, 32, 3)

  Args:
    env: an environment with a model.
    camera: one of `camera_names`, or a camera of one's own.
    height: rows of the picture.
    width: columns.
    light: how it is lit; None: by the task's own light, if it has one.
    samples: rays a pixel and axis, whose mean softens edges.
    shadows: whether shapes keep the light from each other.
    hidden: names of geoms that are not drawn.

  Returns:
    `(state) -> Picture`.

  Raises:
    InputError: if the environment is not drawn, or has no such camera or geom.
  """
  names = camera_names(env)
  if not names:
    raise InputError(f'env: expected one that is drawn, got {env.spec.name}')
  if env.picture is not None or not isinstance(camera, Camera):
    check_choice('camera', camera, names)
  if env.picture is not None:
    return _flat_view(env.picture, height, width)
  physics = make_physics(env.model, 'mjx' if env.holds_physics else 'c')
  scene = scene_of(env.model, hidden=hidden)
  place = _place_of(env, camera)

  def view(state: EnvState) -> Picture:
    fields = env.fields_in(state)
    measured = physics.measure(state.physics, model_fields=fields)
    looks = getattr(state.task, 'appearance', None)
    own_light = None if looks is None else looks.light
    return render(
      scene(measured, appearance=looks, model_fields=fields),
      place(state, measured),
      height=height,
      width=width,
      light=own_light if light is None else light,
      samples=samples,
      shadows=shadows,
    )

  return view


def _flat_view(
  picture: Callable[[EnvState], Array], height: int, width: int
) -> Callable[[EnvState], Picture]:
  """Returns the view of what has a picture of its own."""

  def view(state: EnvState) -> Picture:
    own = picture(state).astype(jnp.float32)
    rgb = jax.image.resize(own, (height, width, 3), 'linear')
    return Picture(
      rgb=jnp.round(rgb).astype(jnp.uint8),
      depth_m=jnp.full((height, width), jnp.inf),
      segmentation=jnp.full((height, width), NOTHING),
    )

  return view


def _own_cameras(env: Env) -> tuple[str, ...]:
  """Returns the names of the cameras that a task brings along."""
  task = jax.eval_shape(env.sample_task, jax.random.key(0))
  return tuple(getattr(task, 'cameras', {}))


def _place_of(
  env: Env, camera: str | Camera
) -> Callable[[EnvState, Measurement], Camera]:
  """Returns where a camera is in a state."""
  if isinstance(camera, Camera):
    return lambda state, measured: camera
  if camera in _own_cameras(env):
    return lambda state, measured: state.task.cameras[camera]
  of_model = camera_of(env.model, camera)
  return lambda state, measured: of_model(measured)
