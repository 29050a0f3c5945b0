"""A hand that follows commanded velocities, whatever carries it."""

import importlib
from typing import Any, NamedTuple

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from metajax.envs.kinematics import (
  Chain,
  chain_to,
  damped_least_squares,
  jacobian,
)
from metajax.envs.physics import (
  Measurement,
  ModelFields,
  Physics,
  PhysicsState,
  point_velocity,
)

# The larger, the slower near poses in which the arm is straight.
_DAMPING = 0.03
# How fast joints that the hand does not need return to their first posture,
# 1/s, and how fast any joint turns or slides at most, rad/s or m/s.
_POSTURE_RATE = 0.5
_JOINT_SPEED = 2.5
_POSTURE_NOISE = 0.01  # rad or m, of the joints when an episode begins
# How far, rad or m, a servo's target may run ahead of a joint that is held up.
_MAX_LEAD = 0.15
# Points beside the tool point that tell its orientation, m.
POINT_DISTANCE_M = 0.05
_NUM_PADS = 4


class Carrier(NamedTuple):
  """The joints that carry a hand, and the hand.

  Attributes:
    chain: the n joints.
    lower: [n] float32, rad or m, least angle of each joint.
    upper: [n] float32, the largest.
    posture: [n] float32, joint angles that it begins with.
    hand: index of the hand's body.
    root: index of the body that the tree hangs from.
    tool: index of the site between the fingertips.
    pads: [4] int, geoms of the fingertips, two of either side.
    grip: [2, m] float32, the fingers' targets, closed and open.
    finger_positions: [k, m] float32, postures of the fingers, from closed to
      open...
    half_spans_m: [k] float32, ...and half of the distance between the
      fingertips' centres in them.
    pad_radius_m: of the fingertips.
    workspace_m: [2, 3] float32, the corners of the box that the tool point
      stays in.
  """

  chain: Chain
  lower: np.ndarray
  upper: np.ndarray
  posture: np.ndarray
  hand: int
  root: int
  tool: int
  pads: np.ndarray
  grip: np.ndarray
  finger_positions: np.ndarray
  half_spans_m: np.ndarray
  pad_radius_m: float
  workspace_m: np.ndarray


def find_carrier(
  model: Any,
  posture: np.ndarray,
  workspace_m: tuple[tuple[float, ...], tuple[float, ...]],
) -> Carrier:
  """Finds the joints that carry the body `hand`, and its fingers.

  Args:
    model: a `mujoco.MjModel`, whose joints begin with those that carry the
      hand, from the root on, moved by `intvelocity` actuators, followed by
      those of the fingers; it has a site `grasp`, geoms `pad_0` to `pad_3`.
      A body has one hinge, or slides.
    posture: [n] joint angles that it begins with.
    workspace_m: two corners of the box that the tool point stays in.

  Returns:
    The carrier.

  Raises:
    InputError: if a joint is no hinge or slide.
  """
  joints = np.arange(len(posture))
  hand = model.body('hand').id
  pads = np.array([model.geom(f'pad_{i}').id for i in range(_NUM_PADS)])
  positions, half_spans = _finger_table(model, pads, len(joints))
  ranges = model.actuator_actrange[joints]
  return Carrier(
    chain=chain_to(model, 'hand'),
    lower=ranges[:, 0].astype(np.float32),
    upper=ranges[:, 1].astype(np.float32),
    posture=np.asarray(posture, np.float32),
    hand=hand,
    root=int(model.body_rootid[hand]),
    tool=model.site('grasp').id,
    pads=pads,
    grip=model.actuator_ctrlrange[len(joints) :].T.astype(np.float32),
    finger_positions=positions,
    half_spans_m=half_spans,
    pad_radius_m=float(model.geom_size[pads[0], 0]),
    workspace_m=np.asarray(workspace_m, np.float32),
  )


def _finger_table(
  model: Any, pads: np.ndarray, first: int
) -> tuple[np.ndarray, np.ndarray]:
  """Tells postures of the fingers and half of the span in each."""
  # Here, so that `import metajax` stays quick.
  mujoco = importlib.import_module('mujoco')
  data = mujoco.MjData(model)
  num_fingers = model.nu - first
  limits = model.jnt_range[first : first + num_fingers]
  rows = []
  for part in np.linspace(0.0, 1.0, 33):
    fingers = limits[:, 0] + part * (limits[:, 1] - limits[:, 0])
    data.qpos[first : first + num_fingers] = fingers
    mujoco.mj_kinematics(model, data)
    centres = data.geom_xpos[pads]
    sides = np.linalg.norm(centres[:2].mean(0) - centres[2:].mean(0))
    rows.append((fingers, sides / 2.0))
  positions, half_spans = zip(*rows, strict=True)
  return np.array(positions, np.float32), np.array(half_spans, np.float32)


def draw_posture(carrier: Carrier, key: Array) -> Array:
  """Draws joint angles near the first posture: [n] float32, rad or m."""
  noise = jax.random.normal(key, (len(carrier.posture),))
  return jnp.asarray(carrier.posture) + _POSTURE_NOISE * noise


def fingers_around(
  carrier: Carrier, half_width_m: Array, scale: Array
) -> Array:
  """Returns the fingers' joint positions with something between them.

  Args:
    carrier: the carrier.
    half_width_m: [] float32, m, half of its width.
    scale: [] float32, how large the hand is, its fingertips apart; that of
      the carrier: 1.

  Returns:
    [m] float32, m or rad.
  """
  columns = jnp.asarray(carrier.finger_positions).T
  spans = jnp.asarray(carrier.half_spans_m)
  span = (half_width_m + carrier.pad_radius_m) / scale
  return jax.vmap(lambda column: jnp.interp(span, spans, column))(columns)


def resolved_rates(
  hand_jacobian: Array, velocity: Array, posture_rates: Array
) -> Array:
  """Returns joint velocities that move a hand as wanted.

  Damped least squares, and in the joints' free directions a motion towards a
  posture: `dq = J# v + (I - J# J) dq_posture`.

  Args:
    hand_jacobian: [6, n] float32.
    velocity: [6] float32, m/s and rad/s.
    posture_rates: [n] float32, rad/s or m/s.

  Returns:
    [n] float32, rad/s or m/s.
  """
  missing = velocity - hand_jacobian @ posture_rates
  return posture_rates + damped_least_squares(hand_jacobian, missing, _DAMPING)


def move_hand(
  world: Physics,
  carrier: Carrier,
  state: PhysicsState,
  action: Array,
  *,
  speeds: Array,
  num_substeps: int,
  model_fields: ModelFields,
) -> tuple[PhysicsState, Measurement]:
  """Moves the hand with constant joint velocities for a control period.

  The tool point does not leave the workspace. A servo's target does not run
  far ahead of a joint that is held up.

  Args:
    world: the physics.
    carrier: the carrier.
    state: the world's state.
    action: [7] float32, clipped to [-1, 1]: linear and angular velocity in
      the world's frame, and how far the hand closes, from open to firm.
    speeds: [2] float32, m/s and rad/s, of an action of 1.
    num_substeps: time steps of the physics in a control period.
    model_fields: the task's own arrays of the model.

  Returns:
    The next state, and where everything is then.
  """
  action = jnp.clip(action, -1.0, 1.0)
  num_joints = len(carrier.posture)
  period = world.time_step_s * num_substeps
  measured = world.measure(state, model_fields=model_fields)
  lowest, highest = jnp.asarray(carrier.workspace_m)
  point = measured.site_xpos[carrier.tool]
  linear = jnp.clip(
    speeds[0] * action[:3],
    (lowest - point) / period,
    (highest - point) / period,
  )
  # Outside, it returns no faster than it moves.
  linear = jnp.clip(linear, -speeds[0], speeds[0])
  positions = state.qpos[:num_joints]
  rates = resolved_rates(
    jacobian(carrier.chain, measured, point),
    jnp.concatenate([linear, speeds[1] * action[3:6]]),
    _POSTURE_RATE * (jnp.asarray(carrier.posture) - positions),
  )
  fastest = jnp.max(jnp.abs(rates))
  rates *= jnp.minimum(1.0, _JOINT_SPEED / jnp.maximum(fastest, 1e-6))
  closed, opened = jnp.asarray(carrier.grip)
  fingers = opened + 0.5 * (1.0 + action[6]) * (closed - opened)
  targets = jnp.clip(state.act, positions - _MAX_LEAD, positions + _MAX_LEAD)
  return world.step(
    state._replace(act=targets),
    jnp.concatenate([rates, fingers]),
    num_substeps=num_substeps,
    model_fields=model_fields,
  )


def opening(carrier: Carrier, measured: Measurement) -> Array:
  """Returns the width that is free between the fingertips, [] float32, m."""
  near, far = tip_centres(carrier, measured)
  span = jnp.sqrt(jnp.sum(jnp.square(near - far)) + 1e-12)
  return span - 2.0 * carrier.pad_radius_m


def tip_centres(carrier: Carrier, measured: Measurement) -> Array:
  """Returns the middle of either side's fingertips, [2, 3] float32, m."""
  centres = measured.geom_xpos[carrier.pads]
  return jnp.mean(centres.reshape(2, 2, 3), axis=1)


def observe_hand(
  carrier: Carrier, state: PhysicsState, measured: Measurement
) -> Array:
  """Returns what a body knows of itself.

  Args:
    carrier: the carrier, of n joints.
    state: the world's state.
    measured: where everything is.

  Returns:
    [2 n + 16] float32: the joints' positions and velocities, the tool point
    and two points beside it (9, m; they tell the hand's pose), its linear and
    angular velocity (6, m/s and rad/s), the width between the fingertips (m).
  """
  num_joints = len(carrier.posture)
  point = measured.site_xpos[carrier.tool]
  frame = measured.site_xmat[carrier.tool]
  return jnp.concatenate(
    [
      state.qpos[:num_joints],
      state.qvel[:num_joints],
      point,
      point + POINT_DISTANCE_M * frame[:, 0],
      point + POINT_DISTANCE_M * frame[:, 1],
      point_velocity(measured, carrier.root, carrier.hand, point),
      measured.cvel[carrier.hand, :3],
      opening(carrier, measured)[None],
    ]
  )
