"""The arm of the planar scenes: its goals, where it starts, how it moves."""

from collections.abc import Mapping
import dataclasses
from typing import Any, NamedTuple

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from metajax.envs.physics import Physics, PhysicsState

HORIZON = 60
CONTROL_PERIOD_S = 0.2
NUM_SUBSTEPS = 20
EFFECTOR_LENGTH_M = 0.275
WORKSPACE_M = (1.28, 0.72)
DEPTH_M = 0.2  # of a hole, of a socket; length of a stick
HALF_GAP_M = 0.02

MAX_VELOCITY = (0.1, 0.1, 5 * np.pi / 8)  # m/s, m/s, rad/s
# Beyond it the effector would point away from what it is to go into.
_MAX_ANGLE_RAD = 1.2
_LINK_LENGTHS_M = (0.375, 0.385)
_NUM_GOALS = 50
_HELD_OUT_EVERY = 5
_NUM_START_CANDIDATES = 64


@struct.dataclass
class PlanarTask:
  """Where the effector's tip is to arrive, and the way in."""

  goal: Array  # [2] float32, m, the end of the hole, the root of the stick
  # [2] float32, m: the mouth of the hole, the end of the stick; where there is
  # nothing to enter, the goal. Episodes begin around it.
  entry: Array
  # Arrays of the model by name, of this task alone; {}: the model as it is.
  model_fields: Mapping[str, Array] = dataclasses.field(default_factory=dict)


class PlanarScene(NamedTuple):
  """The numbers of one family of planar scenes.

  Attributes:
    name: of the environment.
    base: (x, y), m, where the arm stands.
    goal_low: (x, y), m, the nearest corner of the goals' range.
    goal_high: (x, y), m, the farthest.
    start_distance: (least, most), m, of the first tip from `entry`.
    start_angle: rad, the first angle's largest size.
    turns_freely: whether the effector may turn all the way round.
  """

  name: str
  base: tuple[float, float]
  goal_low: tuple[float, float]
  goal_high: tuple[float, float]
  start_distance: tuple[float, float] = (0.1, 0.25)
  start_angle: float = np.pi / 4
  turns_freely: bool = False


def spread_points(low: Any, high: Any) -> tuple[Array, Array]:
  """Spreads fifty points over a box; ten between the others are held out.

  They are the additive recurrence `u_n = frac(1/2 + n a)` with `a_j = g^-j`
  and `g` the generalised golden ratio, `g^(d+1) = g + 1` (Roberts 2018): no
  two are close to each other. Every fifth is held out.

  Args:
    low: [d] numbers, the box's lowest corner.
    high: [d] numbers, its highest.

  Returns:
    (train [40, d], held_out [10, d]) float32.
  """
  low, high = np.asarray(low), np.asarray(high)
  ratio = 2.0
  for _ in range(64):
    ratio = (1 + ratio) ** (1 / (low.size + 1))
  steps = ratio ** -np.arange(1, low.size + 1)
  unit = (0.5 + np.arange(_NUM_GOALS)[:, None] * steps[None]) % 1.0
  points = (low[None] + unit * (high - low)[None]).astype(np.float32)
  is_held_out = np.arange(_NUM_GOALS) % _HELD_OUT_EVERY == _HELD_OUT_EVERY - 1
  return jnp.asarray(points[~is_held_out]), jnp.asarray(points[is_held_out])


class Insertion(NamedTuple):
  """One draw of what the effector goes into, or over.

  Attributes:
    point: [2] float32, m, the goal or the entry, whichever the family draws.
    depth: [] float32, m, from the entry to the goal.
    widening: [] float32, m, what is added to half of the gap.
    tilt: [] float32, rad, the way in, from the x axis.
  """

  point: Array
  depth: Array
  widening: Array
  tilt: Array


def draw_insertion(
  points: Array, imperfection: float, max_tilt: float, key: Array
) -> Insertion:
  """Draws one of the points, and how far the scene is off what it should be.

  A key draws the same point whatever the imperfection.

  Args:
    points: [n, 2] float32, m.
    imperfection: in [0, 1]: the point is off by at most this share of
      (25.6, 14.4) mm, the depth of 5 %, the gap of 10 %, the tilt of
      `max_tilt`; all uniform.
    max_tilt: rad.
    key: key of the draw.

  Returns:
    The draw.
  """
  point_key, error_key = jax.random.split(key)
  errors = imperfection * jax.random.uniform(error_key, (5,), minval=-1.0)
  point = points[jax.random.randint(point_key, (), 0, points.shape[0])]
  return Insertion(
    point=point + errors[:2] * _workspace() / 50.0,
    depth=DEPTH_M * (1.0 + 0.05 * errors[2]),
    widening=0.1 * errors[3] * HALF_GAP_M,
    tilt=max_tilt * errors[4],
  )


def widened(
  model: Any, left: tuple[str, ...], right: tuple[str, ...], shift: Array
) -> Array:
  """Returns the model's `geom_pos` with a gap opened or shifted.

  Args:
    model: a `mujoco.MjModel`.
    left: names of the geoms on the side of positive y.
    right: names of those on the other.
    shift: [2] float32, m: along x; and along y, away from the gap's middle.

  Returns:
    [ngeom, 3] float32, m.
  """
  positions = jnp.asarray(model.geom_pos, jnp.float32)
  for names, side in ((left, 1.0), (right, -1.0)):
    rows = np.array([model.geom(name).id for name in names])
    move = jnp.stack([shift[0], side * shift[1], jnp.zeros(())])
    positions = positions.at[rows].add(move[None])
  return positions


def direction(angle: Array) -> Array:
  """Returns the unit vector [2] at an angle from the x axis, rad."""
  return jnp.stack([jnp.cos(angle), jnp.sin(angle)])


def quaternion_about_z(angle: Array) -> Array:
  """Returns the unit quaternion [4] (w, x, y, z) of a turn about z, rad."""
  zero = jnp.zeros_like(angle)
  return jnp.stack([jnp.cos(angle / 2), zero, zero, jnp.sin(angle / 2)])


def in_plane(point: Array) -> Array:
  """Returns a point [2] of the plane as one [3] of the world."""
  return jnp.concatenate([point, jnp.zeros((1,))])


def sample_start(scene: PlanarScene, task: PlanarTask, key: Array) -> Array:
  """Draws where an episode begins.

  The first of 64 candidates that lies in the workspace, on the free side of
  what stands at the entry: within 1.2 rad of the way out, or all round where
  the effector turns freely.

  Args:
    scene: the scene's numbers.
    task: the task.
    key: key of the draw.

  Returns:
    [3] float32, the effector's x, y (m) and angle (rad).
  """
  distance_key, bearing_key, angle_key = jax.random.split(key, 3)
  shape = (_NUM_START_CANDIDATES,)
  distances = jax.random.uniform(
    distance_key,
    shape,
    minval=scene.start_distance[0],
    maxval=scene.start_distance[1],
  )
  widest = np.pi if scene.turns_freely else _MAX_ANGLE_RAD
  bearings = jax.random.uniform(
    bearing_key, shape, minval=np.pi - widest, maxval=np.pi + widest
  )
  offsets = distances[:, None] * jnp.stack(
    [jnp.cos(bearings), jnp.sin(bearings)], axis=1
  )
  points = task.entry[None] + offsets
  fits = jnp.all((points >= 0) & (points <= _workspace()[None]), axis=1)
  angle = jax.random.uniform(
    angle_key, (1,), minval=-scene.start_angle, maxval=scene.start_angle
  )
  return jnp.concatenate([points[jnp.argmax(fits)], angle])


def observe(scene: PlanarScene, state: PhysicsState) -> Array:
  """Returns the observation [4]: the tip from the base, and its angle."""
  tip, angle = state.qpos[:2], state.qpos[2]
  from_base = (tip - jnp.asarray(scene.base)) / _workspace()
  return jnp.concatenate([from_base, direction(angle)])


def normalised_distance(goal: Array, tip: Array) -> Array:
  """Returns `|(goal - tip) / workspace|`, [] float32, without unit."""
  return jnp.linalg.norm((goal - tip) / _workspace())


def command(scene: PlanarScene, state: PhysicsState, action: Array) -> Array:
  """Returns the velocities [3] that an action asks of the servos.

  Slower where a control step at that speed would leave the workspace.
  """
  top = jnp.asarray(MAX_VELOCITY)
  wanted = jnp.clip(action, -1.0, 1.0) * top
  turn = np.inf if scene.turns_freely else _MAX_ANGLE_RAD
  low = jnp.asarray([0.0, 0.0, -turn])
  high = jnp.asarray([*WORKSPACE_M, turn])
  position = state.qpos[:3]
  return jnp.clip(
    wanted,
    jnp.clip((low - position) / CONTROL_PERIOD_S, -top, top),
    jnp.clip((high - position) / CONTROL_PERIOD_S, -top, top),
  )


def move(
  world: Physics,
  scene: PlanarScene,
  state: PhysicsState,
  action: Array,
  model_fields: Mapping[str, Array],
) -> PhysicsState:
  """Carries one action out.

  Args:
    world: the physics.
    scene: the scene's numbers.
    state: before.
    action: [3] float32, x, y and angular velocity, each of its largest.
    model_fields: the task's own arrays of the model.

  Returns:
    The state a control period later, the arm's links placed for drawing.
  """
  state, _ = world.step(
    state,
    command(scene, state, action),
    num_substeps=NUM_SUBSTEPS,
    model_fields=model_fields,
  )
  return place_links(scene, state)


def place_links(scene: PlanarScene, state: PhysicsState) -> PhysicsState:
  """Places the two drawn links between the base and the effector.

  Args:
    scene: the scene's numbers.
    state: of a model whose first two placed bodies are the links.

  Returns:
    The state with the links in place; where the effector is too far or too
    near for them, they point to it.
  """
  base = jnp.asarray(scene.base)
  wrist = state.qpos[:2] - EFFECTOR_LENGTH_M * direction(state.qpos[2])
  first, second = _LINK_LENGTHS_M
  reach = wrist - base
  length = jnp.clip(
    jnp.linalg.norm(reach), abs(first - second) + 1e-4, first + second - 1e-4
  )
  cosine = (first**2 + length**2 - second**2) / (2 * first * length)
  bearing = jnp.arctan2(reach[1], reach[0])
  elbow_angle = bearing + jnp.arccos(cosine)
  elbow = base + first * direction(elbow_angle)
  end = base + length * direction(bearing)
  last_angle = jnp.arctan2(end[1] - elbow[1], end[0] - elbow[0])
  return state._replace(
    mocap_pos=state.mocap_pos.at[:2].set(
      jnp.stack([in_plane(base), in_plane(elbow)])
    ),
    mocap_quat=state.mocap_quat.at[:2].set(
      jnp.stack(
        [quaternion_about_z(elbow_angle), quaternion_about_z(last_angle)]
      )
    ),
  )


def _workspace() -> Array:
  return jnp.asarray(WORKSPACE_M)
