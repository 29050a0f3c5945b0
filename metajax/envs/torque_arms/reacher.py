"""Reaching the right one of three coloured targets with a planar arm."""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp

from metajax.core.validation import check_count
from metajax.envs.appearance import Appearance, plain
from metajax.envs.engines import load_model, make_physics
from metajax.envs.environment import (
  Env,
  EnvSpec,
  EnvState,
  checked,
  first_state,
)
from metajax.envs.physics import Measurement, PhysicsState, point_velocity

_NUM_TARGETS = 3
_NUM_SUBSTEPS = 5
_SUCCESS_DISTANCE_M = 0.05
_NUM_LAST_STEPS = 10
_START_ANGLE_NOISE_RAD = 0.1
_START_VELOCITY_NOISE = 0.005
# Places: x = 0.4 u - 0.3, y = 0.4 v - 0.1 m, with (u, v) in the unit square.
_ARENA_SIDE_M, _ARENA_LOW_M = 0.4, (-0.3, -0.1)
_MIN_GAP = 0.15
_TARGET_HEIGHT_M = -0.02
# Hues of targets, in turns; held-out colours lie apart from all others.
_TRAIN_HUES, _TEST_HUES = (0.0, 0.65), (0.7, 0.95)
_MIN_COLOUR_DISTANCE = 0.35
_NUM_CANDIDATES = 64


@struct.dataclass
class ReachingTask:
  """Which of three targets to reach, and what colours they have."""

  target_slot: Array  # [] int32, 0, 1 or 2
  appearance: Appearance  # the targets' colours
  # Arrays of the model by name, of this task alone; {}: the model as it is.
  model_fields: Mapping[str, Array] = dataclasses.field(default_factory=dict)


def reacher(
  horizon: int = 50, *, observe_targets: bool = True, physics: str = 'mjx'
) -> Env:
  """Builds simulated reaching (Finn, Yu et al. 2017, section 5.1).

  A planar arm of two links (0.22 m each) is to bring its tip over one of three
  targets, told from the others by its colour alone. With `q` the tip's
  position, `g` the target's, both in the plane, and `a` the action in [-1, 1]:

    `r = -||q - g|| - 0.1 ||a||^2`

  The step is a success where `||q - g|| < 0.05` m and it is one of the
  episode's last ten; an episode with one such step is a success. It never ends
  before its horizon.

  Control at 20 Hz (five steps of 0.01 s), torques `0.5 a` N m, zero gravity.
  Observation [16]: joint angles (2, rad), joint velocities (2, rad/s), tip (3,
  m), velocity of the tip (3, m/s); then, with `observe_targets`, the targets'
  positions by slot (6, m). It does not tell the slot of the target.

  A task draws the slot and three colours, no two of them alike; held-out tasks
  have violet and pink hues, which training never has. At every reset the arm
  starts stretched out along +x with noise U(-0.1, 0.1) rad and U(-0.005,
  0.005) rad/s, and the three targets lie anew in an area of 0.4 x 0.4 m, at
  least 0.06 m apart (0.15 of the unit square that is mapped to it).

  Args:
    horizon: control steps in an episode.
    observe_targets: whether the observation tells where the targets are; a
      policy that sees pictures does without.
    physics: name of the engine, `mjx` or `c`.

  Returns:
    The environment; its tasks are `ReachingTask`. It tells `success` and
    `target_distance_m`.

  Raises:
    InputError: if an argument is out of its range.
  """
  check_count('horizon', horizon)
  model = load_model('reacher.xml')
  world = make_physics(model, physics)
  tip, hand = model.site('tip').id, model.body('forearm').id
  root = int(model.body_rootid[hand])

  def targets_of(state: PhysicsState) -> Array:
    return state.mocap_pos[:, :2]

  def observe(state: PhysicsState, measured: Measurement) -> Array:
    place = measured.site_xpos[tip]
    parts = [
      state.qpos,
      state.qvel,
      place,
      point_velocity(measured, root, hand, place),
    ]
    if observe_targets:
      parts.append(jnp.ravel(targets_of(state)))
    return jnp.concatenate(parts)

  def metrics_of(
    task: ReachingTask, state: PhysicsState, measured: Measurement, time: Array
  ) -> dict[str, Array]:
    target = targets_of(state)[task.target_slot]
    distance = jnp.linalg.norm(measured.site_xpos[tip, :2] - target)
    is_late = time > horizon - _NUM_LAST_STEPS
    is_there = distance < _SUCCESS_DISTANCE_M
    return {
      'success': (is_late & is_there).astype(jnp.float32),
      'target_distance_m': distance,
    }

  def reset(task: ReachingTask, key: Array) -> EnvState:
    place_key, angle_key, velocity_key = jax.random.split(key, 3)
    angles = _uniform(angle_key, _START_ANGLE_NOISE_RAD)
    velocities = _uniform(velocity_key, _START_VELOCITY_NOISE)
    heights = jnp.full((_NUM_TARGETS, 1), _TARGET_HEIGHT_M)
    state = world.reset(
      angles,
      velocities,
      mocap_pos=jnp.concatenate([sample_places(place_key), heights], axis=1),
    )
    measured = world.measure(state, model_fields=task.model_fields)
    time = jnp.zeros((), jnp.int32)
    return first_state(
      task,
      state,
      observe(state, measured),
      metrics_of(task, state, measured, time),
      memory=time,
    )

  def step(state: EnvState, action: Array) -> EnvState:
    task, time = state.task, state.memory + 1
    action = jnp.clip(action, -1.0, 1.0)
    next_physics, measured = world.step(
      state.physics,
      action,
      num_substeps=_NUM_SUBSTEPS,
      model_fields=task.model_fields,
    )
    metrics = metrics_of(task, next_physics, measured, time)
    cost = 0.1 * jnp.sum(jnp.square(action))
    return dataclasses.replace(
      state,
      physics=next_physics,
      observation=observe(next_physics, measured),
      reward=-metrics['target_distance_m'] - cost,
      metrics=metrics,
      memory=time,
    )

  env = Env(
    spec=EnvSpec(
      name='reacher',
      observation_size=16 if observe_targets else 10,
      action_size=model.nu,
      horizon=horizon,
      control_period_s=_NUM_SUBSTEPS * world.time_step_s,
    ),
    sample_task=_task_sampler(model, _TRAIN_HUES),
    reset=reset,
    step=step,
    model=model,
    holds_physics=world.needs_options,
    sample_test_task=_task_sampler(model, _TEST_HUES),
  )
  return checked(env)


def sample_places(key: Array) -> Array:
  """Draws where the targets lie, all three alike.

  Args:
    key: key of the draw.

  Returns:
    [3, 2] float32, m.
  """
  unit = jax.random.uniform(key, (_NUM_CANDIDATES, _NUM_TARGETS, 2))
  # Eight in ten candidates fit; that none does never happens.
  places = unit[jnp.argmax(_are_apart(unit, _MIN_GAP))]
  return _ARENA_SIDE_M * places + jnp.array([_ARENA_LOW_M])


def sample_colours(key: Array, hues: tuple[float, float]) -> Array:
  """Draws three colours, no two of them alike.

  Args:
    key: key of the draw.
    hues: least and largest hue, in turns of the circle of colours.

  Returns:
    [3, 3] float32, red, green, blue in [0, 1], at least 0.35 apart.
  """
  hue_key, rest_key = jax.random.split(key)
  shape = (_NUM_CANDIDATES, _NUM_TARGETS)
  hue = jax.random.uniform(hue_key, shape, minval=hues[0], maxval=hues[1])
  saturation, value = jax.random.uniform(
    rest_key, (2, *shape), minval=0.4, maxval=1.0
  )
  colours = _rgb_of(hue, saturation, value)
  return colours[jnp.argmax(_are_apart(colours, _MIN_COLOUR_DISTANCE))]


def _task_sampler(
  model: Any, hues: tuple[float, float]
) -> Callable[[Array], ReachingTask]:
  """Returns `(key) -> task`."""
  geoms = jnp.array(
    [model.geom(f'target_{slot}').id for slot in range(_NUM_TARGETS)]
  )

  def sample_task(key: Array) -> ReachingTask:
    slot_key, colour_key = jax.random.split(key)
    looks = plain(model)
    colours = sample_colours(colour_key, hues)
    return ReachingTask(
      target_slot=jax.random.randint(slot_key, (), 0, _NUM_TARGETS),
      appearance=dataclasses.replace(
        looks, geom_rgba=looks.geom_rgba.at[geoms, :3].set(colours)
      ),
    )

  return sample_task


def _are_apart(points: Array, min_distance: float) -> Array:
  """Says of each triple of points whether no two are near: [n] bool."""
  gaps = jnp.stack(
    [
      jnp.linalg.norm(points[:, i] - points[:, j], axis=-1)
      for i, j in ((0, 1), (0, 2), (1, 2))
    ]
  )
  return jnp.all(gaps >= min_distance, axis=0)


def _rgb_of(hue: Array, saturation: Array, value: Array) -> Array:
  """Returns [..., 3] red, green and blue of hues in turns."""
  sectors = jnp.array([5.0, 3.0, 1.0])
  position = jnp.mod(
    jnp.expand_dims(sectors, tuple(range(hue.ndim))) + 6.0 * hue[..., None], 6.0
  )
  ramp = jnp.clip(jnp.minimum(position, 4.0 - position), 0.0, 1.0)
  return value[..., None] * (1.0 - saturation[..., None] * ramp)


def _uniform(key: Array, limit: float) -> Array:
  return jax.random.uniform(key, (2,), minval=-limit, maxval=limit)
