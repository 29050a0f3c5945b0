"""A body's environment at a table: tasks, reset and step of every family."""

from collections.abc import Callable, Mapping
import dataclasses
from typing import NamedTuple

import jax
from jax import Array
import jax.numpy as jnp

from metajax.core.validation import check_choice, check_count
from metajax.envs.appearance import plain, random_light
from metajax.envs.engines import compile_model, make_physics
from metajax.envs.environment import (
  Env,
  EnvSpec,
  EnvState,
  checked,
  first_state,
)
from metajax.envs.gripper_arm.bodies import Body
from metajax.envs.gripper_arm.control import (
  Carrier,
  find_carrier,
  move_hand,
  observe_hand,
)
from metajax.envs.gripper_arm.objects import (
  MASS_FIELDS,
  TabletopTask,
  draw_things,
  first_and_last,
  object_shapes,
  paint,
  put_containers,
  put_objects,
  set_friction,
)
from metajax.envs.physics import Measurement, Physics, PhysicsState

_CONTROL_PERIOD_S = 0.1


class Setting(NamedTuple):
  """What a family sets its table with."""

  scene: str  # MJCF file
  posture: str  # name of the joint angles there that episodes begin near
  # Corners of the box that the hand stays in.
  workspace_m: tuple[tuple[float, ...], tuple[float, ...]]
  objects: tuple[str, ...]  # names of their bodies
  smallest_m: tuple[float, float, float]  # half sizes of the objects
  largest_m: tuple[float, float, float]
  num_validation: int  # objects, and containers, held out
  num_test: int
  containers: tuple[str, ...] = ()  # without any, an object is the target


class Table(NamedTuple):
  """A table that is set, and who acts at it."""

  setting: Setting
  body: Body
  world: Physics
  carrier: Carrier


def set_table(setting: Setting, body: Body, physics: str) -> Table:
  """Sets a table for a body, in the physics of an engine."""
  model = compile_model(
    f'<mujoco><include file="{body.file_name}"/>'
    f'<include file="{setting.scene}"/></mujoco>'
  )
  posture = model.numeric(setting.posture).data
  return Table(
    setting=setting,
    body=body,
    world=make_physics(model, physics),
    carrier=find_carrier(model, posture, setting.workspace_m),
  )


def tabletop(
  name: str,
  table: Table,
  begin: Callable[[TabletopTask, Array], PhysicsState],
  tell: Callable[
    [TabletopTask, PhysicsState, Measurement],
    tuple[Array, Array, Mapping[str, Array]],
  ],
  *,
  num_seen: int,
  horizon: int,
  held_out: str,
) -> Env:
  """Builds a body's environment at a table.

  Args:
    name: of the family.
    table: where it takes place.
    begin: `(task, key) -> state`, how an episode begins; the servos' targets
      are set to where the joints are.
    tell: `(task, state, measured) -> (seen [num_seen], reward, metrics)`, what
      a moment tells of the things: it follows the body in the observation.
    num_seen: how many numbers that is.
    horizon: control steps in an episode.
    held_out: which things `sample_test_task` draws, `validation` or `test`.

  Returns:
    The environment.

  Raises:
    InputError: if an argument is out of its range.
  """
  check_count('horizon', horizon)
  check_choice('held_out', held_out, ('validation', 'test'))
  body, world, carrier = table.body, table.world, table.carrier
  num_joints = len(carrier.posture)
  num_substeps = round(_CONTROL_PERIOD_S / world.time_step_s)

  def reset(task: TabletopTask, key: Array) -> EnvState:
    state = begin(task, key)
    state = state._replace(act=state.qpos[:num_joints])
    measured = world.measure(state, model_fields=task.model_fields)
    seen, _, metrics = tell(task, state, measured)
    own = observe_hand(carrier, state, measured)
    return first_state(task, state, jnp.concatenate([own, seen]), metrics)

  def step(state: EnvState, action: Array) -> EnvState:
    task = state.task
    linear, angular = body.speeds
    speed = linear if task.speed is None else task.speed
    after, measured = move_hand(
      world,
      carrier,
      state.physics,
      action,
      speeds=jnp.array([speed, angular]),
      num_substeps=num_substeps,
      model_fields=task.model_fields,
    )
    seen, reward, metrics = tell(task, after, measured)
    own = observe_hand(carrier, after, measured)
    return dataclasses.replace(
      state,
      physics=after,
      observation=jnp.concatenate([own, seen]),
      reward=reward,
      metrics=metrics,
    )

  env = Env(
    spec=EnvSpec(
      name=f'{body.name}{name}',
      observation_size=2 * num_joints + 16 + num_seen,
      action_size=7,
      horizon=horizon,
      control_period_s=num_substeps * world.time_step_s,
    ),
    sample_task=lambda key: _draw_task(table, key, 'training'),
    sample_test_task=lambda key: _draw_task(table, key, held_out),
    reset=reset,
    step=step,
    model=world.model,
    holds_physics=world.needs_options,
  )
  return checked(env)


def _draw_task(table: Table, key: Array, split: str) -> TabletopTask:
  setting, model = table.setting, table.world.model
  objects, containers = setting.objects, setting.containers
  things_key, body_key, light_key = jax.random.split(key, 3)
  indices = first_and_last(split, setting.num_validation, setting.num_test)
  things = draw_things(things_key, indices, len(objects), len(containers))
  names = ['geom_size', 'geom_pos', 'pair_friction', *MASS_FIELDS]
  if model.dof_frictionloss.any():
    names.append('dof_frictionloss')
  fields = {x: jnp.asarray(getattr(model, x), jnp.float32) for x in names}
  looks = dataclasses.replace(plain(model), light=random_light(light_key))
  if containers:
    fields = put_containers(model, fields, things.containers)
    looks = paint(model, looks, containers, things.containers, split=split)
  shapes = object_shapes(things.objects, setting.smallest_m, setting.largest_m)
  fields = put_objects(model, fields, objects, shapes)
  fields = set_friction(model, fields, things)
  looks = paint(model, looks, objects, things.objects, split=split)
  fields, looks, speed = table.body.dress(model, fields, looks, body_key, split)
  return TabletopTask(
    target=things.target, model_fields=fields, appearance=looks, speed=speed
  )
