"""What the Sawyer's families of tasks are, as data."""

from typing import NamedTuple

Point = tuple[float, float, float]


class Family(NamedTuple):
  """One family of tasks on the Sawyer's table.

  Regions are boxes (low, high) in m. In a family with a mechanism
  `object_region` is where its fixture stands, and the goal follows: where the
  mechanism's point is at `joint_goal`. In one with a free object, the object
  starts in `object_region`, the goal lies in `goal_region`, and a fixture (a
  shelf, a hole) stands at the goal unless `fixture` says otherwise.

  Attributes:
    scene: `models/sawyer_<scene>.xml`.
    success_m: distance of object and goal at which the task is done, m.
    object_region: where the object, or the mechanism, may be.
    goal_region: where the goal of a free object may be; None: a mechanism.
    joint_start: m or rad, where the mechanism begins.
    joint_goal: m or rad, where it is to go.
    fixture: m, where a fixture stands that does not move with the goal.
    hand: m, where the hand starts, up to 1 cm in each direction.
    moves_hand: whether it is the hand that is to reach the goal.
  """

  scene: str
  success_m: float
  object_region: tuple[Point, Point]
  goal_region: tuple[Point, Point] | None = None
  joint_start: float = 0.0
  joint_goal: float = 0.0
  fixture: Point | None = None
  hand: Point = (0.0, 0.6, 0.2)
  moves_hand: bool = False


_ON_TABLE = ((-0.1, 0.6, 0.02), (0.1, 0.7, 0.02))
_NEAR = ((-0.1, 0.55, 0.02), (0.1, 0.65, 0.02))
_DOOR = ((-0.25, 0.85, 0.0), (-0.1, 0.95, 0.0))
_DRAWER = ((-0.1, 0.85, 0.0), (0.1, 0.92, 0.0))
_WINDOW = ((-0.2, 0.75, 0.0), (0.0, 0.9, 0.0))
_LOCK = ((-0.1, 0.85, 0.08), (0.1, 0.95, 0.08))
_DIAL = ((-0.1, 0.65, 0.0), (0.1, 0.8, 0.0))
_HANDLE = ((-0.1, 0.75, 0.1), (0.1, 0.85, 0.1))

FAMILIES: dict[str, Family] = {
  'reach': Family(
    'cube',
    0.05,
    _ON_TABLE,
    ((-0.1, 0.75, 0.08), (0.1, 0.9, 0.3)),
    moves_hand=True,
  ),
  'push': Family(
    'cube', 0.05, _ON_TABLE, ((-0.1, 0.8, 0.02), (0.1, 0.9, 0.02))
  ),
  'push_back': Family(
    'cube',
    0.05,
    ((-0.1, 0.8, 0.02), (0.1, 0.85, 0.02)),
    ((-0.1, 0.6, 0.02), (0.1, 0.7, 0.02)),
  ),
  'sweep': Family(
    'cube', 0.05, _ON_TABLE, ((0.3, 0.6, 0.02), (0.45, 0.7, 0.02))
  ),
  'sweep_into': Family(
    'pocket', 0.05, _ON_TABLE, ((-0.1, 0.84, 0.02), (0.1, 0.86, 0.02))
  ),
  'plate_slide': Family(
    'plate',
    0.05,
    ((-0.05, 0.6, 0.01), (0.05, 0.65, 0.01)),
    ((-0.1, 0.82, 0.01), (0.1, 0.86, 0.01)),
  ),
  'pick_place': Family(
    'cube', 0.05, _ON_TABLE, ((-0.1, 0.8, 0.05), (0.1, 0.9, 0.3))
  ),
  'pick_place_wall': Family(
    'wall',
    0.05,
    ((-0.05, 0.6, 0.02), (0.05, 0.65, 0.02)),
    ((-0.05, 0.85, 0.05), (0.05, 0.9, 0.25)),
    fixture=(0.0, 0.75, 0.0),
  ),
  'shelf_place': Family(
    'shelf', 0.04, _NEAR, ((-0.1, 0.8, 0.2), (0.1, 0.88, 0.3))
  ),
  'bin_picking': Family(
    'bins',
    0.05,
    ((-0.17, 0.65, 0.02), (-0.07, 0.75, 0.02)),
    ((0.1, 0.65, 0.02), (0.2, 0.75, 0.02)),
  ),
  'hand_insert': Family(
    'well', 0.03, _NEAR, ((-0.1, 0.75, 0.02), (0.1, 0.88, 0.02))
  ),
  'box_close': Family(
    'box',
    0.04,
    ((-0.1, 0.52, 0.01), (0.1, 0.6, 0.01)),
    ((-0.1, 0.76, 0.09), (0.1, 0.85, 0.09)),
  ),
  'basketball': Family(
    'hoop',
    0.05,
    ((-0.1, 0.55, 0.03), (0.1, 0.65, 0.03)),
    ((-0.1, 0.8, 0.12), (0.1, 0.88, 0.2)),
  ),
  'peg_insert_side': Family(
    'peg',
    0.04,
    ((0.05, 0.5, 0.015), (0.2, 0.7, 0.015)),
    ((-0.35, 0.5, 0.1), (-0.25, 0.7, 0.16)),
  ),
  'door_open': Family('door', 0.08, _DOOR, joint_goal=1.2),
  'door_close': Family('door', 0.05, _DOOR, joint_start=1.2),
  'door_lock': Family('lock', 0.04, _LOCK, joint_start=-0.8, joint_goal=0.8),
  'door_unlock': Family('lock', 0.04, _LOCK, joint_start=0.8, joint_goal=-0.8),
  'drawer_open': Family('drawer', 0.03, _DRAWER, joint_goal=0.17),
  'drawer_close': Family('drawer', 0.03, _DRAWER, joint_start=0.17),
  'window_open': Family('window', 0.03, _WINDOW, joint_goal=0.19),
  'window_close': Family('window', 0.03, _WINDOW, joint_start=0.19),
  'button_press': Family(
    'button',
    0.02,
    ((-0.1, 0.8, 0.08), (0.1, 0.9, 0.15)),
    joint_goal=0.055,
  ),
  'button_press_topdown': Family(
    'button_topdown',
    0.02,
    ((-0.1, 0.75, 0.08), (0.1, 0.85, 0.15)),
    joint_goal=0.055,
  ),
  'lever_pull': Family(
    'lever',
    0.03,
    ((-0.1, 0.75, 0.15), (0.1, 0.85, 0.15)),
    joint_goal=1.4,
  ),
  'dial_turn': Family('dial', 0.03, _DIAL, joint_goal=1.5),
  'faucet_open': Family('faucet', 0.04, _DIAL, joint_goal=1.2),
  'faucet_close': Family('faucet', 0.04, _DIAL, joint_start=1.2),
  'handle_press': Family('handle', 0.02, _HANDLE, joint_goal=0.075),
  'handle_pull': Family('handle', 0.02, _HANDLE, joint_start=0.08),
}
