"""What an environment looks like from a camera, inside jit and vmap."""

from collections.abc import Callable

from metajax.core.validation import InputError
from metajax.envs.camera import Camera, camera_of
from metajax.envs.engines import make_physics
from metajax.envs.environment import Env, EnvState
from metajax.envs.physics import Measurement
from metajax.envs.renderer import Light, Picture, render, scene_of


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
  (`appearance`, `model_fields`). Shapes are placed by MJX, on whichever engine
  the environment steps: nothing leaves the compiled program.

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
    light: how it is lit.
    samples: rays a pixel and axis, whose mean softens edges.
    shadows: whether shapes keep the light from each other.
    hidden: names of geoms that are not drawn.

  Returns:
    `(state) -> Picture`.

  Raises:
    InputError: if the environment has no model, or no such camera or geom.
  """
  if env.model is None:
    raise InputError(f'env: expected one with a model, got {env.spec.name}')
  physics = make_physics(env.model, 'mjx')
  scene = scene_of(env.model, hidden=hidden)
  if isinstance(camera, str):
    place = camera_of(env.model, camera)
  else:
    place = _standing(camera)

  def view(state: EnvState) -> Picture:
    fields = env.fields_in(state)
    measured = physics.measure(state.physics, model_fields=fields)
    return render(
      scene(
        measured,
        appearance=getattr(state.task, 'appearance', None),
        model_fields=fields,
      ),
      place(measured),
      height=height,
      width=width,
      light=light,
      samples=samples,
      shadows=shadows,
    )

  return view


def _standing(camera: Camera) -> Callable[[Measurement], Camera]:
  """Returns where a camera is that nothing moves."""
  return lambda measured: camera
