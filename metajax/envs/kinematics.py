"""Which joint velocities move a hand as wanted: damped least squares."""

from typing import Any, NamedTuple

from jax import Array
import jax.numpy as jnp
import numpy as np

from metajax.core.validation import InputError, reject
from metajax.envs.linear_systems import solve_positive_definite
from metajax.envs.physics import Measurement

_SLIDE, _HINGE = 2, 3  # mjtJoint


class Chain(NamedTuple):
  """The hinges and slides between the world and a body.

  Attributes:
    body: index of the body at the end.
    bodies: [n] int, the body that each joint moves.
    axes: [n, 3] float, the joints' axes in their bodies.
    anchors: [n, 3] float, m, the points they turn about in their bodies.
    is_hinge: [n] bool.
    dofs: [n] int, where the joints' velocities stand in `qvel`.
    positions: [n] int, where the joints' positions stand in `qpos`.
  """

  body: int
  bodies: np.ndarray
  axes: np.ndarray
  anchors: np.ndarray
  is_hinge: np.ndarray
  dofs: np.ndarray
  positions: np.ndarray


def chain_to(model: Any, body_name: str) -> Chain:
  """Finds the joints that move a body.

  Args:
    model: a `mujoco.MjModel`; on the way, bodies have one hinge at most, or
      slides.
    body_name: name of the body at the end of the chain.

  Returns:
    The chain, from the root on.

  Raises:
    InputError: if there is no such body, or a joint is no hinge or slide.
  """
  names = [model.body(i).name for i in range(model.nbody)]
  if body_name not in names:
    raise reject('body_name', f'one of {", ".join(names)}', body_name)
  last = names.index(body_name)
  path = [last]
  while path[-1] != 0:
    path.append(int(model.body_parentid[path[-1]]))
  joints = [
    j
    for body in reversed(path)
    for j in range(model.njnt)
    if int(model.jnt_bodyid[j]) == body
  ]
  kinds = [int(model.jnt_type[j]) for j in joints]
  if not set(kinds) <= {_SLIDE, _HINGE}:
    raise InputError(f'{body_name}: expected hinges and slides, got {kinds}')
  return Chain(
    body=last,
    bodies=np.array([int(model.jnt_bodyid[j]) for j in joints]),
    axes=model.jnt_axis[joints].astype(np.float32),
    anchors=model.jnt_pos[joints].astype(np.float32),
    is_hinge=np.array([kind == _HINGE for kind in kinds]),
    dofs=np.array([int(model.jnt_dofadr[j]) for j in joints]),
    positions=np.array([int(model.jnt_qposadr[j]) for j in joints]),
  )


def jacobian(chain: Chain, measurement: Measurement, point: Array) -> Array:
  """Returns how the joints' velocities move a point of the last body.

  Args:
    chain: the joints.
    measurement: where everything is.
    point: [3] float32, m, in the world.

  Returns:
    [6, n] float32: three rows of linear velocity (m/s per rad/s or m/s),
    three of angular velocity.
  """
  quaternions = measurement.xquat[chain.bodies]
  axes = rotate(quaternions, jnp.asarray(chain.axes))
  anchors = measurement.xpos[chain.bodies] + rotate(
    quaternions, jnp.asarray(chain.anchors)
  )
  turning = jnp.cross(axes, point[None, :] - anchors)
  is_hinge = jnp.asarray(chain.is_hinge)[:, None]
  linear = jnp.where(is_hinge, turning, axes)
  angular = jnp.where(is_hinge, axes, jnp.zeros_like(axes))
  return jnp.concatenate([linear, angular], axis=1).T


def damped_least_squares(
  jacobian: Array, velocity: Array, damping: float = 0.05
) -> Array:
  """Returns joint velocities that come close to a wanted velocity.

  `dq = J^T (J J^T + damping^2 I)^{-1} v` (Nakamura and Hanafusa 1986).

  Args:
    jacobian: [m, n] float32.
    velocity: [m] float32, m/s and rad/s.
    damping: > 0; the larger, the slower near singular poses.

  Returns:
    [n] float32, rad/s and m/s.
  """
  size = jacobian.shape[0]
  gram = jacobian @ jacobian.T + damping**2 * jnp.eye(size)
  return jacobian.T @ solve_positive_definite(gram, velocity)


def rotate(quaternions: Array, vectors: Array) -> Array:
  """Rotates vectors by unit quaternions (w, x, y, z).

  Args:
    quaternions: [..., 4] float32.
    vectors: [..., 3] float32.

  Returns:
    [..., 3] float32.
  """
  scalar, axis = quaternions[..., :1], quaternions[..., 1:]
  twice = 2.0 * jnp.cross(axis, vectors)
  return vectors + scalar * twice + jnp.cross(axis, twice)


def rotation_between(current: Array, wanted: Array) -> Array:
  """Returns the rotation vector that turns one orientation into another.

  Args:
    current: [4] float32, unit quaternion (w, x, y, z).
    wanted: [4] float32.

  Returns:
    [3] float32, rad, in the world: axis times angle in [0, pi].
  """
  w0, v0 = current[0], current[1:]
  w1, v1 = wanted[0], wanted[1:]
  scalar = w1 * w0 + jnp.dot(v1, v0)
  vector = w0 * v1 - w1 * v0 - jnp.cross(v1, v0)
  vector = jnp.where(scalar < 0, -vector, vector)
  sine = jnp.sqrt(jnp.sum(jnp.square(vector)) + 1e-12)
  angle = 2.0 * jnp.arctan2(sine, jnp.abs(scalar))
  return vector / sine * angle
