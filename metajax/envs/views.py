"""What an environment looks like from a camera, inside jit and vmap."""

from collections.abc import Callable

import jax
from jax import Array
import jax.numpy as jnp

from metajax.core.validation import InputError, check_choice
from metajax.envs.appearance import Light
from metajax.envs.camera import Camera, camera_of
from metajax.envs.engines import make_physics
from metajax.envs.environment import Env, EnvState
from metajax.envs.physics import Measurement
from metajax.envs.renderer import NOTHING, Picture, render, scene_of


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
  has one camera and a picture of its own, which is scaled; in it nothing has
  depth, and no pixel belongs to a shape.

  >>> import jax
  >>> from metajax.envs.planar.families import reach2d
  >>> env = reach2d(physics='c')
  >>> state = env.reset(env.sample_task(jax.random.key(0)), jax.random.key(1))
  >>> camera_view(env, height=24, width=32)(state).rgb.shape
  (24, 32, 3)

  Args:
    env: an environment with a model.
    camera: name of one of the model's cameras, or a camera of one's own.
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
  if env.picture is not None:
    check_choice('camera', camera, ('overview',))
    return _flat_view(env.picture, height, width)
  if env.model is None:
    raise InputError(f'env: expected one that is drawn, got {env.spec.name}')
  physics = make_physics(env.model, 'mjx' if env.holds_physics else 'c')
  scene = scene_of(env.model, hidden=hidden)
  if isinstance(camera, str):
    place = camera_of(env.model, camera)
  else:
    place = _standing(camera)

  def view(state: EnvState) -> Picture:
    fields = env.fields_in(state)
    measured = physics.measure(state.physics, model_fields=fields)
    looks = getattr(state.task, 'appearance', None)
    own_light = None if looks is None else looks.light
    return render(
      scene(measured, appearance=looks, model_fields=fields),
      place(measured),
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


def _standing(camera: Camera) -> Callable[[Measurement], Camera]:
  """Returns where a camera is that nothing moves."""
  return lambda measured: camera
