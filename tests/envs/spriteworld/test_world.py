"""SpriteWorld: its map, its sprites, its table and its rewards."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.core.validation import InputError
from metajax.envs.environment import held_out
from metajax.envs.spriteworld.terrain_tiles import grow_terrain, make_tiles
from metajax.envs.spriteworld.world import (
  GOAL_REWARD,
  MOVES,
  NUM_KNOWN_SPRITES,
  OBSTACLE_REWARD,
  TERRAIN_REWARDS,
  build_spriteworld,
  spriteworld,
)
from metajax.testing.environments import check_environment


@pytest.fixture(scope='module')
def world():
  return build_spriteworld()


@pytest.fixture(scope='module')
def samples(world):
  """128 tasks of each split."""
  return {
    split: jax.jit(jax.vmap(lambda key, s=split: world.sample(key, s)))(
      jax.random.split(jax.random.key(i), 128)
    )
    for i, split in enumerate(('train', 'combinations', 'novel'))
  }


def first(tasks):
  return jax.tree.map(lambda x: x[0], tasks)


@pytest.mark.slow
def test_keeps_the_contract(world):
  check_environment(world.env, num_envs=8, silent_fields=('.appearance',))
  check_environment(
    held_out(spriteworld('novel')), num_envs=8, silent_fields=('.appearance',)
  )


def test_splits_are_apart(samples):
  combinations = {
    split: {tuple(sorted(ids)) for ids in np.asarray(tasks.sprites).tolist()}
    for split, tasks in samples.items()
  }
  assert all(len(set(c)) == 3 for s in combinations.values() for c in s)
  assert all(sum(c) % 10 for c in combinations['train'])
  assert not any(sum(c) % 10 for c in combinations['combinations'])
  assert min(map(min, combinations['novel'])) >= NUM_KNOWN_SPRITES
  for split in ('train', 'combinations'):
    assert max(map(max, combinations[split])) < NUM_KNOWN_SPRITES
  # Every role falls to every sprite, not to the smallest first.
  assert 0.2 < np.mean(samples['train'].sprites.argmax(axis=1) == 0) < 0.47


def test_sprites_stand_apart_and_away_from_the_border(world, samples):
  for split, margin in (('train', 0), ('combinations', 2), ('novel', 2)):
    tasks = samples[split]
    sides = np.asarray(world.sprites.sides)[tasks.sprites][..., None]
    assert (np.asarray(tasks.corners) >= margin).all()
    assert (np.asarray(tasks.corners) + sides <= 20 - margin).all()
    rewards = np.asarray(jax.vmap(world.rewards)(tasks))
    num_goal = (rewards == GOAL_REWARD).sum(axis=1)
    num_obstacle = (rewards == OBSTACLE_REWARD).sum(axis=1)
    areas = np.square(sides[..., 0])
    np.testing.assert_array_equal(num_goal, areas[:, 0])
    np.testing.assert_array_equal(num_obstacle, areas[:, 1] + areas[:, 2])


def test_rearranged_keeps_sprites_and_roles(world, samples):
  task = first(samples['train'])
  other = world.rearranged(task, jax.random.key(7))
  np.testing.assert_array_equal(task.sprites, other.sprites)
  assert (task.corners != other.corners).any()
  assert (task.terrain != other.terrain).any()


def test_terrain_has_no_seams():
  tiles = make_tiles(20)
  terrain = np.asarray(grow_terrain(tiles, 20, jax.random.key(1)))
  assert np.asarray(tiles.to_the_right)[terrain[:, :-1], terrain[:, 1:]].all()
  assert np.asarray(tiles.below)[terrain[:-1], terrain[1:]].all()
  # Whatever lies to the west and the north, something fits.
  fits = (
    np.asarray(tiles.to_the_right)[:, None, :]
    & np.asarray(tiles.below)[None, :, :]
  ).any(axis=-1)
  corner = np.asarray(tiles.below) @ np.asarray(tiles.to_the_right).T
  assert fits[corner.T > 0].all()
  shares = np.bincount(np.asarray(tiles.categories)[terrain].ravel()) / 400
  assert len(shares) == 3
  assert shares.min() > 0.03


def test_sprites_differ(world):
  images = np.asarray(world.sprites.images)
  poses = np.asarray(world.sprites.num_poses)
  flat = images.reshape(len(images), 8, -1)
  assert len(np.unique(flat[:, 0], axis=0)) == 105
  for sprite, num_poses in zip(flat, poses, strict=True):
    assert len(np.unique(sprite, axis=0)) == num_poses
  is_mirrored = (images[::2, 0, :, ::-1] == images[::2, 0]).all(axis=(1, 2, 3))
  assert is_mirrored[np.asarray(world.sprites.sides)[::2] == 4].all()


def test_the_picture_shows_the_rewards(world, samples):
  """Cell (i, j) is the pixels [4 i, 4 i + 4) x [4 j, 4 j + 4)."""
  task = first(samples['combinations'])
  elsewhere = task.replace(corners=task.corners.at[0].set(16 - task.corners[0]))
  changed = (world.image(task) != world.image(elsewhere)).any(axis=-1)
  cells = np.asarray(changed).reshape(20, 4, 20, 4).any(axis=(1, 3))
  was, is_now = (
    np.asarray(world.rewards(t) == GOAL_REWARD).reshape(20, 20)
    for t in (task, elsewhere)
  )
  assert cells.any()
  assert not (cells & ~was & ~is_now).any()
  picture = world.image(task)
  assert (picture.shape, picture.dtype) == ((80, 80, 3), jnp.uint8)
  state = world.env.reset(task, jax.random.key(0))
  drawn = (world.render(state) != picture).any(axis=-1)
  walker = np.asarray(drawn).reshape(20, 4, 20, 4).any(axis=(1, 3))
  np.testing.assert_array_equal(np.argwhere(walker)[0], state.physics.cell)
  assert walker.sum() == 1


def test_steps_are_those_of_the_table(world, samples):
  """Rewards by hand; moves off the grid give way to the next best."""
  task = first(samples['train'])
  state = world.env.reset(task, jax.random.key(3))
  corner = state.replace(
    physics=state.physics.replace(cell=jnp.zeros((2,), jnp.int32))
  )
  for preferred, expected in ((2, (0, 1)), (4, (1, 0)), (3, (1, 1))):
    # North-west first, which the corner does not permit.
    action = jax.nn.one_hot(7, 8) + 0.5 * jax.nn.one_hot(preferred, 8)
    there = world.env.step(corner, action)
    np.testing.assert_array_equal(there.physics.cell, expected)
    np.testing.assert_array_equal(MOVES[preferred], expected)
    row, column = expected
    np.testing.assert_allclose(
      there.reward, world.rewards(task)[20 * row + column]
    )
  inside = np.asarray(task.corners) + 1
  for sprite, reward in ((0, GOAL_REWARD), (1, OBSTACLE_REWARD)):
    beside = jnp.asarray(inside[sprite] + [1, 0], jnp.int32)
    state = corner.replace(physics=corner.physics.replace(cell=beside))
    there = world.env.step(state, jax.nn.one_hot(0, 8))
    assert there.reward == reward
    assert there.metrics['success'] == (sprite == 0)
    assert there.metrics['obstacle'] == (sprite != 0)


def test_observations_tell_places_but_not_roles(world, samples):
  task = first(samples['train'])
  state = world.env.reset(task, jax.random.key(4))
  swapped = jax.tree.map(lambda x: x, task).replace(
    sprites=task.sprites[::-1],
    corners=task.corners[::-1],
    appearance=task.appearance[::-1],
  )
  here = world.env.step(state, jnp.ones((8,)))
  there = world.env.step(state.replace(task=swapped), jnp.ones((8,)))
  np.testing.assert_array_equal(here.observation, there.observation)
  np.testing.assert_array_equal(world.image(task), world.image(swapped))
  assert (world.rewards(task) != world.rewards(swapped)).any()


def test_terrain_changes_rewards(world, samples):
  task = first(samples['train'])
  tiles = np.asarray(make_tiles(20).categories)
  for category, reward in enumerate(TERRAIN_REWARDS):
    tile = int(np.flatnonzero(tiles == category)[0])
    plain = task.replace(terrain=jnp.full((20, 20), tile))
    rewards = world.rewards(plain)
    assert set(np.asarray(rewards).tolist()) == {reward, 5.0, -10.0}


def test_starts_lie_outside_of_the_sprites(world, samples):
  task = first(samples['train'])
  keys = jax.random.split(jax.random.key(5), 300)
  states = jax.vmap(lambda key: world.env.reset(task, key))(keys)
  assert (states.metrics['success'] == 0).all()
  assert (states.metrics['obstacle'] == 0).all()
  assert len(np.unique(states.physics.cell, axis=0)) > 150
  np.testing.assert_allclose(jnp.sum(world.start(task)), 1.0, rtol=1e-5)


def test_arguments_are_checked():
  with pytest.raises(InputError, match='held_out: .*novel'):
    spriteworld('train')
  with pytest.raises(InputError, match='horizon'):
    spriteworld(horizon=0)
