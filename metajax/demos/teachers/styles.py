"""Manners of showing: the same task done slowly, unsteadily or by a detour.

Learners are trained on the episodes of one style and judged on another's. The
styles of the papers are listed here by name; A is what is trained on.
"""

from typing import NamedTuple

from jax import Array
import jax.numpy as jnp

from metajax.core.learner import PyTree
from metajax.demos.teachers.jaco_styles import OPERATOR_A, OPERATOR_B, Operator
from metajax.demos.teachers.teacher import Teacher
from metajax.envs.environment import EnvState


class Style(NamedTuple):
  """How a teacher of velocities moves, whatever it does.

  Attributes:
    speed: at most this much of the largest action, along each axis, in (0, 1].
    smoothing: share of the last motion in the next, in [0, 1).
    execution_noise: standard deviation of Gaussian noise between what it means
      to do and what is done, in units of the largest action, >= 0.
  """

  speed: float = 1.0
  smoothing: float = 0.0
  execution_noise: float = 0.0


class WaypointStyle(NamedTuple):
  """How a teacher of waypoints goes from one to the next.

  Attributes:
    gain_per_m: action for each metre that is left to go; the hand's setpoint
      goes straight there at 100.
    via_m: how far beside its way the first point lies that it goes through;
      0: there is none.
    execution_noise: as that of `Style`.
  """

  gain_per_m: float = 100.0
  via_m: float = 0.0
  execution_noise: float = 0.0


# `metamimic`: Le Paine et al. (2018), two people. `dmil`: noise after Gao et
# al. (2022), whose demonstrations have no second style: B is ours. `gmps`:
# Mendonca et al. (2019); B is ours.
STYLES: dict[str, Style | WaypointStyle | Operator] = {
  'plain': Style(),
  'metamimic_a': OPERATOR_A,
  'metamimic_b': OPERATOR_B,
  'dmil_a': WaypointStyle(gain_per_m=10.0, execution_noise=0.1),
  'dmil_b': WaypointStyle(gain_per_m=6.0, via_m=0.06, execution_noise=0.15),
  'gmps_a': Style(),
  'gmps_b': Style(speed=0.6, smoothing=0.7),
}


def styled(
  teacher: Teacher, style: Style, *, num_moves: int, action_limit: float = 1.0
) -> Teacher:
  """Lets a teacher act in a style.

  With `m` what the teacher would do, of which no part exceeds `speed`,

    `a_t = smoothing a_{t-1} + (1 - smoothing) m_t`,  `a_0 = 0`.

  That is what the teacher means to do, and its label.

  Args:
    teacher: the teacher.
    style: the style.
    num_moves: how many of the action's first elements are motion; the others,
      as a gripper's, stay as they are.
    action_limit: the largest action.

  Returns:
    The teacher; its memory is the memory of the other one, and its last motion
    [num_moves].
  """
  if style == Style():
    return teacher
  limit = style.speed * action_limit

  def first_memory(state: EnvState, key: Array) -> tuple[PyTree, Array]:
    return teacher.first_memory(state, key), jnp.zeros((num_moves,))

  def act(
    state: EnvState, memory: tuple[PyTree, Array], key: Array
  ) -> tuple[Array, tuple[PyTree, Array]]:
    own, last = memory
    action, own = teacher.act(state, own, key)
    # As a whole, so that it keeps its direction.
    largest = jnp.max(jnp.abs(action[:num_moves]))
    motion = action[:num_moves] * jnp.minimum(1.0, limit / (largest + 1e-9))
    motion = style.smoothing * last + (1.0 - style.smoothing) * motion
    return jnp.concatenate([motion, action[num_moves:]]), (own, motion)

  return teacher._replace(
    first_memory=first_memory,
    act=act,
    execution_noise=style.execution_noise,
  )
