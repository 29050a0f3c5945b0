"""The teacher of every family that has one, by the family's name."""

from collections.abc import Callable
import functools
from typing import NamedTuple

from metajax.core.validation import check_choice
from metajax.demos.teachers.arm_forces import arm_forces_teacher
from metajax.demos.teachers.hand import (
  hand_placing_teacher,
  hand_pushing_teacher,
)
from metajax.demos.teachers.jaco import jaco_teacher, plain_style
from metajax.demos.teachers.jaco_styles import Operator
from metajax.demos.teachers.placing import placing_teacher
from metajax.demos.teachers.planar import (
  insertion_teacher,
  key_teacher,
  reach3d_teacher,
  reach_teacher,
)
from metajax.demos.teachers.pusher import pusher_teacher
from metajax.demos.teachers.pushing import pushing_teacher
from metajax.demos.teachers.reacher import reacher_teacher
from metajax.demos.teachers.rope import rope_teacher
from metajax.demos.teachers.sawyer import sawyer_teacher
from metajax.demos.teachers.sawyer_plans import (
  AROUND_WALL,
  GUIDED_PLANS,
  PLANS,
  Plan,
)
from metajax.demos.teachers.spriteworld import spriteworld_teacher
from metajax.demos.teachers.styles import STYLES, Style, WaypointStyle, styled
from metajax.demos.teachers.table import table_teacher
from metajax.demos.teachers.teacher import Teacher
from metajax.envs.environment import Env
from metajax.envs.spriteworld.world import build_spriteworld


class Expert(NamedTuple):
  """How a family's teacher is made, and what styles it knows besides `plain`.

  Attributes:
    make: `(env) -> Teacher`; where `style` is a kind of its own, also
      `(env, style=...) -> Teacher`.
    num_moves: how many of its action's first elements are velocities, which a
      `Style` can slow down and smooth; 0: there are none.
    own_style: the kind of styles that only such teachers know, or None.
  """

  make: Callable[..., Teacher]
  num_moves: int = 0
  own_style: type | None = None


def _of_no_env(make: Callable[[], Teacher]) -> Callable[[Env], Teacher]:
  """Returns the factory of a teacher that needs nothing of its environment."""
  return lambda env: make()


def _on_its_engine(make: Callable[..., Teacher]) -> Callable[[Env], Teacher]:
  """Lets a teacher measure with the engine that its environment runs on."""
  return lambda env: make(env, physics='mjx' if env.holds_physics else 'c')


def _jaco(stage: str) -> Expert:
  """Returns the expert of one of the Jaco's stages."""

  def make(env: Env, style: Operator | None = None) -> Teacher:
    return jaco_teacher(env, stage, style or plain_style)

  return Expert(make, own_style=Operator)


def _sawyer(plan: Plan) -> Expert:
  """Returns the expert that carries out a plan."""
  return Expert(
    functools.partial(sawyer_teacher, plan=plan),
    num_moves=3,
    own_style=WaypointStyle,
  )


TEACHERS: dict[str, Expert] = {
  'reacher': Expert(_on_its_engine(reacher_teacher)),
  'pusher': Expert(_on_its_engine(pusher_teacher)),
  'arm_forces': Expert(_on_its_engine(arm_forces_teacher)),
  'arm_changing_forces': Expert(_on_its_engine(arm_forces_teacher)),
  'placing': Expert(
    functools.partial(placing_teacher, is_held=True), num_moves=6
  ),
  'pick_and_place': Expert(
    functools.partial(placing_teacher, is_held=False), num_moves=6
  ),
  'gripper_pushing': Expert(pushing_teacher, num_moves=6),
  'hand_placing': Expert(
    functools.partial(hand_placing_teacher, is_held=True), num_moves=6
  ),
  'hand_pick_and_place': Expert(
    functools.partial(hand_placing_teacher, is_held=False), num_moves=6
  ),
  'hand_gripper_pushing': Expert(hand_pushing_teacher, num_moves=6),
  'hand_gripper_pushing_elsewhere': Expert(hand_pushing_teacher, num_moves=6),
  **{f'jaco_{stage}': _jaco(stage) for stage in ('reach', 'lift', 'stack')},
  **{
    f'sawyer_{name}': _sawyer(plan)
    for name, plan in (PLANS | GUIDED_PLANS).items()
  },
  'sawyer_push_around_wall': _sawyer(AROUND_WALL),
  'reach2d': Expert(_of_no_env(reach_teacher), num_moves=3),
  'peg2d': Expert(_of_no_env(insertion_teacher), num_moves=3),
  'stick2d': Expert(_of_no_env(insertion_teacher), num_moves=3),
  'key2d': Expert(_of_no_env(key_teacher), num_moves=3),
  'reach3d': Expert(_of_no_env(reach3d_teacher), num_moves=3),
  'rope': Expert(rope_teacher),
  'table': Expert(table_teacher, num_moves=2),
  'table_cascade': Expert(table_teacher, num_moves=2),
  'spriteworld': Expert(
    _of_no_env(lambda: spriteworld_teacher(build_spriteworld()))
  ),
}


def make_teacher(family: str, env: Env, style: str = 'plain') -> Teacher:
  """Builds the teacher of a family.

  Args:
    family: name of the family, a key of `TEACHERS`.
    env: the family's environment.
    style: how it is to act, one of `styles_of(family)`.

  Returns:
    The teacher.

  Raises:
    InputError: if the family has no teacher, or its teacher no such style.
  """
  check_choice(f'style of {family}', style, styles_of(family))
  expert, chosen = TEACHERS[family], STYLES[style]
  if expert.own_style and isinstance(chosen, expert.own_style):
    return expert.make(env, style=chosen)
  if not isinstance(chosen, Style) or chosen == Style():
    return expert.make(env)
  return styled(
    expert.make(env),
    chosen,
    num_moves=expert.num_moves,
    action_limit=env.spec.action_limit,
  )


def styles_of(family: str) -> tuple[str, ...]:
  """Returns the names of the styles that a family's teacher knows.

  Args:
    family: name of the family, a key of `TEACHERS`.

  Raises:
    InputError: if the family has no teacher.
  """
  check_choice('family', family, tuple(TEACHERS))
  expert = TEACHERS[family]
  kinds = [Style] if expert.num_moves else []
  kinds += [expert.own_style] if expert.own_style else []
  return tuple(
    name
    for name, style in STYLES.items()
    if name == 'plain' or isinstance(style, tuple(kinds))
  )
