"""Carries out plans with the Sawyer's hand, by a teacher that sees all."""

from collections.abc import Callable
import dataclasses
import importlib
from typing import Any

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from metajax.demos.teachers.sawyer_plans import PLANS, Anchor, Plan, Stage
from metajax.demos.teachers.styles import WaypointStyle
from metajax.demos.teachers.teacher import Teacher
from metajax.envs.environment import Env, EnvState
from metajax.envs.sawyer.hand import HAND_HIGH, HAND_LOW, TOOL_OFFSET

_DIRECT_GAIN_PER_M = 100.0  # the setpoint is there in one step
_PATIENCE = 60


@struct.dataclass
class PlanMemory:
  """Where the teacher is in its plan."""

  stage: Array  # [] int32
  count: Array  # [] int32, control steps in this stage
  start: Array  # [3] float32, m, where the object was first
  via: Array  # [3] float32, m, where `Anchor.VIA` is


def sawyer_teacher(
  env: Env,
  plan: Plan | str,
  style: WaypointStyle = WaypointStyle(),  # noqa: B008
) -> Teacher:
  """Carries out a plan of waypoints in one of the Sawyer's families.

  The hand's setpoint goes straight to the stage's waypoint, which moves with
  the object; reached, or after 60 steps without that, the next stage
  begins. If the object is lost, the plan begins anew.

  Args:
    env: an environment of the Sawyer.
    plan: the plan, or a family's name in `PLANS`.
    style: how it goes; the point that it may go through first is drawn for
      each episode, any way beside the middle between hand and object.

  Returns:
    The teacher; it also reads hidden goals.
  """
  plan = PLANS[plan] if isinstance(plan, str) else plan
  first = int(style.via_m > 0)
  via = Stage(Anchor.VIA, gripper=plan.stages[0].gripper, tolerance_m=0.03)
  stages = (via,) * first + plan.stages
  table = {
    name: jnp.asarray(np.array([getattr(s, name) for s in stages]))
    for name in Stage._fields
  }
  direction = _direction(env.model, plan)
  tool = jnp.array(TOOL_OFFSET)
  last = len(stages) - 1

  def first_memory(state: EnvState, key: Array) -> PlanMemory:
    zero = jnp.zeros((), jnp.int32)
    reading = state.memory.reading
    end = state.memory.goal if plan.moves_hand else reading.grasp
    angle = jax.random.uniform(key, (), maxval=2 * jnp.pi)
    beside = jnp.stack([jnp.cos(angle), jnp.sin(angle)])
    middle = 0.5 * (reading.hand + end)[:2] + style.via_m * beside
    return PlanMemory(
      stage=zero,
      count=zero,
      start=reading.grasp,
      via=jnp.append(middle, reading.hand[2]),
    )

  def act(
    state: EnvState, memory: PlanMemory, key: Array
  ) -> tuple[Array, PlanMemory]:
    del key
    reading, goal = state.memory.reading, state.memory.goal
    hand, grasp, point = reading.hand, reading.grasp, reading.object
    stage = {name: column[memory.stage] for name, column in table.items()}
    if plan.moves_hand:
      point = hand
    way = direction(state, memory.start, point, goal)
    remaining = jnp.linalg.norm(goal - point)
    is_pushing = stage['anchor'] == Anchor.PUSH
    # The less eager it is, the further ahead it aims, to push as fast.
    lead = stage['lead'] * _DIRECT_GAIN_PER_M / style.gain_per_m
    lead = jnp.where(is_pushing, jnp.minimum(lead, remaining), 0.0)
    # Off the line through object and goal: back on it first.
    behind = (grasp - hand - tool).at[2].set(0.0)
    aside = jnp.linalg.norm(behind - jnp.dot(behind, way) * way)
    steer = jnp.clip(1.0 - aside / stage['aside_m'], -0.7, 1.0)
    lead = lead * steer
    targets = jnp.stack(
      [
        memory.start - tool,
        grasp - tool + stage['along'] * way,
        grasp - tool + (stage['along'] + lead) * way,
        hand + goal - point,
        hand + state.memory.fixture - point,
        memory.via,
      ]
    )
    target = targets[stage['anchor']] + stage['offset']
    target = jnp.clip(target, jnp.array(HAND_LOW), jnp.array(HAND_HIGH))
    move = style.gain_per_m * (target - state.memory.setpoint)
    length = jnp.linalg.norm(move) + 1e-6
    move = move * jnp.minimum(1.0, stage['speed'] / length)
    has_arrived = (remaining < stage['arrived_m']) | (
      jnp.dot(way, goal - point) < 0.0
    )
    move = jnp.where(is_pushing & has_arrived, 0.0, move)
    action = jnp.append(move, stage['gripper'])[: env.spec.action_size]

    count = memory.count + 1
    is_there = jnp.linalg.norm(target - hand) < stage['tolerance_m']
    is_over = (is_there | (count > _PATIENCE)) & (count >= stage['dwell'])
    is_lost = jnp.linalg.norm(hand + tool - grasp) > stage['lost_m']
    following = jnp.where(
      is_over, jnp.minimum(memory.stage + 1, last), memory.stage
    )
    following = jnp.where(is_lost, first, following)
    return action, dataclasses.replace(
      memory,
      stage=following,
      count=jnp.where(following == memory.stage, count, 0),
      start=jnp.where(is_lost, grasp, memory.start),
    )

  return Teacher(
    name=f'{env.spec.name}_plan',
    first_memory=first_memory,
    act=act,
    execution_noise=style.execution_noise,
  )


def _direction(model: Any, plan: Plan) -> Callable[..., Array]:
  """Returns `(state, start, point, goal) -> d`, [3] of length 1."""
  joints = [model.joint(j).name for j in range(model.njnt)]
  is_mechanism = 'mechanism' in joints
  axis = anchor = jnp.zeros((3,))
  is_slide = False
  if is_mechanism:
    mujoco = importlib.import_module('mujoco')
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    joint = joints.index('mechanism')
    axis = jnp.asarray(data.xaxis[joint], jnp.float32)
    anchor = jnp.asarray(
      data.xanchor[joint] - data.body('fixture').xpos, jnp.float32
    )
    is_slide = int(model.jnt_type[joint]) == int(mujoco.mjtJoint.mjJNT_SLIDE)

  def direction(
    state: EnvState, start: Array, point: Array, goal: Array
  ) -> Array:
    def tangent(point: Array) -> Array:
      if is_slide:
        return axis
      return jnp.cross(axis, point - state.memory.fixture - anchor)

    if is_mechanism:
      # Seen from its start, the goal of an arc lies ahead of the tangent.
      is_ahead = jnp.dot(tangent(start), goal - start) >= 0.0
      way = tangent(point) * jnp.where(is_ahead, 1.0, -1.0)
    else:
      way = (goal - point).at[2].set(0.0)
    if plan.is_flat:
      way = way.at[2].set(0.0)
    return way / (jnp.linalg.norm(way) + 1e-6)

  return direction
