"""Pushing the right one of two objects to the robot's left gripper."""

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from metajax.envs.environment import Env
from metajax.envs.gripper_arm.bodies import GRIPPER_ARM, Body
from metajax.envs.gripper_arm.control import draw_posture, tip_centres
from metajax.envs.gripper_arm.objects import TabletopTask
from metajax.envs.gripper_arm.tabletop import Setting, set_table, tabletop
from metajax.envs.physics import Measurement, PhysicsState, field_of

_SETTING = Setting(
  scene='placing_push_scene.xml',
  posture='start_beside',
  workspace_m=((-0.18, -0.27, 0.012), (0.15, 0.27, 0.3)),
  objects=('object_0', 'object_1'),
  smallest_m=(0.018, 0.018, 0.022),
  largest_m=(0.03, 0.03, 0.035),
  num_validation=8,
  num_test=12,
)
# Where objects are put down and where the left finger is, m.
_OBJECT_X_M, _OBJECT_NOISE_M = 0.07, 0.01
_OBJECT_Y_M = (-0.14, -0.08)
_OBJECT_YAW = 0.5
_FINGER_Y_M = (0.1, 0.17)
# Beside the left finger counts as pushed home.
_BESIDE_M = 0.05


def gripper_pushing(
  horizon: int = 50, held_out: str = 'test', *, physics: str = 'mjx'
) -> Env:
  """Builds pushing: one of two objects goes to the robot's left gripper.

  The arm, its control and the things are as in `placing` (Yu et al. 2018,
  section VI-B). Two objects stand side by side; which of the
  two counts is the task. With `g` how far the target's centre is still to the
  right of the left gripper's finger, m, and `h` how far it is from the middle
  between the fingertips, m,

    `r = -max(g, 0) - 0.5 h + success`

  and success is 1 while `g < 0.05`: the target was pushed past the finger or
  beside it. An episode never ends before its horizon.

  Objects slide on the table and turn, but do not tip.

  The observation [55] is that of the body (30), the line of the left finger
  (1, m; towards it is +y), and of each object its centre (3, m), two columns
  of its rotation (6) and half sizes (3, m), in 2 slots; the task's target is
  a slot. On which side the objects stand, how they are turned (up to 0.5 rad)
  and where the left finger is, is drawn when an episode begins.

  Args:
    horizon: control steps, of 0.1 s, in an episode.
    held_out: which objects `sample_test_task` draws, 8 of `validation` or 12
      of `test`.
    physics: name of the engine, `mjx` or `c`.

  Returns:
    The environment; its tasks are `TabletopTask`.

  Raises:
    InputError: if an argument is out of its range.
  """
  return build_pushing(
    GRIPPER_ARM,
    'gripper_pushing',
    horizon=horizon,
    held_out=held_out,
    physics=physics,
  )


def build_pushing(
  body: Body, name: str, *, horizon: int, held_out: str, physics: str
) -> Env:
  """Builds pushing for a body.

  Args:
    body: who acts.
    name: of the task.
    horizon: control steps in an episode.
    held_out: which objects `sample_test_task` draws, `validation` or `test`.
    physics: name of the engine.

  Returns:
    The environment.
  """
  table = set_table(_SETTING, body, physics)
  world, carrier = table.world, table.carrier
  closed = jnp.asarray(carrier.finger_positions[0])
  boxes = np.array([world.model.geom(f'{x}_body').id for x in _SETTING.objects])

  def begin(task: TabletopTask, key: Array) -> PhysicsState:
    del task
    posture_key, layout_key = jax.random.split(key)
    posture = draw_posture(carrier, posture_key)
    poses, finger = _lay_out(layout_key)
    return world.reset(
      jnp.concatenate([posture, closed, jnp.ravel(poses)]), mocap_pos=finger
    )

  def tell(task: TabletopTask, state: PhysicsState, measured: Measurement):
    centres = measured.geom_xpos[boxes]
    rotations = measured.geom_xmat[boxes]
    half_sizes = field_of(world, 'geom_size', task.model_fields)[boxes]
    line = state.mocap_pos[0, 1]
    objects = jnp.concatenate(
      [centres, rotations[:, :, 0], rotations[:, :, 1], half_sizes], axis=1
    )
    hand = jnp.mean(tip_centres(carrier, measured), axis=0)
    metrics = _judge(task.target, hand, centres, line)
    reward = (
      metrics['success']
      - jnp.maximum(metrics['target_to_line_m'], 0.0)
      - 0.5 * metrics['hand_to_target_m']
    )
    return jnp.append(line, objects), reward, metrics

  return tabletop(
    name, table, begin, tell, num_seen=25, horizon=horizon, held_out=held_out
  )


def _lay_out(key: Array) -> tuple[Array, Array]:
  """Draws where things are: the objects' [2, 3], the left finger [1, 3]."""
  side_key, x_key, y_key, yaw_key, finger_key = jax.random.split(key, 5)
  side = jax.random.rademacher(side_key, (), jnp.float32)
  noise = jax.random.uniform(x_key, (2,), minval=-1.0)
  low, high = _OBJECT_Y_M
  poses = jnp.stack(
    [
      _OBJECT_X_M * side * jnp.array([1.0, -1.0]) + _OBJECT_NOISE_M * noise,
      jax.random.uniform(y_key, (2,), minval=low, maxval=high),
      _OBJECT_YAW * jax.random.uniform(yaw_key, (2,), minval=-1.0),
    ],
    axis=1,
  )
  low, high = _FINGER_Y_M
  line = jax.random.uniform(finger_key, minval=low, maxval=high)
  return poses, jnp.zeros((1, 3)).at[0, 1].set(line)


def _judge(
  target: Array, hand: Array, centres: Array, line: Array
) -> dict[str, Array]:
  """Returns the metrics (Yu et al. 2018, section VI-B).

  Of the middle between the fingertips [3], the objects' centres [2, 3] and the
  left finger's place along y [], m.
  """
  offsets = centres - hand[None, :]
  distances = jnp.sqrt(jnp.sum(jnp.square(offsets), axis=1) + 1e-12)
  gaps = line - centres[:, 1]
  return {
    'success': (gaps[target] < _BESIDE_M).astype(jnp.float32),
    'target_to_line_m': gaps[target],
    'hand_to_target_m': distances[target],
    # Which object was meant, whether or not it got home.
    'nearest_is_target': (jnp.argmin(distances) == target).astype(jnp.float32),
  }
