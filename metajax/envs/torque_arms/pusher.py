"""Pushing the right one of two objects onto a disc, by torques."""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from metajax.core.validation import check_count
from metajax.envs.appearance import Appearance, painted, plain
from metajax.envs.engines import load_model, make_physics
from metajax.envs.environment import (
  Env,
  EnvSpec,
  EnvState,
  checked,
  first_state,
)
from metajax.envs.physics import Measurement, ModelFields, PhysicsState
from metajax.envs.torque_arms.pushed_objects import (
  NUM_PARTS,
  TEST_TEXTURE_SEEDS,
  TRAIN_TEXTURE_SEEDS,
  geometry_of,
  sample_pair,
)

_NUM_JOINTS = 7
_NUM_SUBSTEPS = 5
_MAX_SQUARED_DISTANCE_M2 = 0.017
_MIN_SCALE, _MAX_SCALE = 0.5, 1.0
_MIN_MASS_KG, _MAX_MASS_KG = 0.1, 2.0
_MIN_DAMPING, _MAX_DAMPING = 0.2, 5.0
# Where objects start, m: x in [-0.3, 0], y in [-0.2, 0.2].
_START_DEPTH_M, _START_HALF_WIDTH_M = 0.3, 0.2
_MIN_START_DISTANCE_M, _MIN_START_GAP_M = 0.17, 0.1
_NUM_START_CANDIDATES = 64
_VELOCITY_NOISE = 0.005
_TIP_COST, _ACTION_COST = 0.5, 0.1


@struct.dataclass
class PushingTask:
  """Two objects, and which of them to push."""

  target_slot: Array  # [] int32, 0 or 1: the object that is to go on the disc
  masses: Array  # [2] float32, kg
  damping: Array  # [2] float32, N s/m, of the objects' sliding
  # The objects' shapes and sizes, as arrays of the model; any others, too.
  model_fields: Mapping[str, Array]
  appearance: Appearance  # their colours and textures


def exchange_roles(task: PushingTask) -> PushingTask:
  """Returns the task with target and distractor exchanged.

  The two tasks of such a pair differ in nothing that can be seen: only a
  demonstration tells which object counts (Finn et al. 2017, section 5.2).
  """
  return dataclasses.replace(task, target_slot=1 - task.target_slot)


def pusher(
  horizon: int = 100, *, observe_objects: bool = True, physics: str = 'mjx'
) -> Env:
  """Builds simulated pushing (Finn, Yu et al. 2017, section 5.2).

  A seven-joint torque arm with one finger stands before a table with two
  objects that slide without turning, each damped in its own way. The target
  is to be pushed onto the red disc at the origin of the table's plane; the
  other object is a distractor. With `p` the target's centre, `g` the disc's,
  both in the plane, `q` the finger's tip and `a` the action in [-1, 1]:

    `r = -||p - g|| - 0.5 ||p - q|| - 0.1 ||a||^2`

  (`||p - q||` in space, `p` on the table). Lengths in m. The step is a success
  where `||p - g||^2 < 0.017` m^2; an episode is one after at least 10 such
  steps, `has_succeeded(trajectory, 10)`. It never ends before its horizon.

  Control at 20 Hz (five steps of 0.01 s), torques `2 a` N m, zero gravity.
  Observation [24]: joint angles (7, rad), joint velocities (7, rad/s), tip (3,
  m), disc (3, m, constant); then, with `observe_objects`, the centres of
  object 0 and object 1 in the plane (4, m). It does not tell which one is the
  target.

  A task draws two different shapes (`pushed_objects.all_shapes`) with the
  longest side of 0.24 m times U(0.5, 1), masses U(0.1, 2) kg, damping U(0.2,
  5) N s/m, and colours and textures. Held-out tasks take the eleven held-out
  shapes and other textures. At every reset the objects start anew: x ~ U(-0.3,
  0), y ~ U(-0.2, 0.2), one on each side, more than 0.17 m from the disc and
  0.1 m from each other.

  Compounds of capsules stand in for the 116 meshes of the paper, drawn
  textures for its photographs.

  Args:
    horizon: control steps in an episode.
    observe_objects: whether the observation tells where the objects are; a
      policy that sees pictures does without.
    physics: name of the engine, `mjx` or `c`.

  Returns:
    The environment; its tasks are `PushingTask`. It tells `success`,
    `target_distance_m` (of the target from the disc) and `tip_distance_m` (of
    the tip from the target).

  Raises:
    InputError: if an argument is out of its range.
  """
  check_count('horizon', horizon)
  model = load_model('pusher.xml')
  world = make_physics(model, physics)
  tip = model.site('tip').id
  objects = jnp.array([model.body(f'object_{slot}').id for slot in (0, 1)])
  goal = jnp.asarray(model.body('table_disc').pos, jnp.float32)
  home = jnp.asarray(model.key('home').qpos[:_NUM_JOINTS], jnp.float32)

  def fields_of(task: PushingTask) -> ModelFields:
    sliding = sliding_fields(model, task.masses, task.damping)
    return {**sliding, **task.model_fields}

  def observe(state: PhysicsState, measured: Measurement) -> Array:
    parts = [
      state.qpos[:_NUM_JOINTS],
      state.qvel[:_NUM_JOINTS],
      measured.site_xpos[tip],
      goal,
    ]
    if observe_objects:
      parts.append(jnp.ravel(measured.xpos[objects, :2]))
    return jnp.concatenate(parts)

  def metrics_of(task: PushingTask, measured: Measurement) -> dict[str, Array]:
    target = measured.xpos[objects[task.target_slot]]
    distance = jnp.linalg.norm(target[:2] - goal[:2])
    is_on_disc = jnp.square(distance) < _MAX_SQUARED_DISTANCE_M2
    return {
      'success': is_on_disc.astype(jnp.float32),
      'target_distance_m': distance,
      'tip_distance_m': jnp.linalg.norm(target - measured.site_xpos[tip]),
    }

  def reset(task: PushingTask, key: Array) -> EnvState:
    place_key, noise_key = jax.random.split(key)
    noise = jax.random.uniform(
      noise_key, (_NUM_JOINTS,), minval=-_VELOCITY_NOISE, maxval=_VELOCITY_NOISE
    )
    state = world.reset(
      jnp.concatenate([home, jnp.ravel(sample_starts(place_key))]),
      jnp.concatenate([noise, jnp.zeros((4,))]),
    )
    measured = world.measure(state, model_fields=fields_of(task))
    return first_state(
      task, state, observe(state, measured), metrics_of(task, measured)
    )

  def step(state: EnvState, action: Array) -> EnvState:
    task = state.task
    action = jnp.clip(action, -1.0, 1.0)
    next_physics, measured = world.step(
      state.physics,
      action,
      num_substeps=_NUM_SUBSTEPS,
      model_fields=fields_of(task),
    )
    metrics = metrics_of(task, measured)
    return dataclasses.replace(
      state,
      physics=next_physics,
      observation=observe(next_physics, measured),
      reward=-metrics['target_distance_m']
      - _TIP_COST * metrics['tip_distance_m']
      - _ACTION_COST * jnp.sum(jnp.square(action)),
      metrics=metrics,
    )

  env = Env(
    spec=EnvSpec(
      name='pusher',
      observation_size=24 if observe_objects else 20,
      action_size=model.nu,
      horizon=horizon,
      control_period_s=_NUM_SUBSTEPS * world.time_step_s,
    ),
    sample_task=_task_sampler(model, held_out=False),
    reset=reset,
    step=step,
    model=model,
    holds_physics=world.needs_options,
    sample_test_task=_task_sampler(model, held_out=True),
  )
  return checked(env)


def sample_starts(key: Array) -> Array:
  """Draws where the two objects start.

  Both are drawn alike, so that the places do not tell which is the target.

  Args:
    key: key of the draw.

  Returns:
    [2, 2] float32, m, the centres in the plane.
  """
  unit_key, side_key = jax.random.split(key)
  unit = jax.random.uniform(unit_key, (_NUM_START_CANDIDATES, 2, 2))
  side = jax.random.rademacher(side_key, (), jnp.float32)
  sides = jnp.stack([side, -side])[None, :]
  starts = jnp.stack(
    [
      -_START_DEPTH_M * unit[..., 0],
      _START_HALF_WIDTH_M * sides * unit[..., 1],
    ],
    axis=-1,
  )
  distances = jnp.linalg.norm(starts, axis=-1)
  gaps = jnp.linalg.norm(starts[:, 0] - starts[:, 1], axis=-1)
  fits = jnp.all(distances > _MIN_START_DISTANCE_M, axis=-1)
  # Four in ten candidates fit; that none does happens once in 10^14 draws.
  return starts[jnp.argmax(fits & (gaps > _MIN_START_GAP_M))]


def _task_sampler(
  model: Any, *, held_out: bool
) -> Callable[[Array], PushingTask]:
  """Returns `(key) -> task`."""
  seeds = TEST_TEXTURE_SEEDS if held_out else TRAIN_TEXTURE_SEEDS
  geoms = object_geoms(model)

  def sample_task(key: Array) -> PushingTask:
    keys = jax.random.split(key, 7)
    indices = sample_pair(keys[0], held_out=held_out)
    scales, masses, damping = (
      jax.random.uniform(k, (2,), minval=low, maxval=high)
      for k, low, high in (
        (keys[1], _MIN_SCALE, _MAX_SCALE),
        (keys[2], _MIN_MASS_KG, _MAX_MASS_KG),
        (keys[3], _MIN_DAMPING, _MAX_DAMPING),
      )
    )
    appearance = plain(model)
    for slot in (0, 1):
      appearance = painted(
        appearance, geoms[slot], keys[4 + slot], seed_range=seeds
      )
    return PushingTask(
      target_slot=jax.random.bernoulli(keys[6]).astype(jnp.int32),
      masses=masses,
      damping=damping,
      model_fields=shape_fields(model, indices, scales),
      appearance=appearance,
    )

  return sample_task


def object_geoms(model: Any) -> np.ndarray:
  """Returns [2, parts] int, the geoms of the pusher's two objects."""
  return np.array(
    [
      [model.geom(f'object_{slot}_part_{i}').id for i in range(NUM_PARTS)]
      for slot in (0, 1)
    ]
  )


def shape_fields(model: Any, indices: Array, scales: Array) -> ModelFields:
  """Returns two objects' shapes as arrays of the pusher's model.

  Args:
    model: the pusher's `mujoco.MjModel`.
    indices: [2] int32, the objects' shapes (`pushed_objects.all_shapes`).
    scales: [2] float32, times 0.24 m: their longest sides.

  Returns:
    `model_fields`.
  """
  geoms = object_geoms(model)
  geometry = geometry_of(indices, scales)
  return {
    'geom_size': _changed(model, 'geom_size', geoms, geometry.sizes),
    'geom_pos': _changed(model, 'geom_pos', geoms, geometry.positions),
    'geom_quat': _changed(model, 'geom_quat', geoms, geometry.quaternions),
  }


def sliding_fields(model: Any, masses: Array, damping: Array) -> ModelFields:
  """Returns what two objects' sliding depends on, as arrays of the model.

  An object on two slides has no inertia but its mass `m`; averaged over three
  directions, its inverse weight is `2 / (3 m)`.

  Args:
    model: the pusher's `mujoco.MjModel`.
    masses: [2] float32, kg.
    damping: [2] float32, N s/m.

  Returns:
    `model_fields`.
  """
  bodies = np.array([model.body(f'object_{slot}').id for slot in (0, 1)])
  dofs = np.array(
    [
      [int(model.joint(f'object_{slot}_{axis}').dofadr[0]) for axis in 'xy']
      for slot in (0, 1)
    ]
  )
  weights = jnp.stack([2 / (3 * masses), jnp.zeros((2,))], axis=-1)
  total = model.body_subtreemass[0] - model.body_mass[bodies].sum()
  both = jnp.broadcast_to(masses[:, None], (2, 2))
  subtrees = _changed(model, 'body_subtreemass', bodies, masses)
  return {
    'body_mass': _changed(model, 'body_mass', bodies, masses),
    'body_subtreemass': subtrees.at[0].set(total + jnp.sum(masses)),
    'body_invweight0': _changed(model, 'body_invweight0', bodies, weights),
    'dof_M0': _changed(model, 'dof_M0', dofs, both),
    'dof_invweight0': _changed(model, 'dof_invweight0', dofs, 1 / both),
    'dof_damping': _changed(
      model,
      'dof_damping',
      dofs,
      jnp.broadcast_to(damping[:, None], (2, 2)),
    ),
  }


def _changed(model: Any, name: str, rows: np.ndarray, values: Array) -> Array:
  """Returns an array of the model with other values in some rows."""
  return jnp.asarray(getattr(model, name), jnp.float32).at[rows].set(values)
