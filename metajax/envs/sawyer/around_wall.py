"""The Sawyer carries a cube once around a wall."""

from collections.abc import Callable, Mapping
import dataclasses

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp

from metajax.envs.appearance import Appearance
from metajax.envs.environment import Env
from metajax.envs.sawyer.hand import Layout, Reading, Sawyer, sawyer_in
from metajax.envs.sawyer.splits import (
  HELD_OUT,
  TRAINING,
  Split,
  object_painter,
  point_in,
)
from metajax.envs.sawyer.tabletop import Rules, SawyerMemory, tabletop
from metajax.envs.sawyer.tasks import (
  OBSERVATION_SIZE,
  hand_near,
  observation_of,
  reward_of,
)

_HAND = (0.0, 0.6, 0.2)
_OBJECT_REGION = ((-0.1, 0.55, 0.02), (0.1, 0.6, 0.02))
_WALL_REGION = ((-0.1, 0.72, 0.0), (0.1, 0.76, 0.0))
_WALL_HEIGHT_M = 0.12
_SUCCESS_M = 0.05
# The way home is told from here on; the wall's ends are nearer.
_WAY_HOME_M = 0.4


@struct.dataclass
class AroundWallTask:
  """Where the cube starts and is to come back to, and what it is to pass."""

  object_pos: Array  # [3] float32, m
  wall: Array  # [3] float32, m, the middle of the wall's foot
  appearance: Appearance  # colours of the cube; nothing simulated
  # Arrays of the model by name, of this task alone; {}: the model as it is.
  model_fields: Mapping[str, Array] = dataclasses.field(default_factory=dict)


def push_around_wall(horizon: int = 300, *, physics: str = 'mjx') -> Env:
  """Builds carrying a cube around a wall (Gao et al. 2022, appendix).

  The wall, 24 cm long and 12 cm high, stands across the table behind the
  cube. `turned` is the angle, rad, by which the cube has gone round the
  wall's middle since the reset, positive counterclockwise as seen from above;
  what it goes above the wall's top does not count. With `q = |turned| / (pi /
  2)` the quarters of a turn, `d` the distance of the cube to where it started
  and `h` that of the finger tips to the cube (m):

    `r = 1 - tanh(10 h) + min(q, 3) + [q > 3] max(0, 1 - d / 0.4)
      + 5 [success]`

    success: `q > 3`, and `d` at most 5 cm

  in [0, 10]. More than three quarters of a turn leave out none of the four
  quadrants around the wall, wherever the turn began; either way round will do.

  The observation [39] is that of `make_sawyer`; its goal is where the cube
  started, its second object the wall (3, m; 4, quaternion). So are the
  action [4] and the control step of 12.5 ms; an episode never ends before its
  horizon.

  Held-out tasks have their wall in two of eight strips of x that training
  tasks never come from, and other texture seeds.

  The paper tells the task in one sentence: numbers and reward are our own.

  Args:
    horizon: control steps in an episode.
    physics: name of the engine, `mjx` or `c`.

  Returns:
    The environment; its tasks are `AroundWallTask`. Its metrics: `success`,
    `object_to_goal_m`, `hand_to_object_m`, `turned_rad`.

  Raises:
    InputError: if an argument is out of its range.
  """
  sawyer = sawyer_in('wall', physics)

  def layout(task: AroundWallTask, key: Array) -> Layout:
    return Layout(
      hand=hand_near(_HAND, key),
      fixture=task.wall,
      object=task.object_pos,
      goal=task.object_pos,
    )

  def observe(task: AroundWallTask, before: Reading, now: Reading) -> Array:
    wall = jnp.concatenate([task.wall, jnp.array([1.0, 0.0, 0.0, 0.0])])
    return observation_of(before, now, task.object_pos, wall)

  def judge(
    task: AroundWallTask, reading: Reading, turned: Array
  ) -> tuple[Array, Mapping[str, Array]]:
    to_goal = jnp.linalg.norm(reading.object - task.object_pos)
    quarters = jnp.abs(turned) / (0.5 * jnp.pi)
    has_passed = quarters > 3.0
    home = jnp.maximum(0.0, 1.0 - to_goal / _WAY_HOME_M)
    reward, metrics = reward_of(
      to_goal,
      jnp.linalg.norm(reading.tool - reading.grasp),
      0.25 * (jnp.minimum(quarters, 3.0) + has_passed * home),
      has_passed & (to_goal <= _SUCCESS_M),
    )
    return reward, {**metrics, 'turned_rad': turned}

  rules = Rules(
    sample_task=_sampler(sawyer, TRAINING),
    sample_test_task=_sampler(sawyer, HELD_OUT),
    layout=layout,
    observe=observe,
    judge=judge,
    first_record=lambda task, reading: jnp.zeros(()),
    next_record=_turn,
  )
  return tabletop(
    'push_around_wall',
    sawyer,
    rules,
    observation_size=OBSERVATION_SIZE,
    horizon=horizon,
  )


def _turn(memory: SawyerMemory, now: Reading) -> Array:
  """Returns the angle about the wall's middle, one control step later."""
  x, y, _ = memory.reading.object - memory.fixture
  next_x, next_y, height = now.object - memory.fixture
  angle = jnp.arctan2(x * next_y - y * next_x, x * next_x + y * next_y)
  return memory.record + jnp.where(height < _WALL_HEIGHT_M, angle, 0.0)


def _sampler(sawyer: Sawyer, split: Split) -> Callable[[Array], AroundWallTask]:
  """Returns `sample_task` of one split."""
  paint = object_painter(sawyer.world.model, split)

  def sample_task(key: Array) -> AroundWallTask:
    object_key, wall_key, colour_key = jax.random.split(key, 3)
    return AroundWallTask(
      object_pos=point_in(_OBJECT_REGION, object_key),
      wall=point_in(_WALL_REGION, wall_key, split.strips),
      appearance=paint(colour_key),
    )

  return sample_task
