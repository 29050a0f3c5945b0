"""A table with three containers and an object: where they are, what is seen."""

from typing import Any, NamedTuple

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from metajax.envs.gripper_arm.control import Carrier, opening, tip_centres
from metajax.envs.physics import Measurement, PhysicsState, point_velocity

CONTAINERS = ('container_0', 'container_1', 'container_2')
# Where things are put down, m: containers side by side, the object nearer to
# the robot.
_CONTAINER_SPACING_M = 0.16
_CONTAINER_NOISE_M = 0.015
_CONTAINER_X_M = (0.0, 0.09)
_OBJECT_X_M, _OBJECT_Y_M = (-0.14, -0.1), (-0.16, 0.16)
_OBJECT_YAW = 0.4
# The object's own axes in the hand's, when the hand holds it upright.
_UPRIGHT_IN_HAND = (0.70710678, 0.0, -0.70710678, 0.0)
# An object is held this far below its top, m.
_GRIP_DEPTH_M = 0.016
# What counts as released, as at rest and as not lifted.
_RELEASE_M = 0.004
_REST_SPEED = 0.05
_REST_HEIGHT_M = 0.02


def lay_out(key: Array) -> Array:
  """Draws where the containers stand, [3, 3] float32, m."""
  order_key, x_key, y_key = jax.random.split(key, 3)
  slots = jax.random.permutation(order_key, jnp.array([-1.0, 0.0, 1.0]))
  noise = jax.random.uniform(y_key, (3,), minval=-1.0)
  low, high = _CONTAINER_X_M
  return jnp.stack(
    [
      jax.random.uniform(x_key, (3,), minval=low, maxval=high),
      _CONTAINER_SPACING_M * slots + _CONTAINER_NOISE_M * noise,
      jnp.zeros((3,)),
    ],
    axis=1,
  )


def lay_down(key: Array, half_height: Array) -> Array:
  """Draws where the object stands: [7] float32, position and quaternion."""
  keys = jax.random.split(key, 3)
  x, y = (
    jax.random.uniform(k, minval=low, maxval=high)
    for k, (low, high) in zip(keys[:2], (_OBJECT_X_M, _OBJECT_Y_M), strict=True)
  )
  yaw = _OBJECT_YAW * jax.random.uniform(keys[2], minval=-1.0)
  zero = jnp.zeros(())
  return jnp.stack(
    [x, y, half_height, jnp.cos(yaw / 2), zero, zero, jnp.sin(yaw / 2)]
  )


def between_fingers(
  carrier: Carrier, measured: Measurement, half_height: Array
) -> Array:
  """Returns the pose of an object that is held: [7] float32."""
  down = measured.site_xmat[carrier.tool][:, 0]
  middle = jnp.mean(tip_centres(carrier, measured), axis=0)
  w0, v0 = measured.xquat[carrier.hand, 0], measured.xquat[carrier.hand, 1:]
  upright = jnp.array(_UPRIGHT_IN_HAND)
  w1, v1 = upright[0], upright[1:]
  return jnp.concatenate(
    [
      middle + (half_height - _GRIP_DEPTH_M) * down,
      (w0 * w1 - jnp.dot(v0, v1))[None],
      w0 * v1 + w1 * v0 + jnp.cross(v0, v1),
    ]
  )


class Scene(NamedTuple):
  """Where a placing scene's things stand in the model's arrays."""

  carrier: Carrier
  body: int  # of the object
  geom: int  # its box
  plates: list[int]  # geoms of the containers
  walls: list[int]  # a wall of each


def find_things(model: Any, carrier: Carrier) -> Scene:
  """Finds the things in a model of `placing_scene.xml` and a body."""
  return Scene(
    carrier=carrier,
    body=model.body('object').id,
    geom=model.geom('object_body').id,
    plates=[model.geom(f'{x}_plate').id for x in CONTAINERS],
    walls=[model.geom(f'{x}_rim_0').id for x in CONTAINERS],
  )


class Seen(NamedTuple):
  """One moment of the scene."""

  hand: Array  # [3] m, the middle between the fingertips
  opening: Array  # [] m, between them
  centre: Array  # [3] m, of the object
  rotation: Array  # [3, 3] of the object
  half_sizes: Array  # [3] m, of the object
  speed: Array  # [] m/s, of the object
  places: Array  # [3, 3] m, of the containers
  footprints: Array  # [3, 2] m, their half sizes
  wall_radii: Array  # [3] m


def see(
  scene: Scene, measured: Measurement, state: PhysicsState, sizes: Array
) -> Seen:
  """Reads one moment off the simulation; `sizes` is the task's `geom_size`."""
  body, geom = scene.body, scene.geom
  centre = measured.xpos[body]
  velocity = point_velocity(measured, body, body, centre)
  return Seen(
    hand=jnp.mean(tip_centres(scene.carrier, measured), axis=0),
    opening=opening(scene.carrier, measured),
    centre=centre,
    rotation=measured.geom_xmat[geom],
    half_sizes=sizes[geom],
    speed=jnp.sqrt(jnp.sum(jnp.square(velocity)) + 1e-12),
    places=state.mocap_pos,
    footprints=sizes[np.array(scene.plates), :2],
    wall_radii=sizes[np.array(scene.walls), 0],
  )


def describe(seen: Seen) -> Array:
  """Returns what is observed of the things, [27] float32."""
  containers = jnp.concatenate(
    [seen.places[:, :2], seen.footprints, seen.wall_radii[:, None]], axis=1
  )
  return jnp.concatenate(
    [
      seen.centre,
      seen.rotation[:, 0],
      seen.rotation[:, 1],
      seen.half_sizes,
      jnp.ravel(containers),
    ]
  )


def judge(target: Array, seen: Seen) -> dict[str, Array]:
  """Returns the metrics (Yu et al. 2018, section VI-A)."""
  offsets = seen.centre[None, :2] - seen.places[:, :2]
  distances = jnp.sqrt(jnp.sum(jnp.square(offsets), axis=1) + 1e-12)
  inside = jnp.all(jnp.abs(offsets) <= seen.footprints, axis=1)
  highest = jnp.max(seen.half_sizes) + _REST_HEIGHT_M
  is_resting = (seen.centre[2] < highest) & (seen.speed < _REST_SPEED)
  is_open = seen.opening > 2.0 * seen.half_sizes[1] + _RELEASE_M
  success = inside[target] & is_resting & is_open
  reach = seen.hand - seen.centre
  return {
    'success': success.astype(jnp.float32),
    'object_to_target_m': distances[target],
    'hand_to_object_m': jnp.sqrt(jnp.sum(jnp.square(reach)) + 1e-12),
    # Which container was meant, whether or not the object got there.
    'nearest_is_target': (jnp.argmin(distances) == target).astype(jnp.float32),
  }
