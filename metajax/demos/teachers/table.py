"""Pushes objects on the table where the task wants them, around the others."""

from typing import Any

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from metajax.core.learner import PyTree
from metajax.demos.teachers.teacher import Teacher
from metajax.envs.environment import Env, EnvState
from metajax.envs.table.arrangement import OBJECTS, PAIRS, positions_of

_PUSHER_RADIUS_M = 0.012
# The field of distances is solved on this grid.
_NUM_CELLS = 37
_CELL_M = 0.02
_EDGE_M = _CELL_M * (_NUM_CELLS - 1) / 2
_NUM_SWEEPS = 60
_BLOCKED_COST = 20.0
_STEP_AHEAD = 3  # cells along a path to the point that is steered for

_TARGET_DISTANCE_M = 0.10
_CLOSE_M = 0.012
_STANDOFF_M = 0.014
_CLEARANCE_M = 0.006
_MAX_LATERAL_M = 0.014
_PUSH_SPEED_M_PER_S = 0.16
_MAX_SPEED_M_PER_S = 0.5


def table_teacher(env: Env) -> Teacher:
  """Builds the controller that knows the relations and all shapes.

  One relation after the other, it pushes the moved object to the middle of
  where the relation holds. The object goes the shortest way around the others;
  the pusher goes the shortest way around all of them to the point behind the
  object, as seen from where the object is to go next, and through. Shortest
  ways are solved anew at every step, on a grid of 2 cm.

  Args:
    env: the table.

  Returns:
    The teacher. Its memory is how many relations it has made, [] int32, and
    whether it is pushing, [] bool.
  """
  model: Any = env.model
  geoms = np.array(
    [[model.geom(f'{name}_{part}').id for part in 'ab'] for name in OBJECTS]
  )

  def first_memory(state: EnvState, key: Array) -> PyTree:
    del state, key
    return jnp.zeros((), jnp.int32), jnp.zeros((), bool)

  def act(state: EnvState, memory: PyTree, key: Array) -> tuple[Array, PyTree]:
    del key
    num_made, is_pushing = memory
    directions = state.task.directions
    pusher, places, _ = positions_of(state.physics)
    pairs = jnp.asarray(PAIRS[: directions.shape[0]])
    headings = jnp.stack([jnp.cos(directions), jnp.sin(directions)], axis=1)
    goals = places[pairs[:, 1]] + _TARGET_DISTANCE_M * headings
    errors = jnp.linalg.norm(goals - places[pairs[:, 0]], axis=1)
    k = jnp.minimum(num_made, len(pairs) - 1)
    is_there = errors[k] < _CLOSE_M
    velocity, is_pushing = _push(
      pusher, places, pairs[k, 0], goals[k], _capsules(state, geoms), is_pushing
    )
    is_done = is_there & (k == len(pairs) - 1)
    num_made = jnp.where(is_there & ~is_done, k + 1, k)
    velocity = jnp.where(is_there, 0.0, velocity)
    return velocity / _MAX_SPEED_M_PER_S, (num_made, is_pushing & ~is_there)

  return Teacher(name='table_pusher', first_memory=first_memory, act=act)


def _capsules(state: EnvState, geoms: np.ndarray) -> tuple[Array, Array]:
  """Returns the objects' capsules: ends [3, 2, 2, 2], m, and radii [3, 2]."""
  fields = state.task.model_fields
  _, places, yaws = positions_of(state.physics)
  quaternions = fields['geom_quat'][geoms]
  # The capsules lie flat, at twice this half angle.
  angles = 2.0 * jnp.arctan2(-quaternions[..., 1], quaternions[..., 0])
  angles += yaws[:, None]
  cosine, sine = jnp.cos(yaws)[:, None], jnp.sin(yaws)[:, None]
  x, y = fields['geom_pos'][geoms][..., 0], fields['geom_pos'][geoms][..., 1]
  offsets = jnp.stack([cosine * x - sine * y, sine * x + cosine * y], axis=-1)
  centres = places[:, None, :] + offsets
  axes = jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=-1)
  half = fields['geom_size'][geoms][..., 1, None] * axes
  ends = jnp.stack([centres - half, centres + half], axis=2)
  return ends, fields['geom_size'][geoms][..., 0]


def _push(
  pusher: Array,
  places: Array,
  moved: Array,
  goal: Array,
  capsules: tuple[Array, Array],
  is_pushing: Array,
) -> tuple[Array, Array]:
  """Returns the pusher's velocity [2], m/s, and whether it pushes."""
  ends, radii = capsules
  place = places[moved]
  is_other = jnp.arange(len(OBJECTS)) != moved
  reach = jnp.max(
    jnp.linalg.norm(ends - places[:, None, None, :], axis=-1)
    + radii[:, :, None],
    axis=(1, 2),
  )
  gaps = jnp.linalg.norm(
    _grid()[:, :, None, :] - places[None, None, :, :], axis=-1
  )
  gaps = gaps - (reach + reach[moved])[None, None, :]
  gaps = jnp.where(is_other[None, None, :], gaps, jnp.inf)
  gaps = jnp.min(gaps, axis=-1)
  waypoint = _ahead(place, goal, gaps)
  heading = _unit(waypoint - place)

  # The farthest that the object reaches against its heading.
  behind = jnp.max(
    jnp.sum(
      (ends[moved] - place[None, None, :]) * -heading[None, None, :], axis=-1
    )
    + radii[moved][:, None]
  )
  offset = pusher - place
  lateral = offset - jnp.sum(offset * heading) * heading
  is_behind = jnp.sum(offset * heading) < 0
  is_aligned = is_behind & (jnp.linalg.norm(lateral) < _MAX_LATERAL_M)
  is_near = jnp.linalg.norm(offset) < behind + _PUSHER_RADIUS_M + 0.03
  start = place - heading * (behind + _PUSHER_RADIUS_M + _STANDOFF_M)
  has_arrived = jnp.linalg.norm(start - pusher) < 0.01
  is_pushing = is_aligned & is_near & (is_pushing | has_arrived)

  room = jnp.min(_distances_to(ends) - radii[None, None], axis=(-1, -2))
  room = room - _PUSHER_RADIUS_M
  towards = _ahead(pusher, start, room) - pusher
  approach = towards * jnp.minimum(
    8.0, _MAX_SPEED_M_PER_S / (jnp.linalg.norm(towards) + 1e-6)
  )
  remaining = jnp.linalg.norm(goal - place)
  speed = jnp.clip(3.0 * remaining, 0.03, _PUSH_SPEED_M_PER_S)
  pushing = speed * heading - 4.0 * lateral
  return jnp.where(is_pushing, pushing, approach), is_pushing


def _grid() -> Array:
  """Returns [n, n, 2], m, the cells' centres."""
  line = jnp.linspace(-_EDGE_M, _EDGE_M, _NUM_CELLS)
  return jnp.stack(jnp.meshgrid(line, line, indexing='ij'), axis=-1)


def _distances_to(ends: Array) -> Array:
  """Returns [n, n, 3, 2], m, from cells to the segments between ends."""
  first = ends[None, None, :, :, 0]
  along = ends[None, None, :, :, 1] - first
  length = jnp.sum(jnp.square(along), axis=-1) + 1e-9
  offsets = _grid()[:, :, None, None, :] - first
  share = jnp.clip(jnp.sum(offsets * along, axis=-1) / length, 0.0, 1.0)
  return jnp.linalg.norm(offsets - share[..., None] * along, axis=-1)


def _ahead(start: Array, goal: Array, gaps: Array) -> Array:
  """Returns the point [2] to steer for: the goal, if the way is free.

  Else one a few cells ahead on the shortest way over the grid, whose cells
  cost more where the gap to an obstacle is small.
  """
  samples = jnp.linspace(0.0, 1.0, 24)[:, None]
  line = start[None, :] + samples * (goal - start)[None, :]
  cells = _cell_of(line)
  is_free = jnp.all(gaps[cells[:, 0], cells[:, 1]] > _CLEARANCE_M)

  cost = jnp.where(gaps > _CLEARANCE_M, 1.0, _BLOCKED_COST)
  cost += 2.0 * (gaps < 3 * _CLEARANCE_M)
  goal_cell = _cell_of(goal)
  far = jnp.full((_NUM_CELLS, _NUM_CELLS), 1e4)
  far = far.at[goal_cell[0], goal_cell[1]].set(0.0)
  steps = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]
  lengths = jnp.asarray([np.hypot(*step) for step in steps])
  costs = lengths[:, None, None] * cost[None]

  def neighbours(field: Array) -> Array:
    padded = jnp.pad(field, 1, constant_values=1e4)
    return jnp.stack(
      [
        padded[1 + i : 1 + i + _NUM_CELLS, 1 + j : 1 + j + _NUM_CELLS]
        for i, j in steps
      ]
    )

  def sweep(field: Array, _) -> tuple[Array, None]:
    reached = neighbours(field) + costs
    return jnp.minimum(field, jnp.min(reached, axis=0)), None

  field, _ = jax.lax.scan(sweep, far, length=_NUM_SWEEPS)
  around = neighbours(field) + costs
  best = jnp.asarray(steps)[jnp.argmin(around, axis=0)]
  cell = _cell_of(start)
  for _ in range(_STEP_AHEAD):
    is_goal = jnp.all(cell == goal_cell)
    cell = jnp.where(is_goal, cell, cell + best[cell[0], cell[1]])
  is_goal = jnp.all(cell == goal_cell)
  detour = jnp.where(is_goal, goal, _grid()[cell[0], cell[1]])
  return jnp.where(is_free, goal, detour)


def _cell_of(points: Array) -> Array:
  cells = jnp.round((points + _EDGE_M) / _CELL_M).astype(jnp.int32)
  return jnp.clip(cells, 0, _NUM_CELLS - 1)


def _unit(vector: Array) -> Array:
  return vector / (jnp.linalg.norm(vector) + 1e-6)
