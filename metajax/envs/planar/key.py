"""A planar arm that pushes into a lock and turns it."""

from collections.abc import Mapping

import jax
from jax import Array
import jax.numpy as jnp

from metajax.core.validation import check_range
from metajax.envs.engines import load_model, make_physics
from metajax.envs.environment import Env
from metajax.envs.physics import PhysicsState, field_of
from metajax.envs.planar import arm as planar_arm
from metajax.envs.planar.arm import PlanarScene, PlanarTask
from metajax.envs.planar.episode import Verdict, planar_env

GOAL_ANGLE_RAD = 0.9 * 3.14159265 / 6
_GOAL_ANGLES_RAD = (0.3, 0.5)
_TURNED_RAD = 0.05
_UNLOCKED = 0.05  # of the workspace, how near the tip comes to the goal
_SPRING_N_M_PER_RAD = 0.3


def key2d(
  imperfection: float = 0.0,
  *,
  draws_angle: bool = False,
  physics: str = 'mjx',
) -> Env:
  """Builds Key2D: the effector goes into a spring-loaded socket and turns it.

  The arm stands at (0.2, 0.36) m. Actions, observation and times are those of
  `reach2d`. The socket turns about its bottom, the goal `G`; it is shut by
  a stiff spring until the tip has once been so near that
  `|(G - P) / omega| < 0.05`, and from then on turns against a soft one. With
  its angle `theta`,

    `r = -(2 |(G - P) / omega| + 0.5 |theta - theta_goal|)`

  and success, `|theta - theta_goal| < 0.05` rad, ends the episode. The goal
  angle is 0.9 pi / 6 rad. Of 50 goals spread over x in [1.075, 1.125] and y in
  [0.243, 0.475] m, 40 are for training, 10 held out. The socket is 200 mm deep
  and 40 mm wide, at its mouth 1.2 times that. An episode begins 0.1 to 0.25 m
  from the mouth, at an angle of at most pi / 4 (PERIL, submitted to ICLR
  2021). The spring, the damper and that the socket turns about its bottom are
  chosen.

  Metrics: as `reach2d`, and `angle_error_rad` and `unlocked`. The memory
  is whether the socket has been unlocked.

  Args:
    imperfection: in [0, 1], as for `peg2d`; the socket is not tilted.
    draws_angle: whether each task has a goal angle of its own, uniform in
      [0.3, 0.5] rad; the task's goal is then (x, y, angle).
    physics: name of the engine, `mjx` or `c`.

  Returns:
    The environment; its tasks are `PlanarTask`. With an imperfection their
    `model_fields` hold the socket's width and depth.

  Raises:
    InputError: if an argument is out of its range.
  """
  check_range('imperfection', imperfection, minimum=0.0, maximum=1.0)
  scene = PlanarScene(
    name='key2d',
    base=(0.2, 0.36),
    goal_low=(1.075, 0.243),
    goal_high=(1.125, 0.475),
  )
  world = make_physics(load_model('planar_key.xml'), physics)
  hinge = world.model.joint('socket').id

  def build_task(points: Array, key: Array) -> PlanarTask:
    angle_key, key = jax.random.split(key)
    drawn = planar_arm.draw_insertion(points, imperfection, 0.0, key)
    goal, model_fields = drawn.point, {}
    if imperfection:
      deeper = planar_arm.DEPTH_M - drawn.depth
      model_fields['geom_pos'] = planar_arm.widened(
        world.model,
        ('jaw_left', 'mouth_left'),
        ('jaw_right', 'mouth_right'),
        jnp.stack([deeper, drawn.widening]),
      )
    if draws_angle:
      low, high = _GOAL_ANGLES_RAD
      angle = jax.random.uniform(angle_key, (1,), minval=low, maxval=high)
      goal = jnp.concatenate([goal, angle])
    entry = drawn.point - drawn.depth * planar_arm.direction(drawn.tilt)
    return PlanarTask(goal=goal, entry=entry, model_fields=model_fields)

  def begin(task: PlanarTask, start: Array) -> PhysicsState:
    return world.reset(jnp.concatenate([start, task.goal[:2], jnp.zeros((1,))]))

  def model_fields(task: PlanarTask, unlocked: Array) -> Mapping[str, Array]:
    shut = field_of(world, 'jnt_stiffness', task.model_fields)
    soft = shut.at[hinge].set(_SPRING_N_M_PER_RAD)
    stiffness = jnp.where(unlocked, soft, shut)
    return {**task.model_fields, 'jnt_stiffness': stiffness}

  def judge(task: PlanarTask, state: PhysicsState, unlocked: Array) -> Verdict:
    goal_angle = task.goal[2] if draws_angle else GOAL_ANGLE_RAD
    error = jnp.abs(state.qpos[5] - goal_angle)
    away = planar_arm.normalised_distance(task.goal[:2], state.qpos[:2])
    unlocked = unlocked | (away < _UNLOCKED)
    return Verdict(
      success=error < _TURNED_RAD,
      cost=0.5 * error,
      metrics={
        'angle_error_rad': error,
        'unlocked': unlocked.astype(jnp.float32),
      },
      memory=unlocked,
    )

  return planar_env(
    scene,
    world,
    build_task,
    begin,
    judge,
    first_memory=jnp.zeros((), bool),
    model_fields=model_fields,
  )
