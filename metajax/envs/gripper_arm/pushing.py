"""Pushing the right one of two objects to the robot's left gripper."""

from collections.abc import Callable
import dataclasses
from typing import Any, NamedTuple

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

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
  move_hand,
  observe_hand,
  tip_centres,
)
from metajax.envs.gripper_arm.objects import (
  MASS_FIELDS,
  TabletopTask,
  draw_things,
  first_and_last,
  object_shapes,
  own_fields,
  paint,
  put_objects,
  set_friction,
)
from metajax.envs.physics import Measurement, PhysicsState, field_of

OBJECTS = ('object_0', 'object_1')
_NUM_VALIDATION, _NUM_TEST = 8, 12
_SMALLEST_M, _LARGEST_M = (0.018, 0.018, 0.022), (0.03, 0.03, 0.035)
_WORKSPACE_M = ((-0.18, -0.27, 0.012), (0.15, 0.27, 0.3))
_POSTURE_NOISE = 0.01
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
  check_count('horizon', horizon)
  check_choice('held_out', held_out, ('validation', 'test'))
  model = compile_scene(body, 'placing_push_scene.xml')
  world = make_physics(model, physics)
  carrier = find_carrier(
    model, model.numeric('start_beside').data, _WORKSPACE_M
  )
  num_substeps = round(CONTROL_PERIOD_S / world.time_step_s)
  closed = jnp.asarray(carrier.finger_positions[0])
  boxes = np.array([model.geom(f'{x}_body').id for x in OBJECTS])

  def sample_from(split: str) -> Callable[[Array], TabletopTask]:
    return lambda key: _draw_task(model, body, key, split)

  def told(task: TabletopTask, state: PhysicsState, measured: Measurement):
    half_sizes = field_of(world, 'geom_size', task.model_fields)[boxes]
    seen = _Seen(
      hand=jnp.mean(tip_centres(carrier, measured), axis=0),
      centres=measured.geom_xpos[boxes],
      line=state.mocap_pos[0, 1],
    )
    objects = jnp.concatenate(
      [
        seen.centres,
        measured.geom_xmat[boxes][:, :, 0],
        measured.geom_xmat[boxes][:, :, 1],
        half_sizes,
      ],
      axis=1,
    )
    own = observe_hand(carrier, state, measured)
    observation = jnp.concatenate([own, seen.line[None], jnp.ravel(objects)])
    return observation, _judge(task.target, seen)

  def reset(task: TabletopTask, key: Array) -> EnvState:
    posture_key, layout_key = jax.random.split(key)
    noise = jax.random.normal(posture_key, (len(carrier.posture),))
    posture = jnp.asarray(carrier.posture) + _POSTURE_NOISE * noise
    poses, finger = _lay_out(layout_key)
    state = world.reset(
      jnp.concatenate([posture, closed, jnp.ravel(poses)]), mocap_pos=finger
    )._replace(act=posture)
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
    return dataclasses.replace(
      state,
      physics=next_physics,
      observation=observation,
      reward=metrics['success']
      - jnp.maximum(metrics['target_to_line_m'], 0.0)
      - 0.5 * metrics['hand_to_target_m'],
      metrics=metrics,
    )

  env = Env(
    spec=EnvSpec(
      name=f'{body.name}{name}',
      observation_size=2 * len(carrier.posture) + 16 + 1 + 24,
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


class _Seen(NamedTuple):
  hand: Array  # [3] m, the middle between the fingertips
  centres: Array  # [2, 3] m, of the objects
  line: Array  # [] m, where the left finger is along y


def _draw_task(model: Any, body: Body, key: Array, split: str) -> TabletopTask:
  things_key, body_key = jax.random.split(key)
  indices = first_and_last(split, _NUM_VALIDATION, _NUM_TEST)
  things = draw_things(things_key, indices, len(OBJECTS), 0)
  fields = own_fields(
    model,
    (
      'geom_size',
      'geom_pos',
      'pair_friction',
      'dof_frictionloss',
      *MASS_FIELDS,
    ),
  )
  shapes = object_shapes(things.objects, _SMALLEST_M, _LARGEST_M)
  fields = put_objects(model, fields, OBJECTS, shapes)
  fields = set_friction(model, fields, things)
  looks = paint(model, plain(model), OBJECTS, things.objects, split=split)
  fields, looks, speed = body.dress(model, fields, looks, body_key, split)
  return TabletopTask(
    target=things.target, model_fields=fields, appearance=looks, speed=speed
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


def _judge(target: Array, seen: _Seen) -> dict[str, Array]:
  """Returns the metrics (Yu et al. 2018, section VI-B)."""
  offsets = seen.centres - seen.hand[None, :]
  distances = jnp.sqrt(jnp.sum(jnp.square(offsets), axis=1) + 1e-12)
  gaps = seen.line - seen.centres[:, 1]
  return {
    'success': (gaps[target] < _BESIDE_M).astype(jnp.float32),
    'target_to_line_m': gaps[target],
    'hand_to_target_m': distances[target],
    # Which object was meant, whether or not it got home.
    'nearest_is_target': (jnp.argmin(distances) == target).astype(jnp.float32),
  }
