"""How those who show stacking with the Jaco move, each in a manner of theirs.

Scripted stand-ins for the two people who steered the arm of Le Paine et al.
(2018): those who learn are trained on one's episodes and judged on the other's.
"""

import enum
from typing import NamedTuple

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np


class Phase(enum.IntEnum):
  """What the hand does, in this order; it begins with a detour or without."""

  BESIDE = 0  # goes beside the other block...
  DOWN = 1
  NUDGE = 2  # ...and pushes it a little
  RISE = 3
  HOVER = 4  # waits over that block, for nothing
  APPROACH = 5
  DESCEND = 6
  CLOSE = 7
  LIFT = 8
  VIA = 9
  CARRY = 10
  LOWER = 11
  OPEN = 12
  RETREAT = 13
  ASIDE = 14
  REST = 15


class JacoStyle(NamedTuple):
  """How it moves: numbers or arrays [], so that styles can be drawn.

  Attributes:
    speed_m_per_s: the hand's speed limit.
    gain_per_s: its speed for each metre that is left to go.
    turn_rad_per_s: its limit of turning.
    hover_m: how far before a block its approach ends and its retreat goes.
    tilt_rad: between the line that it approaches along and the vertical.
    side: which side a tilted hand leans to, 1: the robot's left, -1: right.
    lift_m: how far a block is lifted to be carried, above where it rests.
    arc_m: how far the point that a block is carried through lies beside the
      straight way; 0: there is none.
    opening_rad: the fingers' angle when open.
    grasp_s: seconds for closing the hand.
    release_s: seconds for opening it.
    pauses_s: [16], seconds that it waits as it first enters each `Phase`.
    tremor_m: standard deviation of the hand's place, along each axis.
    num_misses: first grasps that close too high, and hold nothing.
    first_phase: the `Phase` that it begins with: `APPROACH`, or the detours
      `BESIDE` and `HOVER`.
    rests_beside: whether it ends beside the stack, else above it.
  """

  speed_m_per_s: float | Array = 0.2
  gain_per_s: float | Array = 5.0
  turn_rad_per_s: float | Array = 1.2
  hover_m: float | Array = 0.09
  tilt_rad: float | Array = 0.0
  side: float | Array = 1.0
  lift_m: float | Array = 0.1
  arc_m: float | Array = 0.0
  opening_rad: float | Array = 0.35
  grasp_s: float | Array = 0.8
  release_s: float | Array = 0.6
  pauses_s: float | Array = 0.0
  tremor_m: float | Array = 0.0
  num_misses: int | Array = 0
  first_phase: int | Array = Phase.APPROACH
  rests_beside: bool | Array = False


class Operator(NamedTuple):
  """What styles a person has: uniform between the ends of each range.

  Attributes:
    speed_m_per_s: see `JacoStyle`, as are those of the same name.
    gain_per_s: see there.
    tilt_deg: degrees.
    side: see there.
    lift_m: see there.
    arc_m: see there.
    num_pauses: how many phases begin with a pause.
    pause_s: how long each is.
    tremor_m: see there.
    miss_probability: that the first grasp fails.
    detour_probability: that there is a detour; half of them nudge the other
      block before they hover over it.
    grasp_s: see there.
    rests_beside: see there.
  """

  speed_m_per_s: tuple[float, float]
  gain_per_s: tuple[float, float]
  tilt_deg: tuple[float, float]
  side: float
  lift_m: tuple[float, float]
  arc_m: tuple[float, float]
  num_pauses: tuple[int, int]
  pause_s: tuple[float, float]
  tremor_m: float
  miss_probability: float
  detour_probability: float
  grasp_s: float
  rests_beside: bool

  def __call__(self, key: Array) -> JacoStyle:
    """Draws the style of one episode."""
    keys = iter(jax.random.split(key, 9))

    def draw(ends: tuple[float, float]) -> Array:
      return jax.random.uniform(next(keys), (), minval=ends[0], maxval=ends[1])

    detour = jnp.where(
      jax.random.bernoulli(next(keys)), Phase.BESIDE, Phase.HOVER
    )
    has_detour = jax.random.bernoulli(next(keys), self.detour_probability)
    return JacoStyle(
      speed_m_per_s=draw(self.speed_m_per_s),
      gain_per_s=draw(self.gain_per_s),
      tilt_rad=draw(tuple(np.radians(self.tilt_deg))),
      side=self.side,
      lift_m=draw(self.lift_m),
      arc_m=draw(self.arc_m),
      grasp_s=self.grasp_s,
      pauses_s=self._draw_pauses(next(keys)),
      tremor_m=self.tremor_m,
      num_misses=jax.random.bernoulli(next(keys), self.miss_probability).astype(
        jnp.int32
      ),
      first_phase=jnp.where(has_detour, detour, Phase.APPROACH),
      rests_beside=self.rests_beside,
    )

  def _draw_pauses(self, key: Array) -> Array:
    """Draws which phases of the work begin with a pause, and how long."""
    count_key, order_key, length_key = jax.random.split(key, 3)
    low, high = self.num_pauses
    count = jax.random.randint(count_key, (), low, high + 1)
    work = np.arange(Phase.APPROACH, Phase.RETREAT + 1)
    work = work[work != Phase.VIA]
    chosen = jax.random.permutation(order_key, work)
    low, high = self.pause_s
    lengths = jax.random.uniform(
      length_key, work.shape, minval=low, maxval=high
    )
    lengths = jnp.where(jnp.arange(len(work)) < count, lengths, 0.0)
    return jnp.zeros((len(Phase),)).at[chosen].set(lengths)


# The ranges are those of the two people in our simulation; gains and times of
# grasping make their mean returns 355 and 285 over 600 steps, as in the paper.
OPERATOR_A = Operator(
  speed_m_per_s=(0.10, 0.16),
  gain_per_s=(1.0, 1.6),
  tilt_deg=(0.0, 15.0),
  side=-1.0,
  lift_m=(0.08, 0.12),
  arc_m=(0.0, 0.0),
  num_pauses=(0, 2),
  pause_s=(0.2, 0.5),
  tremor_m=0.002,
  miss_probability=0.05,
  detour_probability=0.1,
  grasp_s=1.0,
  rests_beside=False,
)
OPERATOR_B = Operator(
  speed_m_per_s=(0.06, 0.10),
  gain_per_s=(1.8, 2.7),
  tilt_deg=(20.0, 40.0),
  side=1.0,
  lift_m=(0.12, 0.20),
  arc_m=(0.04, 0.08),
  num_pauses=(2, 5),
  pause_s=(0.3, 1.0),
  tremor_m=0.004,
  miss_probability=0.2,
  detour_probability=0.3,
  grasp_s=1.0,
  rests_beside=True,
)
