"""Planar arms that reach, push a peg into a hole, slide a fork over a stick."""

import functools
from typing import Any

import jax
from jax import Array
import jax.numpy as jnp

from metajax.core.validation import check_range
from metajax.envs.engines import load_model, make_physics
from metajax.envs.environment import Env, PyTree
from metajax.envs.physics import Physics, PhysicsState
from metajax.envs.planar import arm as planar_arm
from metajax.envs.planar.arm import Insertion, PlanarScene, PlanarTask
from metajax.envs.planar.episode import Verdict, planar_env
from metajax.envs.planar.key import key2d

_MAX_TILT_RAD = 0.25
_ARRIVED_M = 0.01  # how near the goal the tip has to come
_ARRIVED_BESIDE_M = 0.02  # across the stick


def reach2d(*, physics: str = 'mjx') -> Env:
  """Builds Reach2D: the tip of a planar arm goes to an unseen point.

  A three-link arm stands at (0.64, 0.36) m in a workspace of 1.28 x 0.72 m.
  Its last link, the effector, is 275 mm long and is commanded by velocities
  of its tip `P`: the action [3] is x and y (1: 0.1 m/s) and angle (1:
  5 pi / 8 rad/s). The other two links are drawn only. With
  `omega = (1.28, 0.72)` m,

    `r = -2 |(G - P) / omega|`

  and success, `|G - P| < 10` mm, ends the episode. Of 50 goals spread over
  x in [0.105, 1.151] and y in [0.106, 0.619] m, 40 are for training and 10
  are held out. An episode begins 0.25 to 0.5 m from the goal, at any angle.

  The observation [4] is `(P - base) / omega` and the cosine and sine of the
  angle; it does not tell the goal. The control period is 0.2 s, the horizon 60
  steps. The original runs in a two-dimensional simulator of game physics,
  where a unit is 1 mm here (PERIL, submitted to ICLR 2021).

  Metrics: `success`; `sparse_reward`, 1 at the goal and 0 elsewhere;
  `goal_distance_m`.

  Args:
    physics: name of the engine, `mjx` or `c`.

  Returns:
    The environment; its tasks are `PlanarTask`.

  Raises:
    InputError: if there is no such engine.
  """
  scene = PlanarScene(
    name='reach2d',
    base=(0.64, 0.36),
    goal_low=(0.105, 0.106),
    goal_high=(1.151, 0.619),
    start_distance=(0.25, 0.5),
    start_angle=3.14159,
    turns_freely=True,
  )
  world = make_physics(load_model('planar_reach.xml'), physics)

  def build_task(points: Array, key: Array) -> PlanarTask:
    goal = points[jax.random.randint(key, (), 0, points.shape[0])]
    return PlanarTask(goal=goal, entry=goal)

  def begin(task: PlanarTask, start: Array) -> PhysicsState:
    return _put(world.reset(start), [task.goal], jnp.zeros(()))

  def judge(task: PlanarTask, state: PhysicsState, memory: PyTree) -> Verdict:
    del memory
    distance = jnp.linalg.norm(task.goal - state.qpos[:2])
    return Verdict(success=distance < _ARRIVED_M)

  return planar_env(scene, world, build_task, begin, judge)


def peg2d(imperfection: float = 0.0, *, physics: str = 'mjx') -> Env:
  """Builds Peg2D: the effector goes into a hole in a wall.

  The arm stands at (0.2, 0.36) m. Actions, observation, reward and times are
  those of `reach2d`, the goal `G` is the end of the hole, and success is
  to be within 10 mm of it along the hole. Of 50 mouths spread over x in
  [0.975, 1.025] and y in [0.2, 0.52] m, 40 are for training, 10 held out. The
  hole is 40 mm wide and 200 mm deep, the effector 28 mm wide. An episode
  begins 0.1 to 0.25 m from the mouth on the free side of the wall, at an angle
  of at most pi / 4. The effector turns at most 1.2 rad.

  Args:
    imperfection: in [0, 1]: how far a scene is off the one that its key draws
      without: the mouth by at most (25.6, 14.4) mm, the depth by 5 %, the
      width by 10 %, the wall's angle by 0.25 rad, times this. For
      demonstrations of a slightly different scene.
    physics: name of the engine, `mjx` or `c`.

  Returns:
    The environment; its tasks are `PlanarTask`. With an imperfection their
    `model_fields` hold the width.

  Raises:
    InputError: if an argument is out of its range.
  """
  check_range('imperfection', imperfection, minimum=0.0, maximum=1.0)
  scene = PlanarScene(
    name='peg2d',
    base=(0.2, 0.36),
    goal_low=(0.975, 0.2),
    goal_high=(1.025, 0.52),
  )
  world = make_physics(load_model('planar_peg.xml'), physics)

  def build_task(points: Array, key: Array) -> PlanarTask:
    drawn = planar_arm.draw_insertion(points, imperfection, _MAX_TILT_RAD, key)
    return PlanarTask(
      goal=drawn.point + drawn.depth * planar_arm.direction(drawn.tilt),
      entry=drawn.point,
      model_fields=_gap(
        world.model,
        imperfection,
        ('jaw_left', 'corner_left'),
        ('jaw_right', 'corner_right'),
        drawn,
      ),
    )

  def judge(task: PlanarTask, state: PhysicsState, memory: PyTree) -> Verdict:
    del memory
    along, _ = _along_and_across(task, state)
    return Verdict(success=along > -_ARRIVED_M)

  begin = functools.partial(_begin_outside, world)
  return planar_env(scene, world, build_task, begin, judge)


def stick2d(imperfection: float = 0.0, *, physics: str = 'mjx') -> Env:
  """Builds Stick2D: a fork slides over a stick that stands out of a wall.

  The arm stands at (0.2, 0.36) m; its effector is a fork of two parallel bars,
  with the tip half-way between their ends. Actions, observation, reward and
  times are those of `reach2d`, the goal `G` is the stick's root, and
  success is to be within 10 mm of it along the stick and 20 mm across. Of 50
  roots spread over x in [1.125, 1.175] and y in [0.2, 0.51] m, 40 are for
  training, 10 held out. The stick is 200 mm long and 28 mm wide, the gap
  between the bars 40 mm. An episode begins 0.1 to 0.25 m from the stick's end,
  at an angle of at most pi / 4. The effector turns at most 1.2 rad.

  Args:
    imperfection: in [0, 1], as for `peg2d`; the wall stays upright.
    physics: name of the engine, `mjx` or `c`.

  Returns:
    The environment; its tasks are `PlanarTask`. With an imperfection their
    `model_fields` hold the gap.

  Raises:
    InputError: if an argument is out of its range.
  """
  check_range('imperfection', imperfection, minimum=0.0, maximum=1.0)
  scene = PlanarScene(
    name='stick2d',
    base=(0.2, 0.36),
    goal_low=(1.125, 0.2),
    goal_high=(1.175, 0.51),
  )
  world = make_physics(load_model('planar_stick.xml'), physics)

  def build_task(points: Array, key: Array) -> PlanarTask:
    drawn = planar_arm.draw_insertion(points, imperfection, 0.0, key)
    return PlanarTask(
      goal=drawn.point,
      entry=drawn.point - drawn.depth * planar_arm.direction(drawn.tilt),
      model_fields=_gap(
        world.model,
        imperfection,
        ('bar_left', 'tip_left'),
        ('bar_right', 'tip_right'),
        drawn,
      ),
    )

  def judge(task: PlanarTask, state: PhysicsState, memory: PyTree) -> Verdict:
    del memory
    along, across = jnp.abs(jnp.stack(_along_and_across(task, state)))
    return Verdict(success=(along < _ARRIVED_M) & (across < _ARRIVED_BESIDE_M))

  begin = functools.partial(_begin_outside, world)
  return planar_env(scene, world, build_task, begin, judge)


# One observation, one action and one horizon: one agent may learn them all.
PLANAR_FAMILIES = (reach2d, peg2d, stick2d, key2d)


def _gap(
  model: Any,
  imperfection: float,
  left: tuple[str, ...],
  right: tuple[str, ...],
  drawn: Insertion,
) -> dict[str, Array]:
  """Returns the arrays of the model that a scene's own gap changes."""
  if not imperfection:
    return {}
  shift = jnp.stack([jnp.zeros(()), drawn.widening])
  return {'geom_pos': planar_arm.widened(model, left, right, shift)}


def _put(state: PhysicsState, points: list[Array], turn: Array) -> PhysicsState:
  """Puts what is placed behind the two links at points [2], turned about z."""
  turns = [planar_arm.quaternion_about_z(turn)] * len(points)
  places = [planar_arm.in_plane(point) for point in points]
  return state._replace(
    mocap_pos=state.mocap_pos.at[2:].set(jnp.stack(places)),
    mocap_quat=state.mocap_quat.at[2:].set(jnp.stack(turns)),
  )


def _begin_outside(
  world: Physics, task: PlanarTask, start: Array
) -> PhysicsState:
  """Puts what stands at the entry and what stands at the goal in place."""
  way = task.goal - task.entry
  turn = jnp.arctan2(way[1], way[0])
  return _put(world.reset(start), [task.entry, task.goal], turn)


def _along_and_across(
  task: PlanarTask, state: PhysicsState
) -> tuple[Array, Array]:
  """Returns where the tip is, from the goal, along and across the way in."""
  way = (task.goal - task.entry) / jnp.linalg.norm(task.goal - task.entry)
  offset = state.qpos[:2] - task.goal
  return jnp.dot(offset, way), way[0] * offset[1] - way[1] * offset[0]
