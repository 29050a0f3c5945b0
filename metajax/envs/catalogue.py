"""Every family of robots and tasks, by its name."""

from collections.abc import Callable
import functools
from typing import NamedTuple

from metajax.core.validation import check_choice
from metajax.envs.engines import ENGINES
from metajax.envs.environment import Env
from metajax.envs.gripper_arm.another_room import in_another_room
from metajax.envs.gripper_arm.demonstrator_hand import demonstrator_hand
from metajax.envs.gripper_arm.placing import pick_and_place, placing
from metajax.envs.gripper_arm.pushing import gripper_pushing
from metajax.envs.jaco.stacking import jaco
from metajax.envs.locomotion.damage import (
  ant_crippled_leg,
  half_cheetah_disabled_joint,
)
from metajax.envs.locomotion.goals import ant, half_cheetah
from metajax.envs.locomotion.pier import half_cheetah_pier
from metajax.envs.locomotion.slope import half_cheetah_slope
from metajax.envs.navigation import navigation
from metajax.envs.planar.families import peg2d, reach2d, stick2d
from metajax.envs.planar.key import key2d
from metajax.envs.reach3d import reach3d
from metajax.envs.rope import rope
from metajax.envs.sawyer import families as sawyer_families
from metajax.envs.sawyer.around_wall import push_around_wall
from metajax.envs.sawyer.guided import guided_door, guided_push
from metajax.envs.sawyer.tasks import make_sawyer
from metajax.envs.spriteworld.world import spriteworld
from metajax.envs.table.arrangement import table
from metajax.envs.torque_arms.arm_forces import arm_forces
from metajax.envs.torque_arms.pusher import pusher
from metajax.envs.torque_arms.reacher import reacher


class Family(NamedTuple):
  """A body and what is asked of it.

  Attributes:
    make: `(*, physics) -> Env`; the engine's name is `mjx` or `c`.
    about: the body, the task and the paper, in one line.
  """

  make: Callable[..., Env]
  about: str


def _without_physics(make: Callable[[], Env]) -> Callable[..., Env]:
  """Returns the factory of a family without a body, whose engine is unasked."""

  def make_any(*, physics: str) -> Env:
    del physics
    return make()

  return make_any


def _locomotion() -> dict[str, Family]:
  goals = {
    'velocity': 'at a goal velocity, Finn 2018, section 4.6.3',
    'direction': 'forward or backward, Finn 2018, section 4.6.3',
    'position': 'to a goal position, Mendonca et al. 2019',
    'sparse_position': 'to a goal position, told near it only',
  }
  families = {
    f'{body}_{goal}': Family(
      functools.partial(make, goal), f'{name} runs {about}'
    )
    for body, make, name in (
      ('half_cheetah', half_cheetah, 'half-cheetah'),
      ('ant', ant, 'ant'),
    )
    for goal, about in goals.items()
  }
  changed = 'Finn 2018, section 5.5'
  return {
    **families,
    'half_cheetah_disabled_joint': Family(
      half_cheetah_disabled_joint, f'half-cheetah, one motor dead, {changed}'
    ),
    'half_cheetah_switching_joint': Family(
      functools.partial(half_cheetah_disabled_joint, switch_period=500),
      f'half-cheetah, another motor dies in mid-episode, {changed}',
    ),
    'half_cheetah_slope': Family(
      half_cheetah_slope, f'half-cheetah on slopes and hills, {changed}'
    ),
    'half_cheetah_pier': Family(
      half_cheetah_pier, f'half-cheetah on floating blocks, {changed}'
    ),
    'ant_crippled_leg': Family(
      ant_crippled_leg, f'ant, one leg crippled and shrunk, {changed}'
    ),
    'ant_crippled_in_mid_episode': Family(
      functools.partial(ant_crippled_leg, switch_time=250),
      f'ant, a leg is crippled in mid-episode, {changed}',
    ),
  }


def _hand_elsewhere(*, physics: str) -> Env:
  return in_another_room(demonstrator_hand('gripper_pushing', physics=physics))


def _arms() -> dict[str, Family]:
  forces = 'torque arm carries an object that is pulled down'
  return {
    'reacher': Family(
      reacher, 'two-link arm reaches one of three targets, Finn et al. 2017'
    ),
    'pusher': Family(
      pusher, 'torque arm pushes one of two objects, Finn et al. 2017'
    ),
    'arm_forces': Family(arm_forces, f'{forces}, Finn 2018, section 5.5'),
    'arm_changing_forces': Family(
      functools.partial(arm_forces, redraw_pulls=True),
      f'{forces}, anew every 50 steps, Finn 2018, section 5.5',
    ),
    'placing': Family(
      placing, 'gripper arm places into one of three, Yu et al. 2018'
    ),
    'gripper_pushing': Family(
      gripper_pushing, 'gripper arm pushes one of two, Yu et al. 2018'
    ),
    'pick_and_place': Family(
      pick_and_place, 'gripper arm picks and places, Yu et al. 2018'
    ),
    **{
      f'hand_{name}': Family(
        functools.partial(demonstrator_hand, name),
        f"a demonstrator's hand does {name}, Yu et al. 2018",
      )
      for name in ('placing', 'gripper_pushing', 'pick_and_place')
    },
    'hand_gripper_pushing_elsewhere': Family(
      _hand_elsewhere,
      "a demonstrator's hand pushes in another room, Yu et al. 2018",
    ),
    **{
      f'jaco_{stage}': Family(
        functools.partial(jaco, stage),
        f'Kinova Jaco with two blocks, {stage}, Le Paine et al. 2018',
      )
      for stage in ('reach', 'lift', 'stack')
    },
    'sawyer_guided_push': Family(
      guided_push, 'Sawyer, hidden goals, Mendonca et al. 2019'
    ),
    'sawyer_guided_door': Family(
      guided_door, 'Sawyer, hidden angle, Mendonca et al. 2019'
    ),
    'sawyer_push_around_wall': Family(
      push_around_wall, 'Sawyer, cube around a wall, after Gao et al. 2022'
    ),
    **{
      f'sawyer_{name}': Family(
        functools.partial(make_sawyer, name),
        f'Sawyer, {name.replace("_", " ")}, after Yu et al. 2020',
      )
      for name in sawyer_families.FAMILIES
    },
  }


def _planes_and_grids() -> dict[str, Family]:
  perils = 'PERIL (2020)'
  return {
    'navigation': Family(
      _without_physics(navigation), 'a point in the plane, Finn 2018, 4.6.3'
    ),
    'reach2d': Family(reach2d, f'planar arm reaches, {perils}'),
    'peg2d': Family(peg2d, f'planar arm inserts a peg, {perils}'),
    'stick2d': Family(stick2d, f'planar arm slides a fork on, {perils}'),
    'key2d': Family(key2d, f'planar arm turns a key, {perils}'),
    'reach3d': Family(reach3d, f'a free-flying tip reaches, {perils}'),
    'rope': Family(rope, 'a rope is pushed into shapes, Xie et al. 2018'),
    'table': Family(table, 'objects brought into relation, Xie et al. 2018'),
    'table_cascade': Family(
      functools.partial(table, 2), 'two relations in turn, Xie et al. 2018'
    ),
    'spriteworld': Family(
      _without_physics(spriteworld), 'a grid of sprites, Xu et al. 2018'
    ),
  }


FAMILIES = {**_locomotion(), **_arms(), **_planes_and_grids()}


def make_environment(name: str, *, physics: str = 'mjx') -> Env:
  """Builds a family by its name, with its own settings.

  Args:
    name: a key of `FAMILIES`. Other settings: call its factory.
    physics: name of the engine, `mjx` or `c`; families without a body have
      none, and take any.

  Returns:
    The environment.

  Raises:
    InputError: if there is no such family or engine.
  """
  check_choice('family', name, tuple(FAMILIES))
  check_choice('physics', physics, tuple(ENGINES))
  return FAMILIES[name].make(physics=physics)
