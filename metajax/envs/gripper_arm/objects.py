"""Procedural containers and objects: their sizes, colours and who gets them."""

from collections.abc import Mapping
import dataclasses
from typing import Any, NamedTuple

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from metajax.envs.appearance import Appearance
from metajax.envs.camera import Camera

NUM_TRAINING = 100
# Arrays of the model that a body's mass decides.
MASS_FIELDS = (
  'body_mass',
  'body_inertia',
  'body_subtreemass',
  'body_invweight0',
  'dof_M0',
  'dof_invweight0',
)
_TEXTURES_PER_SPLIT = 1000
# What is seen on top of an object is a ball; m, its radius.
_KNOB_RADII_M = (0.008, 0.016)
_SPLITS = ('training', 'validation', 'test')
# Row i is what thing i is like, in [0, 1): seven numbers for its shape and
# three for its colour. There are never more things than rows.
_NUM_ROWS = 160
_CONTAINER_NUMBERS, _OBJECT_NUMBERS = (
  np.random.default_rng(seed).uniform(size=(_NUM_ROWS, 10)).astype(np.float32)
  for seed in (11, 12)
)


@struct.dataclass
class TabletopTask:
  """Which thing counts, what all things are like, and who moves them."""

  target: Array  # [] int32, the container or object that counts
  # Arrays of the model by name, of this task alone: sizes, masses, friction.
  model_fields: Mapping[str, Array]
  appearance: Appearance  # changes nothing simulated
  # [] float32, m/s, how fast the demonstrator's hand is; None for a robot.
  speed: Array | None = None
  # Cameras of this task alone, by name; they change nothing simulated.
  cameras: Mapping[str, Camera] = dataclasses.field(default_factory=dict)


class Things(NamedTuple):
  """What a task is about, before it is put into a model.

  Attributes:
    target: [] int32, the slot that counts.
    objects: [num_objects] int32, indices of the objects in their slots.
    containers: [num_containers] int32, indices of the containers.
    grip: [] float32, friction between fingertips and objects, by which that
      of the scene is multiplied.
    slide: [] float32, the same between objects and the table.
  """

  target: Array
  objects: Array
  containers: Array
  grip: Array
  slide: Array


def first_and_last(split: str, num_validation: int, num_test: int):
  """Returns the range `[first, last)` of indices that a split draws from.

  Args:
    split: `training`, `validation` or `test`.
    num_validation: things held out for validation.
    num_test: things held out for the test.

  Returns:
    Two integers; the ranges of the splits do not meet.
  """
  last_validation = NUM_TRAINING + num_validation
  return {
    'training': (0, NUM_TRAINING),
    'validation': (NUM_TRAINING, last_validation),
    'test': (last_validation, last_validation + num_test),
  }[split]


def draw_things(
  key: Array, indices: tuple[int, int], num_objects: int, num_containers: int
) -> Things:
  """Draws which things stand on the table, and which of them counts.

  Args:
    key: key of the draw; equal keys draw equal things for every body.
    indices: range `[first, last)` of the things to draw from.
    num_objects: objects on the table, no two alike.
    num_containers: containers on the table, no two alike. With none, an
      object is what counts.

  Returns:
    The things.
  """
  keys = jax.random.split(key, 5)
  known = jnp.arange(*indices, dtype=jnp.int32)
  return Things(
    target=jax.random.randint(keys[0], (), 0, num_containers or num_objects),
    objects=jax.random.choice(keys[1], known, (num_objects,), replace=False),
    containers=jax.random.choice(
      keys[2], known, (num_containers,), replace=False
    ),
    grip=jax.random.uniform(keys[3], minval=0.8, maxval=1.2),
    slide=jax.random.uniform(keys[4], minval=0.6, maxval=1.4),
  )


def container_shapes(indices: Array) -> dict[str, Array]:
  """Returns the sizes of containers, the same for the same index.

  Args:
    indices: [n] int32.

  Returns:
    `half_sizes` [n, 2] m, from the middle to the middles of the walls;
    `wall_radius` [n] m; `handle` [n, 2] m, half length and sideways offset.
  """
  unit = jnp.asarray(_CONTAINER_NUMBERS)[indices]
  half_sizes = 0.045 + 0.015 * unit[:, :2]
  return {
    'half_sizes': half_sizes,
    'wall_radius': 0.004 + 0.008 * unit[:, 2],
    'handle': jnp.stack(
      [0.008 + 0.027 * unit[:, 3], 0.04 * (unit[:, 4] - 0.5)], axis=1
    ),
  }


def object_shapes(
  indices: Array,
  smallest_m: tuple[float, float, float],
  largest_m: tuple[float, float, float],
) -> dict[str, Array]:
  """Returns the sizes of objects, the same for the same index.

  Args:
    indices: [n] int32.
    smallest_m: least half sizes of the box.
    largest_m: largest half sizes.

  Returns:
    `half_sizes` [n, 3] m; `knob` [n, 4] m, where the ball on top is and its
    radius; `mass` [n] kg; `inertia` [n, 3] kg m^2, of a uniform box.
  """
  unit = jnp.asarray(_OBJECT_NUMBERS)[indices]
  low, high = (jnp.asarray(x)[None, :] for x in (smallest_m, largest_m))
  half_sizes = low + (high - low) * unit[:, :3]
  radius = _KNOB_RADII_M[0] + unit[:, 3] * (_KNOB_RADII_M[1] - _KNOB_RADII_M[0])
  offsets = 0.6 * half_sizes[:, :2] * (2.0 * unit[:, 4:6] - 1.0)
  mass = 0.1 + 0.1 * unit[:, 6]
  squares = jnp.square(half_sizes)
  others = jnp.sum(squares, axis=1, keepdims=True) - squares
  return {
    'half_sizes': half_sizes,
    'knob': jnp.concatenate(
      [offsets, half_sizes[:, 2:], radius[:, None]], axis=1
    ),
    'mass': mass,
    'inertia': mass[:, None] * others / 3.0,
  }


def put_containers(
  model: Any, fields: dict[str, Array], indices: Array
) -> dict[str, Array]:
  """Gives the bodies `container_i` of a model the sizes of containers.

  Args:
    model: the host's `mujoco.MjModel`.
    fields: arrays of the model by name, `geom_size` and `geom_pos` among
      them.
    indices: [n] int32, which containers.

  Returns:
    The arrays with the containers in them.
  """
  shapes = container_shapes(indices)
  half, radius = shapes['half_sizes'], shapes['wall_radius']
  handle, offset = shapes['handle'].T
  zero = jnp.zeros_like(radius)
  # Walls 0 and 1 stand at either end along x, 2 and 3 along y.
  x, y = half.T
  middles = jnp.stack(
    [
      jnp.stack([x, zero, radius], axis=1),
      jnp.stack([-x, zero, radius], axis=1),
      jnp.stack([zero, y, radius], axis=1),
      jnp.stack([zero, -y, radius], axis=1),
      jnp.stack([x + 1.5 * radius, offset, radius], axis=1),
    ]
  )
  thin = 0.8 * radius
  round_sizes = jnp.stack(
    [
      jnp.stack([radius, y], axis=1),
      jnp.stack([radius, y], axis=1),
      jnp.stack([radius, x], axis=1),
      jnp.stack([radius, x], axis=1),
      jnp.stack([thin, handle], axis=1),
    ]
  )
  parts = [f'rim_{j}' for j in range(4)] + ['handle']
  names = [f'container_{i}' for i in range(len(indices))]
  rounds = np.array(
    [[model.geom(f'{name}_{part}').id for name in names] for part in parts]
  )
  plates = np.array([model.geom(f'{name}_plate').id for name in names])
  sizes = fields['geom_size'].at[rounds, :2].set(round_sizes)
  return {
    **fields,
    'geom_size': sizes.at[plates, :2].set(half),
    'geom_pos': fields['geom_pos'].at[rounds].set(middles),
  }


def put_objects(
  model: Any,
  fields: dict[str, Array],
  names: tuple[str, ...],
  shapes: dict[str, Array],
) -> dict[str, Array]:
  """Gives bodies of a model the sizes and masses of objects.

  Args:
    model: the host's `mujoco.MjModel`.
    fields: arrays of the model by name, `geom_size`, `geom_pos` and
      `MASS_FIELDS` among them.
    names: the bodies, each with geoms NAME_body, NAME_core and NAME_knob. A
      body moves freely, its origin in its middle; or it slides on the table,
      its origin on the ground.
    shapes: of `object_shapes`.

  Returns:
    The arrays with the objects in them.
  """
  sizes, positions = fields['geom_size'], fields['geom_pos']
  for i, name in enumerate(names):
    half = shapes['half_sizes'][i]
    is_sliding = int(model.body_dofnum[model.body(name).id]) == 3
    height = half[2] if is_sliding else jnp.zeros(())
    box, core, knob = (
      model.geom(f'{name}_{part}').id for part in ('body', 'core', 'knob')
    )
    # The largest ball that the box holds, drawn out upright.
    radius = 0.98 * jnp.min(half - jnp.array([0.0, 0.0, 0.003]))
    sizes = sizes.at[box].set(half)
    sizes = sizes.at[core, :2].set(jnp.stack([radius, half[2] - radius]))
    sizes = sizes.at[knob, 0].set(shapes['knob'][i, 3])
    positions = positions.at[np.array([box, core]), 2].set(height)
    positions = positions.at[knob].set(
      shapes['knob'][i, :3] + jnp.array([0.0, 0.0, 1.0]) * height
    )
    weigh = _weigh_sliding if is_sliding else _weigh_free
    fields = weigh(model, fields, name, shapes['mass'][i], shapes['inertia'][i])
  return {**fields, 'geom_size': sizes, 'geom_pos': positions}


def _weigh_free(
  model: Any, fields: dict[str, Array], name: str, mass: Array, inertia: Array
) -> dict[str, Array]:
  """Gives a body that moves freely its mass, and all that follows from it."""
  inverse = jnp.stack([1.0 / mass, jnp.mean(1.0 / inertia)])
  return _weigh(
    model,
    fields,
    name,
    mass,
    inertia,
    body_inverse=inverse,
    dof_inertia=jnp.concatenate([jnp.repeat(mass, 3), inertia]),
    dof_inverse=jnp.repeat(inverse, 3),
  )


def _weigh_sliding(
  model: Any, fields: dict[str, Array], name: str, mass: Array, inertia: Array
) -> dict[str, Array]:
  """Gives a body on two slides and an upright hinge its mass, likewise."""
  dof_inertia = jnp.stack([mass, mass, inertia[2]])
  inverse = jnp.stack([2.0 / mass, 1.0 / inertia[2]]) / 3.0
  return _weigh(
    model,
    fields,
    name,
    mass,
    inertia,
    body_inverse=inverse,
    dof_inertia=dof_inertia,
    dof_inverse=1.0 / dof_inertia,
  )


def _weigh(
  model: Any,
  fields: dict[str, Array],
  name: str,
  mass: Array,
  inertia: Array,
  *,
  body_inverse: Array,
  dof_inertia: Array,
  dof_inverse: Array,
) -> dict[str, Array]:
  body = model.body(name).id
  dofs = int(model.body_dofadr[body]) + np.arange(len(dof_inertia))
  values = {
    'body_mass': (body, mass),
    'body_inertia': (body, inertia),
    'body_subtreemass': (body, mass),
    'body_invweight0': (body, body_inverse),
    'dof_M0': (dofs, dof_inertia),
    'dof_invweight0': (dofs, dof_inverse),
  }
  gained = mass - fields['body_mass'][body]
  weighed = {k: fields[k].at[at].set(x) for k, (at, x) in values.items()}
  # The world's subtree holds all.
  total = weighed['body_subtreemass'].at[0].add(gained)
  return {**fields, **weighed, 'body_subtreemass': total}


def paint(
  model: Any,
  appearance: Appearance,
  bodies: tuple[str, ...],
  indices: Array,
  *,
  split: str,
) -> Appearance:
  """Gives things their colours and textures, the same for the same index.

  Args:
    model: the host's `mujoco.MjModel`.
    appearance: what the scene looks like else.
    bodies: names of the things' bodies, all containers or all objects.
    indices: [n] int32, which things they are.
    split: `training`, `validation` or `test`; each has its own textures.

  Returns:
    The appearance with the things painted.
  """
  are_containers = bodies[0].startswith('container')
  numbers = _CONTAINER_NUMBERS if are_containers else _OBJECT_NUMBERS
  colours = 0.15 + 0.8 * jnp.asarray(numbers)[indices, 7:]
  first = 1 + _TEXTURES_PER_SPLIT * _SPLITS.index(split)
  offset = 0 if are_containers else _TEXTURES_PER_SPLIT // 2
  rows = [geoms_of(model, name) for name in bodies]
  geoms = np.concatenate(rows)
  slots = np.repeat(np.arange(len(bodies)), [len(row) for row in rows])
  return dataclasses.replace(
    appearance,
    geom_rgba=appearance.geom_rgba.at[geoms, :3].set(colours[slots]),
    texture_seeds=appearance.texture_seeds.at[geoms].set(
      first + offset + indices[slots]
    ),
  )


def set_friction(
  model: Any, fields: dict[str, Array], things: Things
) -> dict[str, Array]:
  """Gives the contacts of a task their friction.

  Args:
    model: the host's `mujoco.MjModel`.
    fields: arrays of the model by name, `pair_friction` among them, and
      `dof_frictionloss` if objects slide.
    things: what the task is about.

  Returns:
    The arrays: fingertips' friction, and the table's.
  """
  names = [
    [model.geom(int(geom)).name for geom in pair]
    for pair in zip(model.pair_geom1, model.pair_geom2, strict=True)
  ]
  at_table = [i for i, pair in enumerate(names) if 'table' in pair]
  at_pads = [
    i for i, pair in enumerate(names) if any(x.startswith('pad') for x in pair)
  ]
  friction = fields['pair_friction']
  friction = friction.at[np.array(at_pads), :2].multiply(things.grip)
  if at_table:
    friction = friction.at[np.array(at_table), :2].multiply(things.slide)
  fields = {**fields, 'pair_friction': friction}
  if 'dof_frictionloss' in fields:
    loss = things.slide * fields['dof_frictionloss']
    fields['dof_frictionloss'] = loss
  return fields


def geoms_of(model: Any, body_name: str) -> np.ndarray:
  """Returns the indices of a body's geoms, [n] int."""
  body = model.body(body_name).id
  return np.flatnonzero(model.geom_bodyid == body)
