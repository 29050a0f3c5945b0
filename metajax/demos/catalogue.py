"""The teacher of every family that has one, by the family's name."""

from collections.abc import Callable
import functools

from metajax.core.validation import check_choice
from metajax.demos.arm_forces_teacher import arm_forces_teacher
from metajax.demos.hand_teacher import (
  hand_placing_teacher,
  hand_pushing_teacher,
)
from metajax.demos.jaco_teacher import jaco_teacher
from metajax.demos.placing_teacher import placing_teacher
from metajax.demos.planar_teacher import (
  insertion_teacher,
  key_teacher,
  reach3d_teacher,
  reach_teacher,
)
from metajax.demos.pusher_teacher import pusher_teacher
from metajax.demos.pushing_teacher import pushing_teacher
from metajax.demos.reacher_teacher import reacher_teacher
from metajax.demos.rope_teacher import rope_teacher
from metajax.demos.sawyer_teacher import (
  AROUND_WALL,
  GUIDED_PLANS,
  PLANS,
  sawyer_teacher,
)
from metajax.demos.spriteworld_teacher import spriteworld_teacher
from metajax.demos.table_teacher import table_teacher
from metajax.demos.teacher import Teacher
from metajax.envs.environment import Env
from metajax.envs.spriteworld.world import build_spriteworld


def _of_no_env(make: Callable[[], Teacher]) -> Callable[[Env], Teacher]:
  """Returns the factory of a teacher that needs nothing of its environment."""
  return lambda env: make()


def _on_its_engine(make: Callable[..., Teacher]) -> Callable[[Env], Teacher]:
  """Lets a teacher measure with the engine that its environment runs on."""
  return lambda env: make(env, physics='mjx' if env.holds_physics else 'c')


TEACHERS: dict[str, Callable[[Env], Teacher]] = {
  'reacher': _on_its_engine(reacher_teacher),
  'pusher': _on_its_engine(pusher_teacher),
  'arm_forces': _on_its_engine(arm_forces_teacher),
  'arm_changing_forces': _on_its_engine(arm_forces_teacher),
  'placing': functools.partial(placing_teacher, is_held=True),
  'pick_and_place': functools.partial(placing_teacher, is_held=False),
  'gripper_pushing': pushing_teacher,
  'hand_placing': functools.partial(hand_placing_teacher, is_held=True),
  'hand_pick_and_place': functools.partial(hand_placing_teacher, is_held=False),
  'hand_gripper_pushing': hand_pushing_teacher,
  **{
    f'jaco_{stage}': functools.partial(jaco_teacher, stage=stage)
    for stage in ('reach', 'lift', 'stack')
  },
  **{
    f'sawyer_{name}': functools.partial(sawyer_teacher, plan=plan)
    for name, plan in (PLANS | GUIDED_PLANS).items()
  },
  'sawyer_push_around_wall': functools.partial(
    sawyer_teacher, plan=AROUND_WALL
  ),
  'reach2d': _of_no_env(reach_teacher),
  'peg2d': _of_no_env(insertion_teacher),
  'stick2d': _of_no_env(insertion_teacher),
  'key2d': _of_no_env(key_teacher),
  'reach3d': _of_no_env(reach3d_teacher),
  'rope': rope_teacher,
  'table': table_teacher,
  'table_cascade': table_teacher,
  'spriteworld': _of_no_env(lambda: spriteworld_teacher(build_spriteworld())),
}


def make_teacher(family: str, env: Env) -> Teacher:
  """Builds the teacher of a family.

  Args:
    family: name of the family, a key of `TEACHERS`.
    env: the family's environment.

  Returns:
    The teacher.

  Raises:
    InputError: if the family has no teacher.
  """
  check_choice('family', family, tuple(TEACHERS))
  return TEACHERS[family](env)
