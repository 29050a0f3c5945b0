"""Turns joint positions into the motion of shapes, on the host."""

from collections.abc import Mapping
import copy
import importlib
from typing import Any

import jax
import numpy as np

from metajax.core.motion import SHAPES, Motion
from metajax.core.validation import InputError, check_positive, reject
from metajax.envs.environment import Env, EnvState
from metajax.envs.physics import movable

# What of a model decides where its shapes are, and how large.
_DRAWN_FIELDS = ('geom_', 'body_pos', 'body_quat')


def motion_of_states(env: Env, states: EnvState) -> Motion:
  """Turns one episode's states into the motion of its shapes.

  The shapes are the task's own where it changes them (`model_fields`), and so
  are the colours (`appearance`).

  Args:
    env: an environment with a model.
    states: one episode's, with a leading `[frames]` axis, as
      `metajax.envs.rollout.record_episode` returns them.

  Returns:
    The motion.

  Raises:
    InputError: if the environment has no model.
  """
  if env.model is None:
    raise InputError(f'env: expected one with a model, got {env.spec.name}')
  model, task = copy.copy(env.model), states.task
  if hasattr(task, 'appearance'):
    model.geom_rgba[:] = np.asarray(task.appearance.geom_rgba)[0]
  fields = jax.device_get(jax.vmap(env.fields_in)(states))
  physics = states.physics
  return motion_of_positions(
    model,
    np.asarray(physics.qpos),
    env.spec.control_period_s,
    mocap=(np.asarray(physics.mocap_pos), np.asarray(physics.mocap_quat)),
    model_fields={
      name: values
      for name, values in fields.items()
      if name.startswith(_DRAWN_FIELDS)
    },
  )


def motion_of_positions(
  model: Any,
  qpos: np.ndarray,
  frame_period_s: float,
  *,
  mocap: tuple[np.ndarray, np.ndarray] | None = None,
  model_fields: Mapping[str, np.ndarray] | None = None,
) -> Motion:
  """Places a model's shapes at each of its joint positions.

  Meshes, height fields and what is wholly transparent are left out.

  Args:
    model: a `mujoco.MjModel`, as `Env.model`.
    qpos: [frames, nq] joint positions, m and rad.
    frame_period_s: seconds between two frames, `env.spec.control_period_s`.
    mocap: ([frames, nmocap, 3], [frames, nmocap, 4]), m and quaternions of
      the bodies that are placed; None: where the model has them.
    model_fields: name to [frames, ...], arrays of the model in each frame.
      Shapes keep the sizes of the last frame.

  Returns:
    The motion. Its focus is the centre of mass of the body that the camera
    `overview` stands on; of all that moves, if there is no such body.

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
  model = movable(model)
  data = mujoco.MjData(model)
  # What the overview follows, the whole world if it stands still.
  overview = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, 'overview')
  root = int(model.cam_bodyid[overview]) if overview >= 0 else 0
  poses = np.zeros((len(qpos), len(drawn), 7), np.float32)
  focus = np.zeros((len(qpos), 3), np.float32)
  for frame, positions in enumerate(qpos):
    for name, values in (model_fields or {}).items():
      getattr(model, name)[:] = values[frame]
    data.qpos[:] = positions
    if mocap is not None:
      data.mocap_pos[:], data.mocap_quat[:] = (part[frame] for part in mocap)
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    focus[frame] = data.subtree_com[root]
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
