"""Pinhole cameras: where they stand, and the ray of every pixel."""

from collections.abc import Callable
import importlib
from typing import Any

from flax import struct
from jax import Array
import jax.numpy as jnp
import numpy as np

from metajax.core.validation import check_choice
from metajax.envs.kinematics import rotate
from metajax.envs.physics import Measurement
from metajax.envs.ray_casting import Vector


@struct.dataclass
class Camera:
  """A camera without faults of its lens; data, so that a task may have one."""

  position: Array  # [3] float32, m
  # [3, 3] float32: in its columns the picture's right, its top, and the way
  # back from what is looked at.
  axes: Array
  fov_y_rad: Array  # [] float32, the angle from the picture's top to its bottom


def look_at(
  position: Array, target: Array, *, fov_y_rad: Array | float = np.pi / 4
) -> Camera:
  """Returns a camera that looks at a point, its top upward.

  Args:
    position: [3] float32, m; not straight above or below the target.
    target: [3] float32, m.
    fov_y_rad: angle from top to bottom, rad.
  """
  position = jnp.asarray(position, jnp.float32)
  back = position - jnp.asarray(target, jnp.float32)
  back = back / jnp.linalg.norm(back)
  right = jnp.cross(jnp.array([0.0, 0.0, 1.0]), back)
  right = right / jnp.linalg.norm(right)
  axes = jnp.stack([right, jnp.cross(back, right), back], axis=1)
  return Camera(position, axes, jnp.asarray(fov_y_rad, jnp.float32))


def cameras_in(model: Any) -> tuple[str, ...]:
  """Returns the names of the cameras of a `mujoco.MjModel`."""
  return tuple(model.camera(i).name for i in range(model.ncam))


def camera_of(model: Any, name: str) -> Callable[[Measurement], Camera]:
  """Returns where a model's own camera is, given where everything is.

  Args:
    model: a `mujoco.MjModel`.
    name: of the camera: one that is fixed to its body or the world, or that
      follows its body or the centre of mass of that body's tree (`track`,
      `trackcom`).

  Returns:
    `(measurement) -> Camera`, of one moment.

  Raises:
    InputError: if the model has no such camera, or it is of another mode.
  """
  # Here, so that `import metajax` stays quick.
  mujoco = importlib.import_module('mujoco')
  names = cameras_in(model)
  check_choice('camera', name, names)
  number = names.index(name)
  modes = {
    int(getattr(mujoco.mjtCamLight, f'mjCAMLIGHT_{mode.upper()}')): mode
    for mode in ('fixed', 'track', 'trackcom')
  }
  mode = modes.get(int(model.cam_mode[number]), 'a camera that aims')
  check_choice(f'mode of camera {name}', mode, list(modes.values()))
  body = int(model.cam_bodyid[number])
  fov_y_rad = jnp.float32(np.radians(model.cam_fovy[number]))
  own_place = jnp.asarray(model.cam_pos[number], jnp.float32)
  own_axes = np.zeros(9)
  mujoco.mju_quat2Mat(own_axes, model.cam_quat[number])
  own_axes = jnp.asarray(own_axes.reshape(3, 3), jnp.float32)
  first_axes = jnp.asarray(model.cam_mat0[number].reshape(3, 3), jnp.float32)
  from_origin = jnp.asarray(model.cam_pos0[number], jnp.float32)
  from_mass = jnp.asarray(model.cam_poscom0[number], jnp.float32)

  def place(measured: Measurement) -> Camera:
    if mode == 'track':
      position, axes = measured.xpos[body] + from_origin, first_axes
    elif mode == 'trackcom':
      position, axes = measured.subtree_com[body] + from_mass, first_axes
    else:
      turn = measured.xquat[body]
      position = measured.xpos[body] + rotate(turn, own_place)
      axes = rotate(turn[None], own_axes.T).T
    return Camera(position, axes, fov_y_rad)

  return place


def pixel_rays(camera: Camera, height: int, width: int) -> Vector:
  """Returns the direction of every pixel's ray, through its middle.

  Args:
    camera: the camera.
    height: rows.
    width: columns; pixels are square.

  Returns:
    Directions [height, width] float32, in the world, of length one.
  """
  reach = jnp.tan(0.5 * camera.fov_y_rad)
  up = reach * (1.0 - 2.0 * (jnp.arange(height)[:, None] + 0.5) / height)
  right = 2.0 * (jnp.arange(width)[None, :] + 0.5) / width - 1.0
  right = reach * right * width / height
  scale = 1.0 / jnp.sqrt(right * right + up * up + 1.0)
  return Vector(
    *(scale * (right * x + up * y - back) for x, y, back in camera.axes)
  )
