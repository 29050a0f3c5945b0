"""Objects on a table, to be pushed into a relation to each other."""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from metajax.core.validation import check_count, reject
from metajax.envs.appearance import Appearance, painted, plain
from metajax.envs.engines import load_model, make_physics
from metajax.envs.environment import (
  Env,
  EnvSpec,
  EnvState,
  checked,
  first_state,
)
from metajax.envs.physics import PhysicsState
from metajax.envs.table.shapes import make_shapes

# Where the moved object is, seen from the other; a relation is a multiple of
# 45 degrees.
RELATIONS = (
  'right',
  'above_right',
  'above',
  'above_left',
  'left',
  'below_left',
  'below',
  'below_right',
)
OBJECTS = ('first', 'second', 'third')
NUM_TRAIN_SHAPES = 90
NUM_TEST_SHAPES = 10
# (moved, reference) of each relation: a line of three is two of them.
PAIRS = ((0, 1), (2, 1))
# How far apart, and how far off the relation's direction, centres may be.
MIN_DISTANCE_M, MAX_DISTANCE_M = 0.05, 0.15
MAX_ANGLE_RAD = np.deg2rad(20.0)

_MAX_SPEED_M_PER_S = 0.5
_NUM_SUBSTEPS = 10
_DISTRACTOR_SHARE = 1 / 3
_TRAIN_SEEDS, _TEST_SEEDS = (1, 10_000), (10_000, 20_000)
_PLACES = 0.04 * np.stack(
  np.meshgrid(np.arange(-4, 5), np.arange(-4, 5)), axis=-1
).reshape(-1, 2)
_JITTER_M = 0.01
_MIN_GAP_M = 0.13  # between the places of two objects
_PUSHER_GAP_M = 0.09  # between those of the pusher and an object
_AWAY_M = (0.9, 0.9)  # where an object is that is not on the table
_NUM_ATTEMPTS = 8  # to begin with the relation not there yet


@struct.dataclass
class TableTask:
  """Which objects, and how they are to lie."""

  # [number of relations] float32, rad, of the moved object seen from the
  # other, counter-clockwise from the right.
  directions: Array
  # [] float32, 1: the third object is on the table though it does not matter;
  # 0: it is not there. None where it does matter.
  distractor: Array | None
  # The shapes: geom_size, geom_pos, geom_quat.
  model_fields: Mapping[str, Array]
  appearance: Appearance


def table(
  num_relations: int = 1,
  horizon: int | None = None,
  *,
  seed: int = 0,
  physics: str = 'mjx',
) -> Env:
  """Builds the arrangement of objects (Xie et al. 2018, section 5.1).

  A small pusher slides over a table and pushes objects in the plane. A task
  is two objects and one of eight relations: the first is to lie to the left,
  right, above, below or diagonally of the second, 5 to 15 cm away from it and
  at most 20 degrees off the direction. In a third of the tasks another object
  lies about. With two relations there are three objects: then the third is to
  lie in another relation to the second, a quarter turn or more away from the
  first one's, as in a line of three. With `d_k` the distance, m, from where
  the moved object is to where relation k would hold,

    `r = -sum_k d_k`.

  A success is that all relations hold now. The metric `stage` counts those
  that have held, in their order, since the episode began.

  Control is at 10 Hz, physics at 100 Hz. An episode never ends before its
  horizon. It starts at random places, no relation holding. The action [2] is
  the pusher's velocity, in units of 0.5 m/s. The observation [31] is the
  pusher's position (2, m) and velocity (2, m/s), and each object's position
  (2, m), cosine and sine of its yaw, velocity (2, m/s), yaw rate (rad/s) and
  how far it reaches along its own x and y (2, m); it does not tell the
  relation. An object that is not there is far away.

  A simulated pusher stands for the paper's arm. Objects are procedural: 90
  shapes for training, 10 others, with other textures, held out.

  Args:
    num_relations: 1, or 2 for one after the other.
    horizon: control steps in an episode; None: 80 for each relation.
    seed: decides on the shapes.
    physics: name of the engine, `mjx` or `c`.

  Returns:
    The environment; its tasks are `TableTask`.

  Raises:
    InputError: if an argument is out of its range.
  """
  check_count('num_relations', num_relations)
  if num_relations > len(PAIRS):
    raise reject('num_relations', '1 or 2', num_relations)
  horizon = 80 * num_relations if horizon is None else horizon
  check_count('horizon', horizon)
  check_count('seed', seed, minimum=0)
  model = load_model('table.xml')
  world = make_physics(model, physics)

  geoms = _object_geoms(model)

  def observe(task: TableTask, state: PhysicsState) -> Array:
    return _observe(state, _reaches(task, geoms))

  def reset(task: TableTask, key: Array) -> EnvState:
    keys = jax.random.split(key, _NUM_ATTEMPTS + 1)
    attempts = jax.vmap(_scatter)(keys[1:])
    distances = jax.vmap(lambda places: _distances(task, places[1:]))(attempts)
    is_open = jnp.all(distances > 0, axis=-1)
    pusher, *objects = attempts[jnp.argmax(is_open)]
    if task.distractor is not None:
      away = jnp.asarray(_AWAY_M)
      objects[2] = jnp.where(task.distractor > 0, objects[2], away)
    yaws = jax.random.uniform(keys[0], (3, 1), minval=-jnp.pi, maxval=jnp.pi)
    poses = jnp.concatenate([jnp.stack(objects), yaws], axis=1)
    state = world.reset(jnp.concatenate([pusher, poses.reshape(-1)]))
    metrics, stage = _judge(task, state, jnp.zeros((), jnp.int32))
    return first_state(task, state, observe(task, state), metrics, stage)

  def step(state: EnvState, action: Array) -> EnvState:
    velocity = _MAX_SPEED_M_PER_S * jnp.clip(action, -1.0, 1.0)
    later, _ = world.step(
      state.physics,
      velocity,
      num_substeps=_NUM_SUBSTEPS,
      model_fields=state.task.model_fields,
    )
    metrics, stage = _judge(state.task, later, state.memory)
    return dataclasses.replace(
      state,
      physics=later,
      observation=observe(state.task, later),
      reward=-metrics['arrangement_distance_m'],
      metrics=metrics,
      memory=stage,
    )

  env = Env(
    spec=EnvSpec(
      name='table' if num_relations == 1 else 'table_in_line',
      observation_size=4 + 9 * len(OBJECTS),
      action_size=2,
      horizon=horizon,
      control_period_s=_NUM_SUBSTEPS * world.time_step_s,
    ),
    sample_task=_sampler(model, num_relations, seed, is_test=False),
    reset=reset,
    step=step,
    model=model,
    holds_physics=world.needs_options,
    sample_test_task=_sampler(model, num_relations, seed, is_test=True),
  )
  return checked(env)


def relation_distance(offset: Array, direction: Array) -> Array:
  """Returns how far a place is from where a relation holds.

  A relation holds in a sector of a ring: `|angle| <= 20 degrees` off its
  direction, 5 to 15 cm away.

  Args:
    offset: [2] float32, m, of the moved object seen from the other.
    direction: [] float32, rad.

  Returns:
    [] float32, m; 0 where it holds.
  """
  distance = jnp.sqrt(jnp.sum(jnp.square(offset)) + 1e-12)
  angle = jnp.arctan2(offset[1], offset[0]) - direction
  angle = jnp.abs(jnp.arctan2(jnp.sin(angle), jnp.cos(angle)))
  to_ring = jnp.maximum(MIN_DISTANCE_M - distance, distance - MAX_DISTANCE_M)
  # Beside the sector, the nearest place is on the edge that bounds it.
  beside = angle - MAX_ANGLE_RAD
  along, across = distance * jnp.cos(beside), distance * jnp.sin(beside)
  nearest = jnp.clip(along, MIN_DISTANCE_M, MAX_DISTANCE_M)
  to_edge = jnp.sqrt(jnp.square(along - nearest) + jnp.square(across) + 1e-12)
  return jnp.where(beside <= 0, jnp.maximum(to_ring, 0.0), to_edge)


def positions_of(state: PhysicsState) -> tuple[Array, Array, Array]:
  """Returns where everything is.

  Args:
    state: a state of this table.

  Returns:
    The pusher [2] and the objects [3, 2], m, and the objects' yaws [3], rad.
  """
  poses = state.qpos[2:].reshape(len(OBJECTS), 3)
  return state.qpos[:2], poses[:, :2], poses[:, 2]


def _sampler(
  model: Any, num_relations: int, seed: int, *, is_test: bool
) -> Callable[[Array], TableTask]:
  """Returns the sampler of training tasks, or of held-out ones."""
  shapes = make_shapes(NUM_TRAIN_SHAPES + NUM_TEST_SHAPES, seed)
  first_shape = NUM_TRAIN_SHAPES if is_test else 0
  num_shapes = NUM_TEST_SHAPES if is_test else NUM_TRAIN_SHAPES
  seed_range = _TEST_SEEDS if is_test else _TRAIN_SEEDS
  geoms = _object_geoms(model)
  blank = {
    name: jnp.asarray(getattr(model, name), jnp.float32)
    for name in ('geom_size', 'geom_pos', 'geom_quat')
  }

  def sample_task(key: Array) -> TableTask:
    keys = jax.random.split(key, 4 + len(OBJECTS))
    ids = first_shape + jax.random.choice(
      keys[0], num_shapes, (len(OBJECTS),), replace=False
    )
    parts = zip(blank.items(), shapes, strict=True)
    appearance = plain(model)
    for i in range(len(OBJECTS)):
      appearance = painted(
        appearance, jnp.asarray(geoms[i]), keys[4 + i], seed_range=seed_range
      )
    first = jax.random.randint(keys[1], (), 0, len(RELATIONS))
    # A quarter turn to three quarters.
    second = first + jax.random.randint(keys[3], (), 2, 7)
    relations = jnp.stack([first, second])[:num_relations] % len(RELATIONS)
    distractor = jax.random.bernoulli(keys[2], _DISTRACTOR_SHARE)
    return TableTask(
      directions=relations * (2 * jnp.pi / len(RELATIONS)),
      distractor=distractor.astype(jnp.float32) if num_relations == 1 else None,
      model_fields={
        name: array.at[geoms].set(shape[ids]) for (name, array), shape in parts
      },
      appearance=appearance,
    )

  return sample_task


def _object_geoms(model: Any) -> np.ndarray:
  """Returns [3, 2] int, the two capsules of each object."""
  return np.array(
    [[model.geom(f'{name}_{part}').id for part in 'ab'] for name in OBJECTS]
  )


def _scatter(key: Array) -> Array:
  """Returns [4, 2], m: places of the pusher and the objects, apart."""
  place_key, jitter_key = jax.random.split(key)
  grid = jnp.asarray(_PLACES, jnp.float32)
  # The highest score among the places that are free: each alike.
  scores = jax.random.uniform(place_key, (1 + len(OBJECTS), len(_PLACES)))
  places = []
  for i in range(1 + len(OBJECTS)):
    is_free = jnp.ones(len(_PLACES), bool)
    for j in range(i):
      gap = _PUSHER_GAP_M if j == 0 else _MIN_GAP_M
      squared = jnp.sum(jnp.square(grid - places[j][None]), axis=-1)
      is_free &= squared > gap**2
    places.append(grid[jnp.argmax(jnp.where(is_free, scores[i], -1.0))])
  jitter = jax.random.uniform(jitter_key, (4, 2), minval=-1.0, maxval=1.0)
  return jnp.stack(places) + _JITTER_M * jitter


def _distances(task: TableTask, places: Array) -> Array:
  """Returns [number of relations], m, how far each is from holding."""
  return jnp.stack(
    [
      relation_distance(places[moved] - places[other], task.directions[k])
      for k, (moved, other) in enumerate(PAIRS[: task.directions.shape[0]])
    ]
  )


def _judge(
  task: TableTask, state: PhysicsState, stage: Array
) -> tuple[dict[str, Array], Array]:
  """Returns the metrics, and how many relations have held so far."""
  distances = _distances(task, positions_of(state)[1])
  for k in range(distances.shape[0]):
    stage = jnp.where((stage == k) & (distances[k] <= 0), k + 1, stage)
  metrics = {
    'success': jnp.all(distances <= 0).astype(jnp.float32),
    'arrangement_distance_m': jnp.sum(distances),
    'stage': stage.astype(jnp.float32),
  }
  return metrics, stage


def _reaches(task: TableTask, geoms: np.ndarray) -> Array:
  """Returns [3, 2], m, how far each object reaches along its own x and y."""
  fields = task.model_fields
  radius = fields['geom_size'][geoms][..., :1]
  half_length = fields['geom_size'][geoms][..., 1:2]
  quaternion = fields['geom_quat'][geoms]
  # The capsules lie flat, at twice this half angle.
  angle = 2.0 * jnp.arctan2(-quaternion[..., 1], quaternion[..., 0])
  along = half_length * jnp.abs(
    jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)
  )
  centres = jnp.abs(fields['geom_pos'][geoms][..., :2])
  return jnp.max(centres + along + radius, axis=1)


def _observe(state: PhysicsState, reaches: Array) -> Array:
  """Returns the observation [31]."""
  pusher, places, yaws = positions_of(state)
  objects = jnp.concatenate(
    [
      places,
      jnp.cos(yaws)[:, None],
      jnp.sin(yaws)[:, None],
      state.qvel[2:].reshape(len(OBJECTS), 3),
      reaches,
    ],
    axis=1,
  )
  return jnp.concatenate([pusher, state.qvel[:2], objects.reshape(-1)])
