"""The Sawyer's hand under position control, in any scene on its table."""

from collections.abc import Callable, Mapping
import importlib
from typing import Any, NamedTuple

from jax import Array
import jax.numpy as jnp
import numpy as np

from metajax.envs.engines import load_model, make_physics
from metajax.envs.physics import (
  Measurement,
  Physics,
  PhysicsState,
  field_of,
)

# Where the hand's setpoint may be (Yu et al. 2020), m.
HAND_LOW = (-0.5, 0.4, 0.05)
HAND_HIGH = (0.5, 1.0, 0.5)
# From the point of the hand that is controlled to the middle of the tips, m.
TOOL_OFFSET = (0.0, 0.0, -0.035)
NUM_SUBSTEPS = 5
FINGER_TRAVEL_M = 0.045

_METERS_PER_ACTION = 0.01
# A blocked hand's setpoint runs away no further than this: the servo is
# saturated at 60 N before that.
_LEASH_M = 0.04
# The drawn arm (sawyer_description): shoulder in the world, links, and how far
# the wrist lies above the hand, m.
_SHOULDER = (0.0, 0.1, 0.317)
_LINK_M = 0.4
_WRIST_M = 0.24
# Below the table, m.
_UNSEEN = (0.0, 0.0, -1.0)


class Layout(NamedTuple):
  """How an episode begins.

  Attributes:
    hand: [3] float32, m, where the hand starts.
    fixture: [3] float32, m, where what is fastened to the table stands; it
      counts for nothing in a scene that has no such thing.
    object: [3] float32, m, where a free object starts; likewise.
    goal: [3] float32, m, where the object's point is to be.
    joint: m or rad, where a mechanism starts; likewise.
  """

  hand: Array
  fixture: Array
  object: Array
  goal: Array
  joint: float = 0.0


class Reading(NamedTuple):
  """What an environment needs to know of one moment.

  Attributes:
    hand: [3] float32, m, the point that is controlled.
    tool: [3] float32, m, the middle of the finger tips.
    opening: [] float32, of the gripper, 0 closed, 1 open.
    grasp: [3] float32, m, where the object is taken hold of.
    object: [3] float32, m, the point of the object that is to reach the goal.
    orientation: [4] float32, the object's quaternion (w, x, y, z).
    joint: [] float32, m or rad, the mechanism's; 0 where there is none.
  """

  hand: Array
  tool: Array
  opening: Array
  grasp: Array
  object: Array
  orientation: Array
  joint: Array


class Sawyer(NamedTuple):
  """The hand in one scene: pure functions of one world.

  Attributes:
    world: the physics.
    start: `(layout, *, opening=1.0, hide_goal=False) -> PhysicsState`; the
      gripper's opening lies in [0, 1], a hidden goal's marker is not seen.
    move: `(state, setpoint [3], action [4], fixture [3], model_fields) ->
      (PhysicsState, Measurement, setpoint)`, one control period later.
    measure: `(state, fixture [3], model_fields) -> Measurement`.
    read: `(state, measurement) -> Reading`.
    fields: `(fixture [3], model_fields) -> model_fields` with the fixture put
      where it stands.
    mechanism: index of the mechanism's joint, or None.
  """

  world: Physics
  start: Callable[..., PhysicsState]
  move: Callable[..., tuple[PhysicsState, Measurement, Array]]
  measure: Callable[..., Measurement]
  read: Callable[[PhysicsState, Measurement], Reading]
  fields: Callable[..., Mapping[str, Array]]
  mechanism: int | None


def sawyer_in(scene: str, physics: str = 'mjx') -> Sawyer:
  """Puts the hand into a scene.

  The hand is three slides with stiff servos, its orientation fixed, instead of
  seven hinges welded to a placed body: the tool moves as under position
  control, with 5 degrees of freedom in place of 9 and no chain. The arm
  that is drawn follows in closed form and touches nothing; where the hand is
  further away than two links reach (the far corners), it is drawn short.

  An action [4] in [-1, 1] moves the setpoint by up to 1 cm in x, y, z, and
  sets the gripper: -1 open, 1 closed. One control period is 12.5 ms.

  Args:
    scene: `models/sawyer_<scene>.xml`. Its object is a body `object` with a
      free joint or on a joint `mechanism`, with a site `object` and perhaps
      one `grasp`; what is fastened and moves between tasks is `fixture`.
    physics: name of the engine, `mjx` or `c`.

  Returns:
    The hand in it.

  Raises:
    InputError: if there is no such scene or engine.
  """
  model = load_model(f'sawyer_{scene}.xml')
  world = make_physics(model, physics)
  joints = [model.joint(j).name for j in range(model.njnt)]
  bodies = [model.body(b).name for b in range(model.nbody)]
  sites = [model.site(s).name for s in range(model.nsite)]
  fixture_body = bodies.index('fixture') if 'fixture' in bodies else None
  mechanism = joints.index('mechanism') if 'mechanism' in joints else None
  object_body, object_site = bodies.index('object'), sites.index('object')
  grasp_site = sites.index('grasp' if 'grasp' in sites else 'object')
  hand_body = bodies.index('hand')
  mocap = {
    name: int(model.body_mocapid[bodies.index(name)])
    for name in ('upper_arm', 'forearm', 'goal')
  }

  def fields(
    fixture: Array, model_fields: Mapping[str, Array]
  ) -> Mapping[str, Array]:
    if fixture_body is None:
      return model_fields
    positions = field_of(world, 'body_pos', model_fields)
    return {
      **model_fields,
      'body_pos': positions.at[fixture_body].set(fixture),
    }

  def with_arm(state: PhysicsState) -> PhysicsState:
    elbow, upper, lower = arm_pose(state.qpos[:3])
    ids = jnp.array([mocap['upper_arm'], mocap['forearm']])
    places = jnp.stack([jnp.asarray(_SHOULDER), elbow])
    return state._replace(
      mocap_pos=state.mocap_pos.at[ids].set(places),
      mocap_quat=state.mocap_quat.at[ids].set(jnp.stack([upper, lower])),
    )

  def start(
    layout: Layout, *, opening: float = 1.0, hide_goal: bool = False
  ) -> PhysicsState:
    fingers = jnp.full((2,), opening * FINGER_TRAVEL_M)
    if mechanism is None:
      upright = jnp.array([1.0, 0.0, 0.0, 0.0])
      rest = jnp.concatenate([layout.object, upright])
    else:
      rest = jnp.full((1,), layout.joint)
    # In the order of the file: every scene includes the hand first.
    state = world.reset(jnp.concatenate([layout.hand, fingers, rest]))
    marker = jnp.array(_UNSEEN) if hide_goal else layout.goal
    return with_arm(
      state._replace(mocap_pos=state.mocap_pos.at[mocap['goal']].set(marker))
    )

  def move(
    state: PhysicsState,
    setpoint: Array,
    action: Array,
    fixture: Array,
    model_fields: Mapping[str, Array],
  ) -> tuple[PhysicsState, Measurement, Array]:
    action = jnp.clip(action, -1.0, 1.0)
    hand = state.qpos[:3]
    setpoint = setpoint + _METERS_PER_ACTION * action[:3]
    setpoint = jnp.clip(setpoint, hand - _LEASH_M, hand + _LEASH_M)
    setpoint = jnp.clip(setpoint, jnp.array(HAND_LOW), jnp.array(HAND_HIGH))
    # Closed, the fingers press: their target lies beyond where they meet.
    finger = FINGER_TRAVEL_M * (0.25 - 0.75 * action[3])
    ctrl = jnp.concatenate([setpoint, jnp.stack([finger, finger])])
    state, measurement = world.step(
      state,
      ctrl,
      num_substeps=NUM_SUBSTEPS,
      model_fields=fields(fixture, model_fields),
    )
    return with_arm(state), measurement, setpoint

  def measure(
    state: PhysicsState, fixture: Array, model_fields: Mapping[str, Array]
  ) -> Measurement:
    return world.measure(state, model_fields=fields(fixture, model_fields))

  def read(state: PhysicsState, measurement: Measurement) -> Reading:
    hand = measurement.xpos[hand_body]
    return Reading(
      hand=hand,
      tool=hand + jnp.array(TOOL_OFFSET),
      opening=jnp.clip(jnp.mean(state.qpos[3:5]) / FINGER_TRAVEL_M, 0.0, 1.0),
      grasp=measurement.site_xpos[grasp_site],
      object=measurement.site_xpos[object_site],
      orientation=measurement.xquat[object_body],
      joint=jnp.zeros(()) if mechanism is None else state.qpos[-1],
    )

  return Sawyer(world, start, move, measure, read, fields, mechanism)


def arm_pose(hand: Array) -> tuple[Array, Array, Array]:
  """Returns how the arm is drawn: two links in a vertical plane, elbow up.

  With the wrist at distance `d` and elevation `e` of the shoulder, the upper
  arm's elevation is `e + acos(d / 2 l)` (law of cosines, links of length `l`).

  Args:
    hand: [3] float32, m.

  Returns:
    The elbow [3], m, and the quaternions [4] of upper arm and forearm, whose
    links point along their z.
  """
  shoulder = jnp.array(_SHOULDER)
  offset = hand + jnp.array([0.0, 0.0, _WRIST_M]) - shoulder
  distance = jnp.linalg.norm(offset) + 1e-6
  azimuth = jnp.arctan2(offset[1], offset[0])
  elevation = jnp.arcsin(offset[2] / distance)
  bend = jnp.arccos(jnp.clip(distance / (2.0 * _LINK_M), 0.0, 1.0))
  upper, lower = elevation + bend, elevation - bend
  elbow = shoulder + _LINK_M * jnp.array(
    [
      jnp.cos(upper) * jnp.cos(azimuth),
      jnp.cos(upper) * jnp.sin(azimuth),
      jnp.sin(upper),
    ]
  )
  return elbow, _pointing(azimuth, upper), _pointing(azimuth, lower)


def _pointing(azimuth: Array, elevation: Array) -> Array:
  """Returns the quaternion that turns z to an azimuth and an elevation."""
  half, tilt = 0.5 * azimuth, 0.5 * (0.5 * jnp.pi - elevation)
  # Tilted about y first, then turned about z.
  return jnp.array(
    [
      jnp.cos(half) * jnp.cos(tilt),
      -jnp.sin(half) * jnp.sin(tilt),
      jnp.cos(half) * jnp.sin(tilt),
      jnp.sin(half) * jnp.cos(tilt),
    ]
  )


def mechanism_point(model: Any, joint: float) -> np.ndarray:
  """Finds where a mechanism's point is at one position of its joint.

  Args:
    model: the host's `mujoco.MjModel` of a scene with a joint `mechanism`.
    joint: the position, m or rad.

  Returns:
    [3] float32, m, the site `object` relative to the fixture.
  """
  # Here, so that `import metajax` stays quick.
  mujoco = importlib.import_module('mujoco')
  data = mujoco.MjData(model)
  data.joint('mechanism').qpos[:] = joint
  mujoco.mj_kinematics(model, data)
  offset = data.site('object').xpos - data.body('fixture').xpos
  return offset.astype(np.float32)
