"""Motions put shapes where C MuJoCo puts them."""

import mujoco
import numpy as np
import pytest

from metajax.core.validation import InputError
from metajax.envs.engines import load_model
from metajax.envs.motion import motion_of_positions


def test_shapes_stand_where_the_engine_puts_them():
  model = load_model('half_cheetah.xml')
  qpos = np.random.default_rng(0).uniform(-0.3, 0.3, (3, model.nq))
  motion = motion_of_positions(model, qpos, 0.01)
  assert motion.shapes == ('plane',) + ('capsule',) * 8
  assert motion.poses.shape == (3, 9, 7)
  data = mujoco.MjData(model)
  data.qpos[:] = qpos[2]
  mujoco.mj_forward(model, data)
  np.testing.assert_allclose(motion.poses[2, :, :3], data.geom_xpos, atol=1e-6)
  for i in range(model.ngeom):
    matrix = np.zeros(9)
    mujoco.mju_quat2Mat(matrix, motion.poses[2, i, 3:].astype(float))
    np.testing.assert_allclose(matrix, data.geom_xmat[i], atol=1e-6)
  np.testing.assert_allclose(motion.focus[2], data.subtree_com[1], atol=1e-6)


def test_what_is_transparent_is_left_out():
  model = mujoco.MjModel.from_xml_string(
    '<mujoco><worldbody><geom type="plane" size="1 1 1"/><body><freejoint/>'
    '<geom type="box" size="1 2 3"/><geom size="1" rgba="1 0 0 0"/>'
    '</body></worldbody></mujoco>'
  )
  motion = motion_of_positions(model, model.qpos0[None], 0.1)
  assert motion.shapes == ('plane', 'box')
  np.testing.assert_array_equal(motion.sizes[1], [1, 2, 3])


@pytest.mark.parametrize('shape', [(9,), (3, 8), (0, 9)])
def test_positions_that_do_not_fit_are_refused(shape):
  with pytest.raises(
    InputError, match=r'qpos: expected an array \[frames, 9\]'
  ):
    motion_of_positions(load_model('half_cheetah.xml'), np.zeros(shape), 0.01)


def _model_seen_from(camera: str):
  return mujoco.MjModel.from_xml_string(
    f'<mujoco><worldbody>{camera}<body pos="0 0 1"><freejoint/>'
    '<geom size="0.1"/></body></worldbody></mujoco>'
  )


def test_it_is_seen_as_the_overview_camera_sees_it():
  still = _model_seen_from(
    '<camera name="overview" pos="1 -2 1" xyaxes="1 0 0 0 0 1" fovy="45"/>'
  )
  qpos = np.array([[0, 0, 1, 1, 0, 0, 0], [0.5, 0, 1, 1, 0, 0, 0]])
  motion = motion_of_positions(still, qpos, 0.1)
  np.testing.assert_allclose(motion.eye, [0, -2, 0], atol=1e-6)
  np.testing.assert_allclose(motion.focus, [[1, 0, 1]] * 2, atol=1e-6)
  narrow = motion_of_positions(
    _model_seen_from(
      '<camera name="overview" pos="0 -2 1" xyaxes="1 0 0 0 0 1" fovy="20"/>'
    ),
    qpos,
    0.1,
  )
  np.testing.assert_allclose(
    narrow.eye,
    [0, -2 * np.tan(np.pi / 18) / np.tan(np.pi / 8), 0],
    atol=1e-6,
  )
  nameless = motion_of_positions(_model_seen_from(''), qpos, 0.1)
  assert np.linalg.norm(nameless.eye) > 0
