"""What the Jaco's teacher looks at, and how it turns the hand to a block."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jax import Array
import jax.numpy as jnp

from metajax.envs.environment import EnvState
from metajax.envs.jaco.stacking import BLOCKS
from metajax.envs.kinematics import rotate
from metajax.envs.physics import Measurement, Physics, field_of

_CROWDED_M = 0.16  # blocks nearer than this may stand in a finger's way


class Scene(NamedTuple):
  """What the teacher looks at.

  Attributes:
    hand: [3] m, between the finger tips.
    hand_quaternion: [4].
    fingers: [3] rad.
    target: [3] m, centre of the block to be handled.
    target_quaternion: [4].
    other: [3] m.
    rest_height: [] m, between the centres of stacked blocks.
    gap: [] m, of the target over where it would rest on the other.
    offset: [] m, between the centres, horizontally.
  """

  hand: Array
  hand_quaternion: Array
  fingers: Array
  target: Array
  target_quaternion: Array
  other: Array
  rest_height: Array
  gap: Array
  offset: Array


def scene_reader(
  model: Any, world: Physics
) -> Callable[[EnvState, Measurement], Scene]:
  """Returns what reads a scene from a state and where everything is in it.

  Args:
    model: the `mujoco.MjModel` of the Jaco and its blocks.
    world: its physics.
  """
  bodies = jnp.asarray([model.body(name).id for name in BLOCKS])
  geoms = jnp.asarray([model.geom(name).id for name in BLOCKS])
  site, hand = model.site('jaco_grasp').id, model.body('jaco_hand').id

  def read(state: EnvState, measured: Measurement) -> Scene:
    target = bodies[state.task.target]
    sizes = field_of(world, 'geom_size', state.task.model_fields)
    return Scene(
      hand=measured.site_xpos[site],
      hand_quaternion=measured.xquat[hand],
      fingers=state.physics.qpos[6:9],
      target=measured.xpos[target],
      target_quaternion=measured.xquat[target],
      other=measured.xpos[bodies[1 - state.task.target]],
      rest_height=jnp.sum(sizes[geoms, 2]),
      gap=state.metrics['stack_gap_m'],
      offset=state.metrics['stack_offset_m'],
    )

  return read


def turn_to_target(
  scene: Scene, tilt: float | Array, side: float | Array
) -> tuple[Array, Array]:
  """Turns the hand to two faces of the target, with room for the fingers.

  Of the four ways, the one that needs least turning and that leans best to the
  wanted side and not outwards, where the arm is too short for it, unless a
  finger would come down on the other block.

  Args:
    scene: what there is.
    tilt: [] rad, >= 0, of the hand from the vertical.
    side: [], 1: it leans to the robot's left, -1: to its right.

  Returns:
    [] rad, the hand's yaw, and [] rad, its tilt about its own y axis, along
    which the fingers close.
  """
  axes = rotate(jnp.broadcast_to(scene.target_quaternion, (3, 4)), jnp.eye(3))
  flat = axes[jnp.argmin(jnp.abs(axes[:, 2]))]
  ways = jnp.arctan2(flat[1], flat[0]) + jnp.arange(4) * jnp.pi / 2
  along = rotate(scene.hand_quaternion, jnp.array([1.0, 0.0, 0.0]))
  turns = _wrapped(ways - jnp.arctan2(along[1], along[0]))
  beside = scene.other[:2] - scene.target[:2]
  distance = jnp.linalg.norm(beside) + 1e-6
  # The fingers close along the hand's y axis, and it tilts along its x axis.
  closing = jnp.stack([-jnp.sin(ways), jnp.cos(ways)], axis=-1)
  is_blocked = jnp.abs(closing @ beside) / distance > 0.7
  signs = jnp.where(side * jnp.sin(ways) < 0, -1.0, 1.0)
  leaning = signs[:, None] * jnp.stack([jnp.cos(ways), jnp.sin(ways)], axis=-1)
  outwards = leaning @ scene.target[:2] / jnp.linalg.norm(scene.target[:2])
  leans_badly = jnp.maximum(outwards, 0.0) - jnp.abs(leaning[:, 1])
  cost = jnp.abs(turns) + 3.0 * (is_blocked & (distance < _CROWDED_M))
  best = jnp.argmin(cost + 5.0 * jnp.sin(tilt) * leans_badly)
  return _wrapped(ways[best]), tilt * signs[best]


def hand_orientation(yaw: Array, lean: Array) -> Array:
  """Returns how a hand is turned that points down, then tilts, then turns.

  Args:
    yaw: [] rad, about the vertical.
    lean: [] rad, about its own y axis.

  Returns:
    [4] float32, the quaternion `q_z(yaw) q_y(lean)`.
  """
  cosine, sine = jnp.cos(yaw / 2), jnp.sin(yaw / 2)
  upright, leaning = jnp.cos(lean / 2), jnp.sin(lean / 2)
  return jnp.stack(
    [cosine * upright, -sine * leaning, cosine * leaning, sine * upright]
  )


def _wrapped(angles: Array) -> Array:
  """Brings angles into [-pi, pi)."""
  return jnp.mod(angles + jnp.pi, 2 * jnp.pi) - jnp.pi
