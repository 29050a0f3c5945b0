"""Pictures of primitive shapes: ray casting in pure JAX.

One frame of one scene from one camera; `vmap` it, or inside a `scan`. The same
code draws demonstrations and what a policy sees. Every ray meets every shape
in closed form (`metajax.envs.ray_casting`); what it meets first is lit by one
distant light, and the shapes cast shadows.
"""

from collections.abc import Callable, Mapping
import importlib
from typing import Any, NamedTuple

from flax import struct
import jax
from jax import Array
from jax.custom_batching import custom_vmap
import jax.numpy as jnp

from metajax.core.motion import SHAPES
from metajax.core.validation import check_choice, check_count
from metajax.envs.appearance import Appearance, Light, plain
from metajax.envs.camera import Camera, pixel_rays
from metajax.envs.physics import Measurement
from metajax.envs.ray_casting import MEET, Vector, normal_at
from metajax.envs.textures import shade_of

NOTHING = -1  # segmentation of a pixel that sees no shape
_KINDS = tuple(MEET)
_LIFT_M = 1e-3  # where a shadow's ray begins, above the surface


@struct.dataclass
class Scene:
  """Shapes and where they are: all that a picture shows, at one moment."""

  positions: Array  # [shapes, 3] float32, m
  orientations: Array  # [shapes, 3, 3] float32, their axes in columns
  sizes: Array  # [shapes, 3] float32, m, half-sizes in MuJoCo's manner
  colours: Array  # [shapes, 3] float32, red, green, blue in [0, 1]
  texture_seeds: Array  # [shapes] int32, 0: a plain colour
  kinds: tuple[str, ...] = struct.field(pytree_node=False)
  # What segmentation calls them: the model's geoms.
  geoms: tuple[int, ...] = struct.field(pytree_node=False)
  has_textures: bool = struct.field(pytree_node=False, default=False)


class Picture(NamedTuple):
  """What a camera sees.

  Attributes:
    rgb: [height, width, 3] uint8.
    depth_m: [height, width] float32, along the camera's axis; infinity where
      no shape is.
    segmentation: [height, width] int32, the geom, or `NOTHING`.
  """

  rgb: Array
  depth_m: Array
  segmentation: Array


def scene_of(
  model: Any, *, hidden: tuple[str, ...] = ()
) -> Callable[..., Scene]:
  """Returns what turns a model's moment into a scene.

  Meshes, height fields and what is wholly transparent are left out.

  Args:
    model: a `mujoco.MjModel`, as `Env.model`.
    hidden: names of geoms that are not drawn, as a marker that a policy may
      not see.

  Returns:
    `(measurement, *, appearance=None, model_fields=None) -> Scene`. Colours
    and textures are the appearance's, sizes those of `model_fields`, else the
    model's own.

  Raises:
    InputError: if there is no geom of a hidden name.
  """
  # Here, so that `import metajax` stays quick.
  mujoco = importlib.import_module('mujoco')
  names = {
    int(getattr(mujoco.mjtGeom, f'mjGEOM_{name.upper()}')): name
    for name in SHAPES
  }
  called = [model.geom(i).name for i in range(model.ngeom)]
  for name in hidden:
    check_choice('hidden', name, called)
  geoms = tuple(
    i
    for i in range(model.ngeom)
    if int(model.geom_type[i]) in names
    and model.geom_rgba[i, 3] > 0
    and called[i] not in hidden
  )
  places = jnp.array(geoms)
  kinds = tuple(names[int(model.geom_type[i])] for i in geoms)
  own_sizes = jnp.asarray(model.geom_size, jnp.float32)
  own_looks = plain(model)

  def scene(
    measured: Measurement,
    *,
    appearance: Appearance | None = None,
    model_fields: Mapping[str, Array] | None = None,
  ) -> Scene:
    looks = own_looks if appearance is None else appearance
    sizes = (model_fields or {}).get('geom_size', own_sizes)
    return Scene(
      positions=measured.geom_xpos[places],
      orientations=measured.geom_xmat[places],
      sizes=sizes[places],
      colours=looks.geom_rgba[places, :3],
      texture_seeds=looks.texture_seeds[places],
      kinds=kinds,
      geoms=geoms,
      has_textures=appearance is not None,
    )

  return scene


def render(
  scene: Scene,
  camera: Camera,
  *,
  height: int,
  width: int,
  light: Light | None = None,
  samples: int = 1,
  shadows: bool = True,
) -> Picture:
  """Draws one scene from one camera.

  Under `vmap` an accelerator draws all pictures at once, a CPU one after
  another.

  Args:
    scene: the shapes.
    camera: the camera.
    height: rows of the picture.
    width: columns.
    light: how it is lit.
    samples: rays a pixel and axis: their mean softens edges in `rgb`. Depth
      and segmentation are those of one of the rays nearest the middle.
    shadows: whether shapes keep the light from each other.

  Returns:
    The picture.

  Raises:
    InputError: if a size is not a count.
  """
  for name, value in (('height', height), ('width', width)):
    check_count(name, value)
  check_count('samples', samples)
  light = Light() if light is None else light

  def draw(scene: Scene, camera: Camera, light: Light) -> Picture:
    return _draw(
      scene, camera, light, height, width, samples=samples, shadows=shadows
    )

  return _one_at_a_time_on_cpu(draw)(scene, camera, light)


def _one_at_a_time_on_cpu(
  draw: Callable[..., Picture],
) -> Callable[..., Picture]:
  """Has `vmap` draw picture after picture on a CPU: its cache holds one."""
  drawn = custom_vmap(draw)

  @drawn.def_vmap
  def _(axis_size, is_batched, *trees):
    trees = jax.tree.map(
      lambda x, batched: (
        x if batched else jnp.broadcast_to(x, (axis_size, *jnp.shape(x)))
      ),
      trees,
      tuple(is_batched),
    )
    if jax.default_backend() == 'cpu':
      pictures = jax.lax.map(lambda one: drawn(*one), trees)
    else:
      pictures = jax.vmap(draw)(*trees)
    return pictures, jax.tree.map(lambda x: True, pictures)

  return drawn


def _draw(
  scene: Scene,
  camera: Camera,
  light: Light,
  height: int,
  width: int,
  *,
  samples: int,
  shadows: bool,
) -> Picture:
  """Draws one picture; its arguments are those of `render`."""
  rows, columns = height * samples, width * samples
  rays = Vector(*(part.ravel() for part in pixel_rays(camera, rows, columns)))
  eye = Vector(*camera.position)
  distances, winners = _first_hits(scene, eye, rays)
  sees = jnp.isfinite(distances)
  reached = jnp.where(sees, distances, 0.0)
  points = eye.plus(rays, reached)
  colours = _shade(scene, light, points, winners, shadows)
  colours = jnp.where(sees[:, None], colours, light.sky[None])
  colours = colours.reshape(height, samples, width, samples, 3).mean((1, 3))

  def middle(values):
    return values.reshape(rows, columns)[
      samples // 2 :: samples, samples // 2 :: samples
    ]

  depths = -distances * rays.dot(Vector(*camera.axes[:, 2]))
  geoms = jnp.where(sees, jnp.array(scene.geoms)[winners], NOTHING)
  return Picture(
    rgb=jnp.round(255.0 * jnp.clip(colours, 0.0, 1.0)).astype(jnp.uint8),
    depth_m=middle(jnp.where(sees, depths, jnp.inf)),
    segmentation=middle(geoms),
  )


def _first_hits(
  scene: Scene, origins: Vector, rays: Vector, *, leave_out: str = ''
) -> tuple[Array, Array]:
  """Returns each ray's distance to the first shape, and that shape's place.

  Args:
    scene: the shapes.
    origins: of each ray [rays], or one for all [].
    rays: directions [rays].
    leave_out: a kind that the rays pass through.

  Returns:
    Two [rays]: float32, infinity if there is none, and int32.
  """
  own = 0 if origins.x.ndim else None
  found = (
    jnp.full(rays.x.shape, jnp.inf),
    jnp.zeros(rays.x.shape, jnp.int32),
  )
  for kind, meet in MEET.items():
    places = [i for i, other in enumerate(scene.kinds) if other == kind]
    if not places or kind == leave_out:
      continue

    # One shape after another: the rays' distances so far stay in the cache.
    def nearer(found, place, meet=meet):
      frame = _frame_of(scene, place)

      def of_ray(origin, ray):
        return meet(frame.inward(origin), frame.turned(ray), frame.size)

      distances = jax.vmap(of_ray, in_axes=(own, 0))(origins, rays)
      is_nearer = distances < found[0]
      return (
        jnp.where(is_nearer, distances, found[0]),
        jnp.where(is_nearer, place, found[1]),
      ), None

    found, _ = jax.lax.scan(nearer, found, jnp.array(places, jnp.int32))
  return found


def _shade(
  scene: Scene, light: Light, points: Vector, winners: Array, shadows: bool
) -> Array:
  """Returns the colour [rays, 3] of each ray's point (Lambert's law).

  Args:
    scene: the shapes.
    light: the light.
    points: [rays], in the world.
    winners: [rays] int32, the place of the shape that each is on.
    shadows: whether shapes keep the light from each other.
  """
  kinds = jnp.array([_KINDS.index(kind) for kind in scene.kinds])
  toward = Vector(*light.direction).normalised()
  frames = _frame_of(scene, winners)
  local = frames.inward(points)
  normals = frames.outward(normal_at(kinds[winners], local, frames.size))
  lit = jnp.maximum(normals.dot(toward), 0.0)
  if shadows:
    rays = Vector(*(jnp.broadcast_to(part, lit.shape) for part in toward))
    # Nothing stands beneath a plane, and nothing is seen from there.
    blocked, _ = _first_hits(
      scene, points.plus(normals, _LIFT_M), rays, leave_out='plane'
    )
    lit = jnp.where(jnp.isfinite(blocked), 0.0, lit)
  brightness = light.ambient + (1.0 - light.ambient) * lit
  if scene.has_textures:
    # A branch also keeps XLA from fusing all above into each part of it.
    brightness = jax.lax.cond(
      jnp.any(scene.texture_seeds != 0),
      lambda: brightness * shade_of(scene.texture_seeds[winners], local),
      lambda: brightness,
    )
  return brightness[:, None] * scene.colours[winners]


class _Frame(NamedTuple):
  """One shape's frame and size."""

  position: Vector
  axes: tuple[Vector, Vector, Vector]
  size: Vector

  def turned(self, vector: Vector) -> Vector:
    """Returns a direction of the world in the shape's frame."""
    return Vector(*(axis.dot(vector) for axis in self.axes))

  def inward(self, point: Vector) -> Vector:
    """Returns a point of the world in the shape's frame."""
    return self.turned(point.plus(self.position, -1.0))

  def outward(self, vector: Vector) -> Vector:
    """Returns a direction of the shape's frame in the world."""
    x, y, z = self.axes
    zero = Vector(*(jnp.zeros_like(part) for part in vector))
    return zero.plus(x, vector.x).plus(y, vector.y).plus(z, vector.z)


def _frame_of(scene: Scene, place: Array) -> _Frame:
  """Returns the frame of one shape, or of each of several."""
  axes = scene.orientations[place]
  return _Frame(
    position=_vector(scene.positions[place]),
    axes=(
      _vector(axes[..., 0]),
      _vector(axes[..., 1]),
      _vector(axes[..., 2]),
    ),
    size=_vector(scene.sizes[place]),
  )


def _vector(parts: Array) -> Vector:
  """Returns the three numbers of the last axis apart."""
  return Vector(parts[..., 0], parts[..., 1], parts[..., 2])
