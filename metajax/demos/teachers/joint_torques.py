"""Computed torques: what makes an arm's joints move as fast as wanted."""

from collections.abc import Callable
from typing import Any

from jax import Array
import jax.numpy as jnp
import numpy as np

from metajax.envs.kinematics import Chain, chain_to, rotate
from metajax.envs.physics import Measurement, PhysicsState


def mass_matrix(model: Any, chain: Chain, measurement: Measurement) -> Array:
  """Returns the inertia of a chain's joints.

  `M = sum_b m_b J_b^T J_b + W_b^T I_b W_b + diag(armature)`, with `J_b` and
  `W_b` the linear and angular Jacobians of body `b` at its centre of mass.

  Args:
    model: a `mujoco.MjModel`.
    chain: the joints, from the root on.
    measurement: where everything is.

  Returns:
    [n, n] float32, kg m^2 for hinges, kg for slides.
  """
  moved = _moved_by(model, chain)
  bodies = np.flatnonzero(moved.any(axis=1))
  mask = jnp.asarray(moved[bodies], jnp.float32)[:, :, None]
  quaternions = measurement.xquat[chain.bodies]
  axes = rotate(quaternions, jnp.asarray(chain.axes))[None]
  anchors = measurement.xpos[chain.bodies] + rotate(
    quaternions, jnp.asarray(chain.anchors)
  )
  offsets = measurement.xipos[bodies][:, None] - anchors[None]
  axes = jnp.broadcast_to(axes, offsets.shape)
  is_hinge = jnp.asarray(chain.is_hinge)[None, :, None]
  linear = mask * jnp.where(is_hinge, jnp.cross(axes, offsets), axes)
  angular = mask * jnp.where(is_hinge, axes, jnp.zeros_like(axes))

  # Principal axes of each body, in the world: [bodies, axis, xyz].
  own = rotate(
    jnp.asarray(model.body_iquat[bodies], jnp.float32)[:, None],
    jnp.broadcast_to(jnp.eye(3)[None], (len(bodies), 3, 3)),
  )
  principal = rotate(measurement.xquat[bodies][:, None], own)
  along = jnp.einsum('bnx,bax->bna', angular, principal)
  inertia = jnp.asarray(model.body_inertia[bodies], jnp.float32)
  masses = jnp.asarray(model.body_mass[bodies], jnp.float32)
  return (
    jnp.einsum('b,bnx,bmx->nm', masses, linear, linear)
    + jnp.einsum('ba,bna,bma->nm', inertia, along, along)
    + jnp.diag(jnp.asarray(model.dof_armature[chain.dofs], jnp.float32))
  )


def velocity_controller(
  model: Any,
  body_name: str,
  *,
  period_s: float,
  gain: float = 0.7,
) -> Callable[[PhysicsState, Measurement, Array, Array], Array]:
  """Builds a controller of joint velocities for an arm without gravity.

  `u = (M(q) gain (v - dq) / period + D v - f) / gear`, clipped to [-1, 1]: the
  joints reach a share `gain` of the wanted change within one control period.
  Each joint has one motor; Coriolis torques are left out.

  Args:
    model: a `mujoco.MjModel`, whose first motors drive the chain's joints, in
      order.
    body_name: name of the body at the end of the arm.
    period_s: seconds between two controls.
    gain: in (0, 1].

  Returns:
    `(state, measurement, velocities [n] rad/s, torques [n] N m) -> control
    [n]`; `torques` is what else acts on the joints (`f`).
  """
  chain = chain_to(model, body_name)
  size = len(chain.dofs)
  gears = jnp.asarray(model.actuator_gear[:size, 0], jnp.float32)
  damping = jnp.asarray(model.dof_damping[chain.dofs], jnp.float32)
  dofs = jnp.asarray(chain.dofs)

  def control(
    state: PhysicsState,
    measurement: Measurement,
    velocities: Array,
    torques: Array,
  ) -> Array:
    change = gain * (velocities - state.qvel[dofs]) / period_s
    inertial = mass_matrix(model, chain, measurement) @ change
    return jnp.clip((inertial + damping * velocities - torques) / gears, -1, 1)

  return control


def _moved_by(model: Any, chain: Chain) -> np.ndarray:
  """Returns [nbody, n] bool, whether a joint moves a body."""
  moved = np.zeros((model.nbody, len(chain.bodies)), bool)
  for body in range(1, model.nbody):
    moved[body] = moved[int(model.body_parentid[body])]
    moved[body] |= chain.bodies == body
  return moved
