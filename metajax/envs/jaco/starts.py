"""How the Jaco's episodes begin: hand and blocks somewhere over the table."""

import importlib
from typing import Any

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

_NUM_ARM_JOINTS = 6
_PATCH_CENTRE_M = (0.45, 0.0)
_PATCH_M = 0.3
_MIN_DISTANCE_M = 0.09
_NUM_PLACES = 16
_FINGERS_RAD = (0.1, 0.9)
_HAND_BOX_M = ((0.33, 0.57), (-0.15, 0.15), (0.12, 0.28))
_HAND_YAW_RAD = 0.8
_HAND_GRID = (6, 7, 5)
# A pose with the elbow up, the hand in the middle of its box, pointing down.
_ELBOW_UP_RAD = (0.0, 2.692, 4.771, 0.0, 2.078, 0.0)


def hand_grid(model: Any) -> Array:
  """Solves for the arm at each point of a grid over the hand's box.

  Damped least squares in C MuJoCo, each point from its neighbour's solution,
  so that all lie on one branch and can be interpolated.

  Returns:
    [nx, ny, nz, 6] float32, rad, at which the hand points down.
  """
  mujoco = importlib.import_module('mujoco')
  data = mujoco.MjData(model)
  site = model.site('jaco_grasp').id
  jacobian = np.zeros((6, model.nv))
  axes = [
    np.linspace(low, high, count)
    for (low, high), count in zip(_HAND_BOX_M, _HAND_GRID, strict=True)
  ]
  solutions = np.zeros((*_HAND_GRID, _NUM_ARM_JOINTS), np.float32)
  for i, x in enumerate(axes[0]):
    for j, y in enumerate(axes[1]):
      joints = np.array(_ELBOW_UP_RAD)
      for k, z in enumerate(axes[2]):
        for _ in range(100):
          data.qpos[:_NUM_ARM_JOINTS] = joints
          mujoco.mj_kinematics(model, data)
          mujoco.mj_comPos(model, data)
          turn = np.zeros(3)
          # The hand points down where its axes are the world's.
          quaternion = np.zeros(4)
          mujoco.mju_mat2Quat(quaternion, data.site_xmat[site])
          mujoco.mju_quat2Vel(turn, quaternion, 1.0)
          error = np.concatenate([(x, y, z) - data.site_xpos[site], -turn])
          if np.linalg.norm(error) < 1e-6:
            break
          mujoco.mj_jacSite(model, data, jacobian[:3], jacobian[3:], site)
          arm = jacobian[:, :_NUM_ARM_JOINTS]
          gram = arm @ arm.T + 1e-4 * np.eye(6)
          joints = joints + arm.T @ np.linalg.solve(gram, error)
        solutions[i, j, k] = joints
  return jnp.asarray(solutions)


def draw_arm(grid: Array, key: Array) -> Array:
  """Draws the nine joints: the hand in its box, any fingers."""
  place_key, yaw_key, fingers_key = jax.random.split(key, 3)
  # Linear between the points of the grid: each weighs what it is near.
  weights = [
    jnp.maximum(0.0, 1.0 - jnp.abs(jnp.arange(count) - place * (count - 1)))
    for count, place in zip(
      grid.shape, jax.random.uniform(place_key, (3,)), strict=False
    )
  ]
  arm = jnp.einsum('xyzj,x,y,z->j', grid, *weights)
  # The last joint turns about the line that the hand points along.
  yaw = jax.random.uniform(
    yaw_key, (), minval=-_HAND_YAW_RAD, maxval=_HAND_YAW_RAD
  )
  low, high = _FINGERS_RAD
  fingers = jax.random.uniform(fingers_key, (3,), minval=low, maxval=high)
  return jnp.concatenate([arm.at[-1].add(yaw), fingers])


def draw_blocks(half_sizes: Array, key: Array) -> Array:
  """Draws where the blocks lie: [14], position and quaternion of each.

  The second takes the first of 16 places that is far enough from the first
  block; none is in one case of 10^8.
  """
  first_key, second_key, yaw_key = jax.random.split(key, 3)
  corner = jnp.asarray(_PATCH_CENTRE_M) - _PATCH_M / 2
  first = corner + _PATCH_M * jax.random.uniform(first_key, (2,))
  places = corner[None] + _PATCH_M * jax.random.uniform(
    second_key, (_NUM_PLACES, 2)
  )
  is_free = jnp.linalg.norm(places - first[None], axis=-1) >= _MIN_DISTANCE_M
  second = places[jnp.argmax(is_free)]
  halves = jax.random.uniform(yaw_key, (2,), maxval=jnp.pi)
  zeros = jnp.zeros((2,))
  turned = jnp.stack([jnp.cos(halves), zeros, zeros, jnp.sin(halves)], axis=-1)
  centres = jnp.concatenate(
    [jnp.stack([first, second]), half_sizes[:, None]], axis=-1
  )
  return jnp.ravel(jnp.concatenate([centres, turned], axis=-1))
