"""Filming elsewhere: another table, another light, a camera on a tripod."""

import dataclasses

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from metajax.envs.appearance import Appearance, random_light
from metajax.envs.camera import Camera, look_at
from metajax.envs.environment import Env
from metajax.envs.gripper_arm.objects import TabletopTask

TRIPOD = 'tripod'
# Tables: ten in training, two others held out.
_TABLES = {'training': (0, 10), 'held out': (10, 12)}
_FIRST_TEXTURE = 20_000  # no object's and no sleeve's
_TABLE_COLOURS = (
  np.random.default_rng(13)
  .uniform(0.25, 0.9, (_TABLES['held out'][1], 3))
  .astype(np.float32)
)
# The robot's own camera: at 0 and 48 degrees, 0.96 m away.
_AZIMUTHS_RAD = (np.radians(15.0), np.radians(50.0))  # to either side
_ELEVATIONS_RAD = (np.radians(28.0), np.radians(60.0))
_DISTANCES_M = (1.0, 1.6)
_HALF_HEIGHTS_M = (0.33, 0.45)  # of what the picture shows at its middle
_ROOM = 1  # folded into a task's key: the things of the task stay what they are


def in_another_room(env: Env) -> Env:
  """Moves a family of the table to a room where only videos are made.

  Yu et al. (2018; Finn 2018, section 7.2.7.2) filmed people in another room.
  Equal keys draw the same things as in the family itself. The table has one of
  ten textures, in held-out tasks one of two others; the light is the room's;
  and the camera `tripod` stands 15 to 50 degrees to a side of the robot's, at
  another height and distance, with another focal length. Nothing simulated
  changes.

  Args:
    env: an environment whose tasks are `TabletopTask`.

  Returns:
    The environment in another room; its tasks have a camera `tripod`.
  """
  table = env.model.geom('table').id

  def draw(of_split: str, key: Array) -> TabletopTask:
    sample = env.sample_task if of_split == 'training' else env.sample_test_task
    task = sample(key)
    table_key, light_key, tripod_key = jax.random.split(
      jax.random.fold_in(jax.random.clone(key), _ROOM), 3
    )
    number = jax.random.randint(table_key, (), *_TABLES[of_split])
    return dataclasses.replace(
      task,
      appearance=dataclasses.replace(
        _with_table(task.appearance, table, number),
        light=random_light(light_key),
      ),
      cameras={TRIPOD: _tripod(tripod_key)},
    )

  def reset(task: TabletopTask, key: Array):
    state = env.reset(dataclasses.replace(task, cameras={}), key)
    return dataclasses.replace(state, task=task)

  return env._replace(
    spec=env.spec._replace(name=f'{env.spec.name}_elsewhere'),
    sample_task=lambda key: draw('training', key),
    sample_test_task=lambda key: draw('held out', key),
    reset=reset,
  )


def _with_table(looks: Appearance, table: int, number: Array) -> Appearance:
  """Gives the table the colour and texture of its number."""
  colour = jnp.asarray(_TABLE_COLOURS)[number]
  return dataclasses.replace(
    looks,
    geom_rgba=looks.geom_rgba.at[table, :3].set(colour),
    texture_seeds=looks.texture_seeds.at[table].set(_FIRST_TEXTURE + number),
  )


def _tripod(key: Array) -> Camera:
  """Draws where a tripod stands; it looks at the middle of the table."""
  keys = jax.random.split(key, 5)

  def uniform(key: Array, limits: tuple[float, float]) -> Array:
    return jax.random.uniform(key, minval=limits[0], maxval=limits[1])

  side = jnp.where(jax.random.bernoulli(keys[0]), 1.0, -1.0)
  azimuth = side * uniform(keys[1], _AZIMUTHS_RAD)
  elevation = uniform(keys[2], _ELEVATIONS_RAD)
  distance = uniform(keys[3], _DISTANCES_M)
  toward = jnp.stack(
    [
      jnp.cos(azimuth) * jnp.cos(elevation),
      jnp.sin(azimuth) * jnp.cos(elevation),
      jnp.sin(elevation),
    ]
  )
  half_height = uniform(keys[4], _HALF_HEIGHTS_M)
  return look_at(
    distance * toward,
    jnp.zeros(3),
    fov_y_rad=2.0 * jnp.arctan(half_height / distance),
  )
