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
    The motion, seen as the model's camera `overview` sees it. Its focus is the
    centre of mass of the body which that camera stands on; if it stands still,
    the point straight before it that is as far as the bodies are.

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
  overview = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, 'overview')
  # The body that the camera follows, the whole world if it stands still.
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
    if frame == 0:
      mujoco.mj_camlight(model, data)
      point_in_view, eye = _view(model, data, overview, focus[0])
    for column, i in enumerate(drawn):
      quaternion = np.zeros(4)
      mujoco.mju_mat2Quat(quaternion, data.geom_xmat[i])
      poses[frame, column] = [*data.geom_xpos[i], *quaternion]
  if root == 0:
    focus[:] = point_in_view
  return Motion(
    shapes=tuple(names[int(model.geom_type[i])] for i in drawn),
    sizes=model.geom_size[drawn].astype(np.float32),
    colours=model.geom_rgba[drawn].astype(np.float32),
    poses=poses,
    focus=focus,
    eye=eye,
    frame_period_s=frame_period_s,
  )


def _view(
  model: Any, data: Any, camera: int, centre: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the point that a camera looks at, and the eye as seen from there.

  Args:
    model: a `mujoco.MjModel`.
    data: its `mujoco.MjData`, with the cameras placed.
    camera: its number; negative: there is none, and one is thought of.
    centre: [3], m; the point looked at is as far from the camera.

  Returns:
    Two [3] float32, m: the point in the world, and `Motion.eye`.
  """
  if camera < 0:
    return centre, np.array([0.0, -2.4, 0.6], np.float32) * model.stat.extent
  place = data.cam_xpos[camera]
  backwards = data.cam_xmat[camera].reshape(3, 3)[:, 2]
  distance = max(0.1, float((place - centre) @ backwards))
  # As much is seen at 45 degrees from a little farther or nearer.
  opening = np.tan(np.radians([model.cam_fovy[camera], 45.0]) / 2)
  eye = distance * opening[0] / opening[1] * backwards
  return place - distance * backwards, eye.astype(np.float32)
