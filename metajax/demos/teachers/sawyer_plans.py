"""Plans of waypoints, one for each of the Sawyer's families."""

import enum
from typing import NamedTuple

_OPEN, _CLOSED = -1.0, 1.0


class Anchor(enum.IntEnum):
  """What a waypoint is relative to.

  `d` is the way that the object is to go next: a mechanism's tangent, or
  straight to the goal on the table.
  """

  START = 0  # tool: where the object was first
  OBJECT = 1  # tool: the object, `along` further in the way of `d`
  PUSH = 2  # tool: the same, and up to `lead` more while the goal is away
  CARRY = 3  # hand: so that the object, held, is at the goal
  ROUND = 4  # hand: so that the object, held, is at the fixture
  VIA = 5  # hand: beside the way, where the style wants it


class Stage(NamedTuple):
  """One waypoint of a plan.

  Attributes:
    anchor: what it is relative to.
    along: m, in the way of `d`.
    offset: m, in the world.
    gripper: -1 open, 1 closed.
    tolerance_m: how close the hand must come before the next stage.
    dwell: control steps that the stage lasts at least.
    speed: at most this much of the largest action.
    lost_m: tips further than this from the object: back to the first stage.
    lead: m, see `Anchor.PUSH`.
    aside_m: m, tips this far beside the line to the goal do not push on.
    arrived_m: m, the last stage's hand stays where the object is this close.
  """

  anchor: Anchor
  along: float = 0.0
  offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
  gripper: float = _CLOSED
  tolerance_m: float = 0.01
  dwell: int = 0
  speed: float = 1.0
  lost_m: float = 10.0
  lead: float = 0.0
  arrived_m: float = 0.01
  aside_m: float = 1e3


class Plan(NamedTuple):
  """The stages of a family, the last one for good."""

  stages: tuple[Stage, ...]
  # Whether `d` is taken without its vertical part.
  is_flat: bool = False
  # Whether it is the hand that is to reach the goal.
  moves_hand: bool = False


def push(
  standoff: float,
  height: float = 0.0,
  *,
  speed: float = 0.5,
  lead: float = 0.03,
  arrived_m: float = 0.03,
  aside_m: float = 0.012,
) -> Plan:
  """Goes behind the object and pushes it with closed fingers."""
  return Plan(
    (
      Stage(Anchor.OBJECT, -standoff - 0.02, (0, 0, 0.1), tolerance_m=0.02),
      Stage(Anchor.OBJECT, -standoff - 0.02, (0, 0, height), tolerance_m=0.012),
      Stage(
        Anchor.PUSH,
        -standoff,
        (0, 0, height),
        speed=speed,
        lead=lead,
        lost_m=standoff + 0.06,
        arrived_m=arrived_m,
        aside_m=aside_m,
      ),
    )
  )


def nudge(
  gap: float, standoff: float, *, height: float = 0.0, is_flat: bool = False
) -> Plan:
  """Puts closed fingers `gap` behind a handle and pushes it along its way."""
  return Plan(
    (
      Stage(Anchor.OBJECT, -gap, (0, 0, 0.09), tolerance_m=0.01),
      Stage(Anchor.OBJECT, -gap, (0, 0, height), tolerance_m=0.012, speed=0.7),
      Stage(
        Anchor.PUSH,
        -standoff,
        (0, 0, height),
        lead=0.04,
        speed=0.7,
        lost_m=standoff + 0.08,
      ),
    ),
    is_flat,
  )


def press(gap: float, standoff: float) -> Plan:
  """Comes in front of a button and presses it along its way."""
  return Plan(
    (
      Stage(Anchor.OBJECT, -gap, tolerance_m=0.015),
      Stage(Anchor.PUSH, -standoff, lead=0.04, speed=0.7),
    )
  )


def take(depth: float = -0.005) -> tuple[Stage, ...]:
  """Takes hold of an object from above."""
  hover, down = (0.0, 0.0, 0.08), (0.0, 0.0, depth)
  return (
    Stage(Anchor.OBJECT, 0.0, hover, _OPEN, tolerance_m=0.015),
    Stage(Anchor.OBJECT, 0.0, down, _OPEN, tolerance_m=0.006, speed=0.7),
    Stage(Anchor.OBJECT, 0.0, down, _CLOSED, 0.02, dwell=12),
  )


def pull() -> Plan:
  """Takes hold of a handle and takes it along its way."""
  return Plan(
    (*take(0.0), Stage(Anchor.PUSH, speed=0.5, lead=0.05, lost_m=0.06))
  )


def place(
  *via: tuple[float, float, float],
  lift: float = 0.1,
  speed: float = 0.8,
  release: bool = False,
) -> Plan:
  """Takes the object, carries it past points relative to the goal, to it."""
  stages = [*take(), Stage(Anchor.START, 0.0, (0, 0, lift), tolerance_m=0.03)]
  stages += [
    Stage(Anchor.CARRY, 0.0, point, speed=speed, lost_m=0.06) for point in via
  ]
  stages.append(
    Stage(Anchor.CARRY, speed=0.6, lost_m=0.06)
    if not release
    else Stage(Anchor.CARRY, speed=0.6, lost_m=0.06, tolerance_m=0.015)
  )
  if release:
    stages.append(Stage(Anchor.CARRY, gripper=_OPEN, dwell=10_000))
  return Plan(tuple(stages))


def drop(height: float) -> Plan:
  """Takes the object and lets it fall from above the goal."""
  above = (0.0, 0.0, height)
  return Plan(
    (
      *take(),
      Stage(Anchor.START, 0.0, (0, 0, 0.2), tolerance_m=0.03),
      Stage(Anchor.CARRY, 0.0, above, lost_m=0.06, tolerance_m=0.008, dwell=12),
      Stage(Anchor.CARRY, 0.0, above, _OPEN, speed=0.0),
    )
  )


def carry_round(
  *corners: tuple[float, float, float], speed: float = 0.9
) -> Plan:
  """Takes the object past points relative to the fixture, then to the goal."""
  held = Stage(Anchor.ROUND, speed=speed, lost_m=0.06, tolerance_m=0.03)
  return Plan(
    (
      *take(),
      Stage(Anchor.START, 0.0, (0, 0, 0.03), tolerance_m=0.02),
      *(held._replace(offset=corner) for corner in corners),
      held._replace(anchor=Anchor.CARRY),
    )
  )


PLANS: dict[str, Plan] = {
  'reach': Plan((Stage(Anchor.CARRY),), moves_hand=True),
  'push': push(0.04, -0.005),
  'push_back': push(0.04, -0.005),
  'sweep': push(0.04, -0.005),
  'sweep_into': push(0.04, -0.005),
  'plate_slide': push(0.07, 0.005, speed=0.4, arrived_m=0.04),
  'pick_place': place((0.0, 0.0, 0.02)),
  'pick_place_wall': place((0.0, 0.0, 0.16), lift=0.22),
  'shelf_place': place((0.0, 0.0, 0.05), lift=0.3, release=True),
  'bin_picking': place((0.0, 0.0, 0.1), lift=0.12, release=True),
  'hand_insert': place((0.0, 0.0, 0.1), lift=0.12, release=True),
  'box_close': place((0.0, 0.0, 0.05), lift=0.15, release=True),
  'basketball': drop(0.13),
  'peg_insert_side': place((0.14, 0.0, 0.0), (0.05, 0.0, 0.0), lift=0.12),
  'door_open': nudge(0.042, 0.03),
  'door_close': nudge(0.06, 0.03),
  'door_lock': nudge(0.05, 0.02, is_flat=True),
  'door_unlock': nudge(0.05, 0.02, is_flat=True),
  'drawer_open': nudge(0.045, 0.02),
  'drawer_close': nudge(0.06, 0.02),
  'window_open': nudge(0.05, 0.02),
  'window_close': nudge(0.05, 0.02),
  'button_press': press(0.08, 0.02),
  'button_press_topdown': press(0.06, 0.0),
  'lever_pull': pull(),
  'dial_turn': nudge(0.05, 0.02),
  'faucet_open': nudge(0.05, 0.02),
  'faucet_close': nudge(0.05, 0.02),
  'handle_press': press(0.06, 0.015),
  'handle_pull': pull(),
}

# The hand of guided pushing starts low behind the block: no way from above.
GUIDED_PLANS: dict[str, Plan] = {
  'guided_push': Plan(
    (
      Stage(Anchor.OBJECT, -0.054, tolerance_m=0.012),
      Stage(Anchor.PUSH, -0.04, speed=0.7, lead=0.057, arrived_m=0.028),
    )
  ),
  'guided_door': nudge(0.042, 0.03),
}

# Counterclockwise, as far out as the palm, lower than the wall, needs.
AROUND_WALL = carry_round(
  (0.19, -0.13, 0.05),
  (0.19, 0.13, 0.05),
  (-0.19, 0.13, 0.05),
  (-0.19, -0.13, 0.05),
)
