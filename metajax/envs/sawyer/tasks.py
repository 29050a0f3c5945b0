"""Tabletop tasks for the Sawyer, in the manner of Meta-World."""

from collections.abc import Callable, Mapping
import dataclasses

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp

from metajax.core.validation import check_choice
from metajax.envs.appearance import Appearance
from metajax.envs.environment import Env
from metajax.envs.sawyer.families import FAMILIES, Family, Point
from metajax.envs.sawyer.hand import (
  Layout,
  Reading,
  Sawyer,
  mechanism_point,
  sawyer_in,
)
from metajax.envs.sawyer.splits import (
  HELD_OUT,
  TRAINING,
  Split,
  object_painter,
  point_in,
)
from metajax.envs.sawyer.tabletop import Rules, tabletop

OBSERVATION_SIZE = 39

_MAX_HAND_NOISE_M = 0.01


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
  family = FAMILIES[name]
  sawyer = sawyer_in(family.scene, physics)

  def layout(task: SawyerTask, key: Array) -> Layout:
    return Layout(
      hand=hand_near(family.hand, key),
      fixture=_fixture_of(family, task),
      object=task.object_pos,
      goal=task.goal,
      joint=family.joint_start,
    )

  def observe(task: SawyerTask, before: Reading, now: Reading) -> Array:
    goal = jnp.zeros((3,)) if hide_goal else task.goal
    return observation_of(before, now, goal)

  def judge(
    task: SawyerTask, reading: Reading, first_distance: Array
  ) -> tuple[Array, Mapping[str, Array]]:
    to_goal, to_object = _distances(family, reading, task)
    progress = 1.0 - to_goal / jnp.maximum(first_distance, 1e-3)
    return reward_of(to_goal, to_object, progress, to_goal <= family.success_m)

  rules = Rules(
    sample_task=_sampler(family, sawyer, TRAINING),
    sample_test_task=_sampler(family, sawyer, HELD_OUT),
    layout=layout,
    observe=observe,
    judge=judge,
    first_record=lambda task, reading: _distances(family, reading, task)[0],
  )
  return tabletop(
    name,
    sawyer,
    rules,
    observation_size=OBSERVATION_SIZE,
    horizon=horizon,
    hide_goal=hide_goal,
  )


def hand_near(hand: Point, key: Array) -> Array:
  """Returns where the hand starts, [3] m, up to 1 cm beside its place."""
  noise = jax.random.uniform(key, (3,), minval=-1.0, maxval=1.0)
  return jnp.array(hand) + _MAX_HAND_NOISE_M * noise


def observation_of(
  before: Reading,
  now: Reading,
  goal: Array,
  second_object: Array | None = None,
) -> Array:
  """Returns the observation that all families share, see `make_sawyer`.

  Args:
    before: reading of the step before.
    now: reading of this moment.
    goal: [3] float32, m.
    second_object: [7] float32, m and quaternion; None: zeros.

  Returns:
    [39] float32.
  """
  second = jnp.zeros((7,)) if second_object is None else second_object
  halves = [
    part
    for reading in (now, before)
    for part in (
      reading.hand,
      reading.opening[None],
      reading.grasp,
      reading.orientation,
      second,
    )
  ]
  return jnp.concatenate([*halves, goal])


def reward_of(
  to_goal: Array, to_object: Array, progress: Array, is_success: Array
) -> tuple[Array, Mapping[str, Array]]:
  """Returns `1 - tanh(10 h) + 4 clip(progress, 0, 1) + 5 [success]`, metrics.

  Args:
    to_goal: [] float32, m, from object to goal.
    to_object: [] float32, m, `h`, from the tips to the object.
    progress: [] float32, how much of the way the object has made.
    is_success: [] bool.
  """
  success = is_success.astype(jnp.float32)
  progress = jnp.clip(progress, 0.0, 1.0)
  reward = 1.0 - jnp.tanh(10.0 * to_object) + 4.0 * progress + 5.0 * success
  return reward, {
    'success': success,
    'object_to_goal_m': to_goal,
    'hand_to_object_m': to_object,
  }


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


def _sampler(
  family: Family, sawyer: Sawyer, split: Split
) -> Callable[[Array], SawyerTask]:
  """Returns `sample_task` of one split."""
  model = sawyer.world.model
  paint = object_painter(model, split)
  offset = jnp.zeros((3,))
  if sawyer.mechanism is not None:
    offset = jnp.asarray(mechanism_point(model, family.joint_goal))

  def sample_task(key: Array) -> SawyerTask:
    object_key, goal_key, colour_key = jax.random.split(key, 3)
    if family.goal_region is None:
      object_pos = point_in(family.object_region, object_key, split.strips)
      goal = object_pos + offset
    else:
      object_pos = point_in(family.object_region, object_key)
      goal = point_in(family.goal_region, goal_key, split.strips)
    return SawyerTask(
      object_pos=object_pos, goal=goal, appearance=paint(colour_key)
    )

  return sample_task
