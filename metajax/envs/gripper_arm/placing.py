"""Putting an object into one of three containers, held or to be picked up."""

from collections.abc import Callable
import dataclasses
from typing import Any

import jax
from jax import Array
import jax.numpy as jnp

from metajax.core.validation import check_choice, check_count
from metajax.envs.appearance import plain
from metajax.envs.engines import make_physics
from metajax.envs.environment import (
  Env,
  EnvSpec,
  EnvState,
  checked,
  first_state,
)
from metajax.envs.gripper_arm.bodies import (
  CONTROL_PERIOD_S,
  GRIPPER_ARM,
  Body,
  compile_scene,
)
from metajax.envs.gripper_arm.control import (
  find_carrier,
  fingers_around,
  move_hand,
  observe_hand,
)
from metajax.envs.gripper_arm.objects import (
  MASS_FIELDS,
  TabletopTask,
  draw_things,
  first_and_last,
  object_shapes,
  own_fields,
  paint,
  put_containers,
  put_objects,
  set_friction,
)
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
from metajax.envs.physics import Measurement, PhysicsState, field_of

_NUM_VALIDATION, _NUM_TEST = 12, 15
_SMALLEST_M, _LARGEST_M = (0.018, 0.012, 0.022), (0.03, 0.022, 0.035)
_WORKSPACE_M = ((-0.2, -0.27, 0.012), (0.15, 0.27, 0.3))
_POSTURE_NOISE = 0.01


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
  check_count('horizon', horizon)
  check_choice('held_out', held_out, ('validation', 'test'))
  model = compile_scene(body, 'placing_scene.xml')
  world = make_physics(model, physics)
  carrier = find_carrier(model, model.numeric('start_above').data, _WORKSPACE_M)
  num_substeps = round(CONTROL_PERIOD_S / world.time_step_s)
  scene = find_things(model, carrier)

  def sample_from(split: str) -> Callable[[Array], TabletopTask]:
    return lambda key: _draw_task(model, body, key, split)

  def told(task: TabletopTask, state: PhysicsState, measured: Measurement):
    sizes = field_of(world, 'geom_size', task.model_fields)
    seen = see(scene, measured, state, sizes)
    metrics = judge(task.target, seen)
    own = observe_hand(carrier, state, measured)
    return jnp.concatenate([own, describe(seen)]), metrics

  def reset(task: TabletopTask, key: Array) -> EnvState:
    posture_key, container_key, object_key = jax.random.split(key, 3)
    sizes = field_of(world, 'geom_size', task.model_fields)
    half_sizes = sizes[scene.geom]
    noise = jax.random.normal(posture_key, (len(carrier.posture),))
    posture = jnp.asarray(carrier.posture) + _POSTURE_NOISE * noise
    if is_held:
      scale = body.scale(model, task.model_fields)
      fingers = fingers_around(carrier, half_sizes[1], scale)
    else:
      fingers = jnp.asarray(carrier.finger_positions[-1])
    lying = lay_down(object_key, half_sizes[2])
    state = world.reset(
      jnp.concatenate([posture, fingers, lying]),
      mocap_pos=lay_out(container_key),
    )._replace(act=posture)
    measured = world.measure(state, model_fields=task.model_fields)
    if is_held:
      held = between_fingers(carrier, measured, half_sizes[2])
      state = state._replace(qpos=state.qpos.at[-7:].set(held))
      measured = world.measure(state, model_fields=task.model_fields)
    observation, metrics = told(task, state, measured)
    return first_state(task, state, observation, metrics)

  def step(state: EnvState, action: Array) -> EnvState:
    task = state.task
    linear, angular = body.speeds
    speed = linear if task.speed is None else task.speed
    next_physics, measured = move_hand(
      world,
      carrier,
      state.physics,
      action,
      speeds=jnp.array([speed, angular]),
      num_substeps=num_substeps,
      model_fields=task.model_fields,
    )
    observation, metrics = told(task, next_physics, measured)
    reward = metrics['success'] - metrics['object_to_target_m']
    if not is_held:
      reward -= metrics['hand_to_object_m']
    return dataclasses.replace(
      state,
      physics=next_physics,
      observation=observation,
      reward=reward,
      metrics=metrics,
    )

  env = Env(
    spec=EnvSpec(
      name=f'{body.name}{name}',
      observation_size=2 * len(carrier.posture) + 16 + 12 + 15,
      action_size=7,
      horizon=horizon,
      control_period_s=num_substeps * world.time_step_s,
    ),
    sample_task=sample_from('training'),
    sample_test_task=sample_from(held_out),
    reset=reset,
    step=step,
    model=model,
    holds_physics=world.needs_options,
  )
  return checked(env)


def _draw_task(model: Any, body: Body, key: Array, split: str) -> TabletopTask:
  things_key, body_key = jax.random.split(key)
  indices = first_and_last(split, _NUM_VALIDATION, _NUM_TEST)
  things = draw_things(things_key, indices, 1, len(CONTAINERS))
  fields = own_fields(
    model,
    ('geom_size', 'geom_pos', 'pair_friction', *MASS_FIELDS),
  )
  fields = put_containers(model, fields, things.containers)
  shapes = object_shapes(things.objects, _SMALLEST_M, _LARGEST_M)
  fields = put_objects(model, fields, ('object',), shapes)
  fields = set_friction(model, fields, things)
  looks = paint(model, plain(model), CONTAINERS, things.containers, split=split)
  looks = paint(model, looks, ('object',), things.objects, split=split)
  fields, looks, speed = body.dress(model, fields, looks, body_key, split)
  return TabletopTask(
    target=things.target, model_fields=fields, appearance=looks, speed=speed
  )
