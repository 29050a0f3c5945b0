"""Suites of the Sawyer's families: which are trained on, which held out."""

from typing import NamedTuple

from metajax.core.validation import check_choice
from metajax.envs.environment import Env
from metajax.envs.sawyer.families import FAMILIES
from metajax.envs.sawyer.tasks import make_sawyer


class Suite(NamedTuple):
  """Names of families.

  Attributes:
    train: families to train on.
    test: families that only tests see.
  """

  train: tuple[str, ...]
  test: tuple[str, ...]


class SuiteEnvs(NamedTuple):
  """The environments of a suite, by their families' names.

  Attributes:
    train: to train on.
    test: held out.
  """

  train: dict[str, Env]
  test: dict[str, Env]


# As the second version of Meta-World has it (Yu et al. 2020).
ML10_OFFICIAL = Suite(
  train=(
    'basketball',
    'button_press_topdown',
    'door_open',
    'drawer_close',
    'peg_insert_side',
    'reach',
    'push',
    'pick_place',
    'sweep',
    'window_open',
  ),
  test=('door_close', 'drawer_open', 'lever_pull', 'shelf_place', 'sweep_into'),
)

# As the authors of dual meta imitation learning coded it (Gao et al. 2022).
ML10_DMIL = Suite(
  train=(
    'basketball',
    'button_press',
    'dial_turn',
    'drawer_close',
    'peg_insert_side',
    'reach',
    'push',
    'pick_place',
    'sweep_into',
    'window_open',
  ),
  test=('door_close', 'drawer_open', 'lever_pull', 'shelf_place', 'sweep'),
)

# The families that Meta-World's ML45 holds out, and all others there are
# here: 25 where Meta-World has 45.
_ML45_TEST = (
  'bin_picking',
  'box_close',
  'door_lock',
  'door_unlock',
  'hand_insert',
)
ML45_SMALL = Suite(
  train=tuple(name for name in FAMILIES if name not in _ML45_TEST),
  test=_ML45_TEST,
)

SUITES = {
  'ml10_official': ML10_OFFICIAL,
  'ml10_dmil': ML10_DMIL,
  'ml45_small': ML45_SMALL,
}


def make_suite(
  name: str,
  horizon: int = 200,
  *,
  hide_goal: bool = False,
  physics: str = 'mjx',
) -> SuiteEnvs:
  """Builds all environments of a suite.

  They share their observations, actions and kinds of tasks, not their models:
  each is a program of its own. (New goals of one family, as Meta-World's ML1,
  are `metajax.envs.environment.held_out` of that family.)

  Args:
    name: `ml10_official`, `ml10_dmil` or `ml45_small`.
    horizon: control steps in an episode.
    hide_goal: whether the goals are hidden.
    physics: name of the engine, `mjx` or `c`.

  Returns:
    The environments.

  Raises:
    InputError: if an argument is out of its range.
  """
  check_choice('name', name, tuple(SUITES))
  suite = SUITES[name]

  def make(names: tuple[str, ...]) -> dict[str, Env]:
    return {
      family: make_sawyer(family, horizon, hide_goal=hide_goal, physics=physics)
      for family in names
    }

  return SuiteEnvs(train=make(suite.train), test=make(suite.test))
