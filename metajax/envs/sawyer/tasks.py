"""Tabletop tasks for the Sawyer, in the manner of Meta-World."""

from collections.abc import Mapping
import dataclasses

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from metajax.core.validation import check_choice, check_count
from metajax.envs.appearance import Appearance, painted, plain
from metajax.envs.environment import (
  Env,
  EnvSpec,
  EnvState,
  checked,
  first_state,
)
from metajax.envs.sawyer.families import FAMILIES, Family
from metajax.envs.sawyer.hand import (
  NUM_SUBSTEPS,
  Layout,
  Reading,
  Sawyer,
  SawyerMemory,
  marker_at,
  mechanism_point,
  sawyer_in,
)

_MAX_HAND_NOISE_M = 0.01
# The goals' x (a mechanism's place) is cut into eight strips; these two are
# only for held-out tasks, so that those lie between training tasks.
_NUM_STRIPS = 8
_TRAINING_STRIPS = (0, 1, 3, 4, 6, 7)
_HELD_OUT_STRIPS = (2, 5)
_TRAINING_SEEDS = (1, 10_000)
_HELD_OUT_SEEDS = (10_000, 20_000)


@struct.dataclass
class SawyerTask:
  """Where things are, and where they are to go."""

  # [3] float32, m: where the free object starts, or where the mechanism is
  # fastened.
  object_pos: Array
  # [3] float32, m: where the object's point (the hand, in `reach`) is to be.
  goal: Array
  appearance: Appearance  # colours of the object; nothing simulated
  # Arrays of the model by name, of this task alone; {}: the model as it is.
  model_fields: Mapping[str, Array] = dataclasses.field(default_factory=dict)


def make_sawyer(
  name: str,
  horizon: int = 200,
  *,
  hide_goal: bool = False,
  physics: str = 'mjx',
) -> Env:
  """Builds one of the Sawyer's families by its name (Yu et al. 2020).

  A hand with a gripper, under position control, at a table; `FAMILIES` tells
  all of them. With `d` the distance of the object's point to the goal, `d_0`
  the same after the reset, and `h` the distance of the finger tips to where
  the object is taken hold of (m):

    `r = 1 - tanh(10 h) + 4 clip(1 - d / d_0, 0, 1) + 5 [success]`

    success: `d` at most the family's `success_m`

  in [0, 10] as Meta-World's rewards are, whose own are longer. In `reach` the
  object's point is the hand, and `h = d`.

  The observation [39] is one for all families: 18 numbers of now, the 18 of
  the step before, the goal (3, m; zeros if hidden). The 18: hand (3, m),
  opening of the gripper (1, 0 to 1), object (3, m, where it is taken hold
  of; 4, quaternion), 7 zeros where Meta-World tells a second object.

  The action [4] moves the hand's setpoint by up to 1 cm in x, y, z and closes
  (1) or opens (-1) the gripper. A control step is 12.5 ms (5 physics steps);
  an episode never ends before its horizon. The hand starts up to 1 cm beside
  its place.

  Held-out tasks have goals (mechanisms: places) in two of eight strips of x
  that training tasks never come from, and other texture seeds.

  Substituted, as against Meta-World: the hand moves on servoed slides, and
  the arm is only drawn (`sawyer_in`); all shapes are boxes, capsules and
  spheres of our own; the holes of `sweep_into` and `hand_insert` stand on
  the table as a pocket and a well; `sweep` ends on the table's right side.

  Args:
    name: a family, one of `FAMILIES`.
    horizon: control steps in an episode.
    hide_goal: whether the goal's numbers are zeros and its marker not drawn.
    physics: name of the engine, `mjx` or `c`.

  Returns:
    The environment; its tasks are `SawyerTask`. Its metrics: `success`,
    `object_to_goal_m`, `hand_to_object_m`.

  Raises:
    InputError: if an argument is out of its range.
  """
  check_choice('name', name, tuple(FAMILIES))
  check_count('horizon', horizon)
  family = FAMILIES[name]
  sawyer = sawyer_in(family.scene, physics)
  model = sawyer.world.model

  def reset(task: SawyerTask, key: Array) -> EnvState:
    noise = jax.random.uniform(key, (3,), minval=-1.0, maxval=1.0)
    hand = jnp.array(family.hand) + _MAX_HAND_NOISE_M * noise
    layout = Layout(
      fixture=_fixture_of(family, task),
      object=task.object_pos,
      joint=jnp.asarray(family.joint_start, jnp.float32),
      marker=marker_at(task.goal, hide_goal=hide_goal),
    )
    state = sawyer.start(hand, layout)
    measured = sawyer.measure(state, layout.fixture, task.model_fields)
    reading = sawyer.read(state, measured)
    half = observe(reading)
    goal = jnp.zeros((3,)) if hide_goal else task.goal
    first_distance = _distances(family, reading, task)[0]
    return first_state(
      task,
      state,
      jnp.concatenate([half, half, goal]),
      _judge(family, reading, task, first_distance)[1],
      SawyerMemory(
        setpoint=hand,
        reading=reading,
        fixture=layout.fixture,
        goal=task.goal,
        first_distance=first_distance,
      ),
    )

  def step(state: EnvState, action: Array) -> EnvState:
    task, memory = state.task, state.memory
    physics_state, measured, setpoint = sawyer.move(
      state.physics,
      memory.setpoint,
      action,
      _fixture_of(family, task),
      task.model_fields,
    )
    reading = sawyer.read(physics_state, measured)
    halves = [observe(reading), observe(memory.reading)]
    goal = jnp.zeros((3,)) if hide_goal else task.goal
    reward, metrics = _judge(family, reading, task, memory.first_distance)
    return dataclasses.replace(
      state,
      physics=physics_state,
      observation=jnp.concatenate([*halves, goal]),
      reward=reward,
      metrics=metrics,
      memory=dataclasses.replace(memory, setpoint=setpoint, reading=reading),
    )

  env = Env(
    spec=EnvSpec(
      name=f'sawyer_{name}',
      observation_size=39,
      action_size=4,
      horizon=horizon,
      control_period_s=NUM_SUBSTEPS * sawyer.world.time_step_s,
    ),
    sample_task=_sampler(family, sawyer, _TRAINING_STRIPS, _TRAINING_SEEDS),
    sample_test_task=_sampler(
      family, sawyer, _HELD_OUT_STRIPS, _HELD_OUT_SEEDS
    ),
    reset=reset,
    step=step,
    model=model,
    holds_physics=sawyer.world.needs_options,
    scene_fields=lambda state: sawyer.fields(
      state.memory.fixture, state.task.model_fields
    ),
  )
  return checked(env)


def observe(reading: Reading) -> Array:
  """Returns the 18 numbers that an observation tells of one moment."""
  return jnp.concatenate(
    [
      reading.hand,
      reading.opening[None],
      reading.grasp,
      reading.orientation,
      jnp.zeros((7,)),
    ]
  )


def _fixture_of(family: Family, task: SawyerTask) -> Array:
  """Returns where what is fastened to the table stands, [3] m."""
  if family.goal_region is None:
    return task.object_pos
  if family.fixture is None:
    return task.goal
  return jnp.array(family.fixture)


def _distances(
  family: Family, reading: Reading, task: SawyerTask
) -> tuple[Array, Array]:
  """Returns object to goal and tips to object, m."""
  point = reading.hand if family.moves_hand else reading.object
  to_goal = jnp.linalg.norm(point - task.goal)
  if family.moves_hand:
    return to_goal, to_goal
  return to_goal, jnp.linalg.norm(reading.tool - reading.grasp)


def _judge(
  family: Family, reading: Reading, task: SawyerTask, first_distance: Array
) -> tuple[Array, Mapping[str, Array]]:
  """Returns the reward and the metrics of one moment."""
  to_goal, to_object = _distances(family, reading, task)
  success = (to_goal <= family.success_m).astype(jnp.float32)
  progress = jnp.clip(
    1.0 - to_goal / jnp.maximum(first_distance, 1e-3), 0.0, 1.0
  )
  reward = 1.0 - jnp.tanh(10.0 * to_object) + 4.0 * progress + 5.0 * success
  return reward, {
    'success': success,
    'object_to_goal_m': to_goal,
    'hand_to_object_m': to_object,
  }


def _sampler(
  family: Family,
  sawyer: Sawyer,
  strips: tuple[int, ...],
  seed_range: tuple[int, int],
):
  """Returns `sample_task` for some of the strips of x."""
  model = sawyer.world.model
  appearance = plain(model)
  object_body = model.body('object').id
  geoms = jnp.asarray(np.flatnonzero(model.geom_bodyid == object_body))
  offset = jnp.zeros((3,))
  if sawyer.mechanism is not None:
    offset = jnp.asarray(mechanism_point(model, family.joint_goal))

  def sample_task(key: Array) -> SawyerTask:
    object_key, goal_key, colour_key = jax.random.split(key, 3)
    everywhere = tuple(range(_NUM_STRIPS))
    if family.goal_region is None:
      object_pos = _point_in(family.object_region, strips, object_key)
      goal = object_pos + offset
    else:
      object_pos = _point_in(family.object_region, everywhere, object_key)
      goal = _point_in(family.goal_region, strips, goal_key)
    return SawyerTask(
      object_pos=object_pos,
      goal=goal,
      appearance=painted(appearance, geoms, colour_key, seed_range=seed_range),
    )

  return sample_task


def _point_in(region, strips: tuple[int, ...], key: Array) -> Array:
  """Draws a point of a box, its x from some of the box's strips."""
  low, high = (jnp.array(corner) for corner in region)
  strip_key, place_key = jax.random.split(key)
  strip = jax.random.choice(strip_key, jnp.array(strips))
  place = jax.random.uniform(place_key, (3,))
  place = place.at[0].set((strip + place[0]) / _NUM_STRIPS)
  return low + (high - low) * place
