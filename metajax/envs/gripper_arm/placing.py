"""Putting an object into one of three containers, held or to be picked up."""

import jax
from jax import Array
import jax.numpy as jnp

from metajax.envs.environment import Env
from metajax.envs.gripper_arm.bodies import GRIPPER_ARM, Body
from metajax.envs.gripper_arm.control import draw_posture, fingers_around
from metajax.envs.gripper_arm.objects import TabletopTask
from metajax.envs.gripper_arm.scene import (
  CONTAINERS,
  between_fingers,
  describe,
  find_things,
  judge,
  lay_down,
  lay_out,
  see,
)
from metajax.envs.gripper_arm.tabletop import Setting, set_table, tabletop
from metajax.envs.physics import Measurement, PhysicsState, field_of

_SETTING = Setting(
  scene='placing_scene.xml',
  posture='start_above',
  workspace_m=((-0.2, -0.27, 0.012), (0.15, 0.27, 0.3)),
  objects=('object',),
  smallest_m=(0.018, 0.012, 0.022),
  largest_m=(0.03, 0.022, 0.035),
  num_validation=12,
  num_test=15,
  containers=CONTAINERS,
)


def placing(
  horizon: int = 30, held_out: str = 'test', *, physics: str = 'mjx'
) -> Env:
  """Builds placing: a held object goes into one of three containers.

  A seven-joint arm of the PR2's proportions holds an object above a table
  (Finn et al. 2017, section 6.3; Yu et al. 2018, section VI-A). The task is
  the object, the three containers and which of them is the target: any
  container is the target of one task and a distractor of others. Where the
  containers stand is drawn when an episode begins. With `d` the horizontal
  distance from the object's centre to the target's, m,

    `r = -d + success`

  and success is 1 while the object's centre is above the target's footprint,
  it is as low as if it stood there, slower than 0.05 m/s, and the gripper is
  4 mm wider open than the object. An episode never ends before its horizon.

  The action [7], at 10 Hz, is the hand's linear (0.3 m/s at 1) and angular
  velocity (1.5 rad/s) in the world's frame, and how far the gripper closes,
  from -1 (open) to 1 (firm). Joint velocities follow by damped least squares.

  The observation [57] is that of the body (`observe_hand`, 30), the object's
  centre (3, m), two columns of its rotation (6) and half sizes (3, m), and of
  each container its place (2, m), half sizes (2, m) and the radius of its
  walls (m), in 3 slots; the task's target is a slot. Angles and velocities in
  rad, rad/s and m/s.

  Containers and objects are procedural, 100 of each to train with. Equal keys
  draw equal things, targets and friction as in the other bodies' environments
  of this task, so that a demonstration by one belongs to a task of the other.

  Args:
    horizon: control steps in an episode.
    held_out: which things `sample_test_task` draws, 12 of `validation` or 15
      of `test`.
    physics: name of the engine, `mjx` or `c`.

  Returns:
    The environment; its tasks are `TabletopTask`.

  Raises:
    InputError: if an argument is out of its range.
  """
  return build_placing(
    GRIPPER_ARM,
    'placing',
    is_held=True,
    horizon=horizon,
    held_out=held_out,
    physics=physics,
  )


def pick_and_place(
  horizon: int = 80, held_out: str = 'test', *, physics: str = 'mjx'
) -> Env:
  """Builds pick-and-place: the object stands on the table at first.

  Everything is as in `placing` (Yu et al. 2018, section VI-A), but that the
  gripper is open, the object stands in front of the containers, turned by up
  to 0.4 rad, and the hand has to come to it: with `h` its distance from the
  middle between the fingertips, m,

    `r = -d - h + success`

  Args:
    horizon: control steps in an episode.
    held_out: which things `sample_test_task` draws, `validation` or `test`.
    physics: name of the engine, `mjx` or `c`.

  Returns:
    The environment; its tasks are `TabletopTask`.

  Raises:
    InputError: if an argument is out of its range.
  """
  return build_placing(
    GRIPPER_ARM,
    'pick_and_place',
    is_held=False,
    horizon=horizon,
    held_out=held_out,
    physics=physics,
  )


def build_placing(
  body: Body,
  name: str,
  *,
  is_held: bool,
  horizon: int,
  held_out: str,
  physics: str,
) -> Env:
  """Builds placing or pick-and-place for a body.

  Args:
    body: who acts.
    name: of the task.
    is_held: whether the object is held at first.
    horizon: control steps in an episode.
    held_out: which things `sample_test_task` draws, `validation` or `test`.
    physics: name of the engine.

  Returns:
    The environment.
  """
  table = set_table(_SETTING, body, physics)
  world, carrier = table.world, table.carrier
  scene = find_things(world.model, carrier)

  def begin(task: TabletopTask, key: Array) -> PhysicsState:
    posture_key, container_key, object_key = jax.random.split(key, 3)
    half_sizes = field_of(world, 'geom_size', task.model_fields)[scene.geom]
    if is_held:
      scale = body.scale(world.model, task.model_fields)
      fingers = fingers_around(carrier, half_sizes[1], scale)
    else:
      fingers = jnp.asarray(carrier.finger_positions[-1])
    posture = draw_posture(carrier, posture_key)
    lying = lay_down(object_key, half_sizes[2])
    state = world.reset(
      jnp.concatenate([posture, fingers, lying]),
      mocap_pos=lay_out(container_key),
    )
    if not is_held:
      return state
    measured = world.measure(state, model_fields=task.model_fields)
    held = between_fingers(carrier, measured, half_sizes[2])
    return state._replace(qpos=state.qpos.at[-7:].set(held))

  def tell(task: TabletopTask, state: PhysicsState, measured: Measurement):
    sizes = field_of(world, 'geom_size', task.model_fields)
    seen = see(scene, measured, state, sizes)
    metrics = judge(task.target, seen)
    reward = metrics['success'] - metrics['object_to_target_m']
    if not is_held:
      reward -= metrics['hand_to_object_m']
    return describe(seen), reward, metrics

  return tabletop(
    name, table, begin, tell, num_seen=27, horizon=horizon, held_out=held_out
  )
