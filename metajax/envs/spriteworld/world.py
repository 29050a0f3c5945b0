"""SpriteWorld: a map, three sprites on it, and which of them to go to."""

from collections.abc import Callable
import dataclasses
from typing import NamedTuple

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from metajax.core.validation import check_choice, check_count
from metajax.envs.environment import (
  Env,
  EnvSpec,
  EnvState,
  checked,
  first_state,
)
from metajax.envs.spriteworld.sprites import (
  NUM_POSES,
  SPRITE_PIXELS,
  SpriteSheet,
  make_sprites,
)
from metajax.envs.spriteworld.tabular import TabularModel
from metajax.envs.spriteworld.terrain_tiles import (
  draw_terrain,
  grow_terrain,
  make_tiles,
)

NUM_CELLS = 20
NUM_STATES = NUM_CELLS**2
NUM_KNOWN_SPRITES = 100
NUM_NOVEL_SPRITES = 5
# North, north-east and on, clockwise; (down, right).
MOVES = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
_CELL_PIXELS = 4
_PICTURE_PIXELS = NUM_CELLS * _CELL_PIXELS
_SPLITS = ('train', 'combinations', 'novel')
# One combination of sprites in ten is never trained on.
_HELD_OUT_OF = 10
# Cells between a sprite and the border in held-out tasks, so that obstacles
# can be walked around.
_HELD_OUT_MARGIN = 2

# Per step, nats: large against the log 8 = 2.1 nats of a step's entropy.
GOAL_REWARD = 5.0
OBSTACLE_REWARD = -10.0
TERRAIN_REWARDS = (-2.0, -1.0, 0.0)  # water, grass, dirt


@struct.dataclass
class SpriteTask:
  """Which sprite is the goal, and where everything is."""

  sprites: Array  # [3] int32: the goal, then two obstacles
  corners: (
    Array  # [3, 2] int32, cells (down, right) of their north-west corners
  )
  terrain: Array  # [20, 20] int32, indices of tiles
  appearance: Array  # [3] int32, the pose that each sprite is drawn in


@struct.dataclass
class _Walker:
  cell: Array  # [2] int32, (down, right)


class SpriteWorld(NamedTuple):
  """The world, as an environment and as a table.

  Attributes:
    env: the environment; its tasks are `SpriteTask`.
    model: where the eight moves lead, from each of the 400 cells (row by row).
    sprites: the 105 sprites; the last 5 are held out.
    sample: `(key, split) -> task`. `train`: known sprites anywhere.
      `combinations`: known sprites, of which `train` never draws these three
      together. `novel`: held-out sprites. The latter two keep two cells away
      from the border.
    rearranged: `(task, key) -> task`, the same sprites in the same roles,
      elsewhere and on other terrain. Two cells away from the border.
    rewards: `(task) -> [400] float32`, the true reward of each cell.
    start: `(task) -> [400] float32`, probabilities of the first cell: uniform
      outside of the sprites.
    image: `(task) -> [80, 80, 3] uint8`, cell (i, j) in the pixels
      `[4 i, 4 i + 4) x [4 j, 4 j + 4)`.
    render: `(state) -> [80, 80, 3] uint8`, the image with the walker in it.
  """

  env: Env
  model: TabularModel
  sprites: SpriteSheet
  sample: Callable[[Array, str], SpriteTask]
  rearranged: Callable[[SpriteTask, Array], SpriteTask]
  rewards: Callable[[SpriteTask], Array]
  start: Callable[[SpriteTask], Array]
  image: Callable[[SpriteTask], Array]
  render: Callable[[EnvState], Array]


def spriteworld(
  held_out: str = 'combinations', horizon: int = 30, *, seed: int = 0
) -> Env:
  """Builds SpriteWorld as an environment (Xu et al. 2018, section 5.1).

  A walker on a grid of 20 x 20 cells moves to one of its 8 neighbours. One of
  three sprites is where to be, the other two are obstacles; dirt is better
  than grass and grass than water. With `s` the cell after the step,

    `r = 5` on the goal, `-10` on an obstacle, else `0` on dirt, `-1` on grass,
    `-2` on water.

  An episode never ends before its horizon. It starts in a random cell outside
  of the sprites. The sprites are drawn from 105 procedural ones, where the
  paper has units of a commercial game.

  The action [8] is a preference for each move (north, then clockwise): the
  largest permitted one is made; moves off the grid are not permitted. The
  observation [8] is the walker's cell and the sprites' centres, (down, right),
  each in [-1, 1]; the sprites in the order of their numbers, so that it does
  not tell which is the goal. `build_spriteworld` has the images, and the table
  for methods that plan.

  Args:
    held_out: what the held-out tasks are: `combinations` of known sprites that
      training never shows together, or `novel` sprites.
    horizon: moves in an episode.
    seed: decides on all sprites and tiles.

  Returns:
    The environment; its tasks are `SpriteTask`.

  Raises:
    InputError: if an argument is out of its range.
  """
  return build_spriteworld(held_out, horizon, seed=seed).env


def build_spriteworld(
  held_out: str = 'combinations', horizon: int = 30, *, seed: int = 0
) -> SpriteWorld:
  """Builds SpriteWorld with all that a planner needs to know.

  Args:
    held_out: what the held-out tasks are, as for `spriteworld`.
    horizon: moves in an episode.
    seed: decides on all sprites and tiles.

  Returns:
    The world.

  Raises:
    InputError: if an argument is out of its range.
  """
  check_choice('held_out', held_out, _SPLITS[1:])
  check_count('horizon', horizon)
  check_count('seed', seed, minimum=0)
  sprites = make_sprites(NUM_KNOWN_SPRITES + NUM_NOVEL_SPRITES, seed)
  tiles = make_tiles(NUM_CELLS, seed)
  model = _grid_model()

  def arrange(ids: Array, key: Array, margin: int) -> SpriteTask:
    place_key, pose_key, terrain_key = jax.random.split(key, 3)
    poses = jax.random.randint(pose_key, (3,), 0, NUM_POSES)
    return SpriteTask(
      sprites=ids,
      corners=_place(sprites.sides[ids], margin, place_key),
      terrain=grow_terrain(tiles, NUM_CELLS, terrain_key),
      appearance=poses % sprites.num_poses[ids],
    )

  def sample(key: Array, split: str) -> SpriteTask:
    check_choice('split', split, _SPLITS)
    sprite_key, arrange_key = jax.random.split(key)
    margin = 0 if split == 'train' else _HELD_OUT_MARGIN
    return arrange(_draw_sprites(sprite_key, split), arrange_key, margin)

  def footprints(task: SpriteTask) -> Array:
    return _footprints(task.corners, sprites.sides[task.sprites])

  def rewards(task: SpriteTask) -> Array:
    on_goal, *on_obstacles = footprints(task)
    terrain = jnp.asarray(TERRAIN_REWARDS)[tiles.categories[task.terrain]]
    reward = jnp.where(on_goal, GOAL_REWARD, terrain)
    on_obstacle = on_obstacles[0] | on_obstacles[1]
    return jnp.where(on_obstacle, OBSTACLE_REWARD, reward).reshape(-1)

  def start(task: SpriteTask) -> Array:
    is_free = ~jnp.any(footprints(task), axis=0).reshape(-1)
    return is_free / jnp.sum(is_free)

  def image(task: SpriteTask) -> Array:
    picture = draw_terrain(tiles, task.terrain)
    for i in range(3):
      sprite = sprites.images[task.sprites[i], task.appearance[i]]
      picture = _paste(picture, sprite, _CELL_PIXELS * task.corners[i])
    return picture.astype(jnp.uint8)

  def render(state: EnvState) -> Array:
    dot = jnp.full((_CELL_PIXELS, _CELL_PIXELS, 4), 255.0)
    dot = dot.at[1:3, 1:3, :3].set(0.0)
    picture = image(state.task).astype(jnp.float32)
    corner = _CELL_PIXELS * state.physics.cell
    return _paste(picture, dot, corner).astype(jnp.uint8)

  return SpriteWorld(
    env=_environment(
      sample,
      held_out,
      horizon,
      model,
      rewards,
      start,
      footprints,
      sprites.sides,
    )._replace(picture=render),
    model=model,
    sprites=sprites,
    sample=sample,
    rearranged=lambda task, key: arrange(task.sprites, key, _HELD_OUT_MARGIN),
    rewards=rewards,
    start=start,
    image=image,
    render=render,
  )


def _environment(
  sample: Callable[[Array, str], SpriteTask],
  held_out: str,
  horizon: int,
  model: TabularModel,
  rewards: Callable[[SpriteTask], Array],
  start: Callable[[SpriteTask], Array],
  footprints: Callable[[SpriteTask], Array],
  sides: Array,
) -> Env:
  """Returns the world as an environment."""

  def describe(task: SpriteTask, cell: Array) -> tuple[Array, dict[str, Array]]:
    on_goal, *on_obstacles = footprints(task)[:, cell[0], cell[1]]
    on_obstacle = on_obstacles[0] | on_obstacles[1]
    metrics = {
      'success': (on_goal & ~on_obstacle).astype(jnp.float32),
      'obstacle': on_obstacle.astype(jnp.float32),
    }
    centres = task.corners + (sides[task.sprites][:, None] - 1) / 2
    by_number = centres[jnp.argsort(task.sprites)]
    places = jnp.concatenate([cell[None], by_number]).reshape(-1)
    return 2.0 * places / (NUM_CELLS - 1) - 1.0, metrics

  def reset(task: SpriteTask, key: Array) -> EnvState:
    state = jax.random.categorical(key, jnp.log(start(task)))
    cell = jnp.stack(jnp.divmod(state, NUM_CELLS)).astype(jnp.int32)
    observation, metrics = describe(task, cell)
    return first_state(task, _Walker(cell=cell), observation, metrics)

  def step(state: EnvState, action: Array) -> EnvState:
    preferences = jnp.clip(action, -1.0, 1.0)
    row, column = state.physics.cell
    here = row * NUM_CELLS + column
    move = jnp.argmax(jnp.where(model.permitted[here], preferences, -jnp.inf))
    there = model.successors[here, move]
    cell = jnp.stack(jnp.divmod(there, NUM_CELLS)).astype(jnp.int32)
    observation, metrics = describe(state.task, cell)
    reward = rewards(state.task)[there]
    return dataclasses.replace(
      state,
      physics=_Walker(cell=cell),
      observation=observation,
      # A choice among numbers would hide that one of them was none.
      reward=jnp.where(jnp.all(jnp.isfinite(action)), reward, jnp.nan),
      metrics=metrics,
    )

  env = Env(
    spec=EnvSpec(
      name=f'spriteworld_{held_out}',
      observation_size=8,
      action_size=len(MOVES),
      horizon=horizon,
      control_period_s=0.0,
    ),
    sample_task=lambda key: sample(key, 'train'),
    reset=reset,
    step=step,
    sample_test_task=lambda key: sample(key, held_out),
  )
  return checked(env)


def _grid_model() -> TabularModel:
  """Returns the moves of the grid."""
  cells = np.stack(np.divmod(np.arange(NUM_STATES), NUM_CELLS), axis=-1)
  there = cells[:, None] + np.array(MOVES)[None]
  permitted = ((there >= 0) & (there < NUM_CELLS)).all(axis=-1)
  successors = there[..., 0] * NUM_CELLS + there[..., 1]
  stay = np.arange(NUM_STATES)[:, None]
  return TabularModel(
    successors=jnp.asarray(np.where(permitted, successors, stay), jnp.int32),
    permitted=jnp.asarray(permitted),
  )


def _draw_sprites(key: Array, split: str) -> Array:
  """Returns [3] int32: three different sprites, the goal first.

  The numbers of known ones add up to a multiple of ten in one combination of
  ten, whatever their roles; those are the held-out combinations.
  """
  if split == 'novel':
    novel = jax.random.permutation(key, NUM_NOVEL_SPRITES)[:3]
    return (NUM_KNOWN_SPRITES + novel).astype(jnp.int32)
  pair_key, third_key, role_key = jax.random.split(key, 3)
  pair = jax.random.choice(pair_key, NUM_KNOWN_SPRITES, (2,), replace=False)
  every = jnp.arange(NUM_KNOWN_SPRITES)
  is_other = (every != pair[0]) & (every != pair[1])
  is_held_out = (every + jnp.sum(pair)) % _HELD_OUT_OF == 0
  fits = is_other & (is_held_out == (split == 'combinations'))
  third = jax.random.categorical(third_key, jnp.where(fits, 0.0, -jnp.inf))
  three = jnp.concatenate([pair, third[None]])
  return jax.random.permutation(role_key, three).astype(jnp.int32)


def _place(sides: Array, margin: int, key: Array) -> Array:
  """Returns [3, 2] int32: corners of squares that do not overlap."""
  keys = jax.random.split(key, 3)
  grid = jnp.stack(jnp.indices((NUM_CELLS, NUM_CELLS)), axis=-1)
  corners = []
  for i in range(3):
    fits = (grid >= margin) & (grid <= NUM_CELLS - margin - sides[i])
    is_free = jnp.all(fits, axis=-1)
    for j, other in enumerate(corners):
      offset = grid - other[None, None, :]
      overlaps = (offset < sides[j]) & (offset > -sides[i])
      is_free &= ~jnp.all(overlaps, axis=-1)
    logits = jnp.where(is_free, 0.0, -jnp.inf).reshape(-1)
    chosen = jax.random.categorical(keys[i], logits)
    corners.append(jnp.stack(jnp.divmod(chosen, NUM_CELLS)))
  return jnp.stack(corners).astype(jnp.int32)


def _footprints(corners: Array, sides: Array) -> Array:
  """Returns [3, 20, 20] bool, the cells that each sprite covers."""
  grid = jnp.stack(jnp.indices((NUM_CELLS, NUM_CELLS)), axis=-1)
  offsets = grid[None] - corners[:, None, None, :]
  covered = (offsets >= 0) & (offsets < sides[:, None, None, None])
  return jnp.all(covered, axis=-1)


def _paste(picture: Array, patch: Array, corner: Array) -> Array:
  """Lays a patch [n, n, 4] over a picture [80, 80, 3], by its alpha."""
  size = patch.shape[0]
  padding = SPRITE_PIXELS  # of sprites of three cells at the border
  padded = jnp.pad(picture, ((0, padding), (0, padding), (0, 0)))
  place = (corner[0], corner[1], jnp.zeros_like(corner[0]))
  under = jax.lax.dynamic_slice(padded, place, (size, size, 3))
  mixed = jnp.where(patch[..., 3:] > 0, patch[..., :3], under)
  padded = jax.lax.dynamic_update_slice(padded, mixed, place)
  return padded[:_PICTURE_PIXELS, :_PICTURE_PIXELS]
