"""Turns joint positions into the motion of shapes, on the host."""

import importlib
from typing import Any

import numpy as np

from metajax.core.motion import SHAPES, Motion
from metajax.core.validation import check_positive, reject


def motion_of_positions(
  model: Any, qpos: np.ndarray, frame_period_s: float
) -> Motion:
  """Places a model's shapes at each of its joint positions.

  Meshes, height fields and what is wholly transparent are left out.

  Args:
    model: a `mujoco.MjModel`, as `Env.model`.
    qpos: [frames, nq] joint positions, m and rad.
    frame_period_s: seconds between two frames, `env.spec.control_period_s`.

  Returns:
    The motion. Its focus is the centre of mass of all that moves.

  Raises:
    InputError: if `qpos` does not fit the model, or there is no frame.
  """
  # Here, so that `import metajax` stays quick.
  mujoco = importlib.import_module('mujoco')
  qpos = np.asarray(qpos, dtype=float)
  if qpos.ndim != 2 or qpos.shape[1] != model.nq or len(qpos) == 0:
    raise reject('qpos', f'an array [frames, {model.nq}]', qpos.shape)
  check_positive('frame_period_s', frame_period_s)
  # Keyed by numbers: MuJoCo's enums do not compare equal to NumPy's integers.
  names = {
    int(getattr(mujoco.mjtGeom, f'mjGEOM_{name.upper()}')): name
    for name in SHAPES
  }
  drawn = [
    i
    for i in range(model.ngeom)
    if int(model.geom_type[i]) in names and model.geom_rgba[i, 3] > 0
  ]
  data = mujoco.MjData(model)
  poses = np.zeros((len(qpos), len(drawn), 7), np.float32)
  focus = np.zeros((len(qpos), 3), np.float32)
  for frame, positions in enumerate(qpos):
    data.qpos[:] = positions
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    focus[frame] = data.subtree_com[0]
    for column, i in enumerate(drawn):
      quaternion = np.zeros(4)
      mujoco.mju_mat2Quat(quaternion, data.geom_xmat[i])
      poses[frame, column] = [*data.geom_xpos[i], *quaternion]
  return Motion(
    shapes=tuple(names[int(model.geom_type[i])] for i in drawn),
    sizes=model.geom_size[drawn].astype(np.float32),
    colours=model.geom_rgba[drawn].astype(np.float32),
    poses=poses,
    focus=focus,
    frame_period_s=frame_period_s,
  )
