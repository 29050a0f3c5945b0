"""Kinova Jaco over a table with two blocks: reach, lift, stack."""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp

from metajax.core.validation import check_choice, check_count
from metajax.envs.appearance import Appearance, painted, plain
from metajax.envs.engines import load_model, make_physics
from metajax.envs.environment import (
  Env,
  EnvSpec,
  EnvState,
  checked,
  first_state,
)
from metajax.envs.jaco.starts import draw_arm, draw_blocks, hand_grid
from metajax.envs.mass_properties import mass_properties
from metajax.envs.physics import (
  Measurement,
  ModelFields,
  PhysicsState,
  field_of,
  point_velocity,
)

STAGES = ('reach', 'lift', 'stack')
BLOCKS = ('block_0', 'block_1')
# What a step pays in each stage that the asked one comes after; that one
# itself pays 1.
_REWARDS_BEFORE = (0.0, 0.125, 0.25)

_NUM_SUBSTEPS = 10
_NUM_JOINTS = 9

_REACH_M = 0.06
_LIFT_M = 0.04
_STACK_OFFSET_M = 0.02
_STACK_GAP_M = 0.01
_STACK_SPEED_M_PER_S = 0.05

_HALF_SIZE_RANGE_M = (0.02, 0.03)
_DENSITY_SCALE_RANGE = (0.5, 2.0)
_FRICTION_SCALE_RANGE = (0.7, 1.3)
_TEXTURE_SEEDS = (1, 1_000_000)
# Red is lifted, blue lies below, whatever else a task's paint is mixed in.
_ROLE_COLOURS = ((0.9, 0.15, 0.1), (0.1, 0.3, 0.9))
_PAINT_SHARE = 0.3


@struct.dataclass
class JacoTask:
  """Which block is to be handled, and what the two are like."""

  target: Array  # [] int32, the block to reach for, to lift, to stack: 0 or 1
  appearance: Appearance
  # Arrays of the model by name, of this task alone; {}: the model as it is.
  model_fields: Mapping[str, Array] = dataclasses.field(default_factory=dict)


def jaco(
  stage: str = 'stack',
  *,
  observation: str = 'state',
  blocks: str = 'equal',
  horizon: int = 600,
  physics: str = 'mjx',
) -> Env:
  """Builds a Kinova Jaco that is to stack two blocks (Le Paine et al. 2018).

  Six arm joints and three fingers take velocities at 20 Hz; `[-1, 1]` is what
  the maker's firmware allows (36 deg/s, 48 deg/s for the wrist; 1 rad/s for
  the fingers). The reward is sparse and constant within each stage that the
  arm is in, paid at every step:

    reach: the hand is within 0.06 m of the target block
    lift:  reach, and the target's lowest corner is over 0.04 m above the table
    stack: the target's centre is within 0.02 m of the other's horizontally,
           within 0.01 m of resting on it vertically, slower than 0.05 m/s

    stack: `r = (0, 0.125, 0.25, 1)[none, reach, lift, stack]`
    lift:  `r = (0, 0.125, 1)[none, reach, lift]`
    reach: `r = (0, 1)[none, reach]`

  A stack counts whether or not the hand holds it. `success` is the last stage.
  An episode never ends before its horizon of 30 s. It begins with the blocks
  anywhere in a patch of 0.3 x 0.3 m, 0.09 m apart or more, turned anyhow; the
  hand points down, anywhere in a box above the table.

  The observation is, in rad, rad/s, m and m/s: positions (9) and velocities
  (9) of the joints, the hand's position (3) and velocity (3); with `state`,
  then position, quaternion, velocity and angular velocity of the target block
  (3, 4, 3, 3) and of the other one (13): 50. With `body` nothing tells where
  the blocks are, as in the paper, whose policy sees a picture instead: 24.

  The paper gives neither the stages' numbers (those of the rewards are after
  Zhu et al. 2018), nor horizon, sizes and places of the blocks: they are ours.

  Args:
    stage: `reach`, `lift` or `stack`, the last stage that is asked for.
    observation: `state`, or `body` without the blocks.
    blocks: `equal`, two cubes of 5 cm and 0.1 kg; or `varied`: each task has
      cubes of 4 to 6 cm, half to twice as dense, and friction from 0.7 to 1.3
      of what it is else.
    horizon: control steps in an episode.
    physics: name of the engine, `mjx` or `c`.

  Returns:
    The environment; its tasks are `JacoTask`. Its metrics are `stage` (0 to
    3), `success`, `hand_distance_m` (hand to target), `height_m` (the target's
    lowest corner), `stack_offset_m` (horizontal, between the centres) and
    `stack_gap_m` (vertical, from where the target would rest on the other).

  Raises:
    InputError: if an argument is out of its range.
  """
  check_choice('stage', stage, STAGES)
  check_choice('observation', observation, ('state', 'body'))
  check_choice('blocks', blocks, ('equal', 'varied'))
  check_count('horizon', horizon)
  model = load_model('jaco_stack.xml')
  world = make_physics(model, physics)
  grid = hand_grid(model)
  vary = _varied_blocks(model) if blocks == 'varied' else None
  last = STAGES.index(stage) + 1
  rewards = jnp.asarray([*_REWARDS_BEFORE[:last], 1.0])
  speeds = jnp.asarray(model.actuator_ctrlrange[:, 1], jnp.float32)
  block_geoms = jnp.asarray([model.geom(name).id for name in BLOCKS])

  def sizes_of(task: JacoTask) -> Array:
    """Returns [2] float32, m, half the edges of the two blocks."""
    return field_of(world, 'geom_size', task.model_fields)[block_geoms, 2]

  def sample_task(key: Array) -> JacoTask:
    target_key, paint_key, blocks_key = jax.random.split(key, 3)
    target = jax.random.bernoulli(target_key).astype(jnp.int32)
    return JacoTask(
      target=target,
      appearance=_paint(model, target, paint_key),
      model_fields=vary(blocks_key) if vary else {},
    )

  def told(
    task: JacoTask, state: PhysicsState, measured: Measurement
  ) -> tuple[Array, dict[str, Array]]:
    hand, hand_velocity = _hand(model, measured)
    pair = _target_first(model, task.target, state)
    metrics = _progress(
      hand, pair, _in_order(task.target, sizes_of(task)), last
    )
    body = [
      state.qpos[:_NUM_JOINTS],
      state.qvel[:_NUM_JOINTS],
      hand,
      hand_velocity,
    ]
    seen = [jnp.ravel(pair)] if observation == 'state' else []
    return jnp.concatenate([*body, *seen]), metrics

  def reset(task: JacoTask, key: Array) -> EnvState:
    hand_key, blocks_key = jax.random.split(key)
    qpos = jnp.concatenate(
      [
        draw_arm(grid, hand_key),
        draw_blocks(sizes_of(task), blocks_key),
      ]
    )
    state = world.reset(qpos)
    measured = world.measure(state, model_fields=task.model_fields)
    seen, metrics = told(task, state, measured)
    return first_state(task, state, seen, metrics)

  def step(state: EnvState, action: Array) -> EnvState:
    next_physics, measured = world.step(
      state.physics,
      jnp.clip(action, -1.0, 1.0) * speeds,
      num_substeps=_NUM_SUBSTEPS,
      model_fields=state.task.model_fields,
    )
    seen, metrics = told(state.task, next_physics, measured)
    return dataclasses.replace(
      state,
      physics=next_physics,
      observation=seen,
      reward=rewards[metrics['stage'].astype(jnp.int32)],
      metrics=metrics,
    )

  env = Env(
    spec=EnvSpec(
      name=f'jaco_{stage}',
      observation_size=2 * _NUM_JOINTS + 6 + 26 * (observation == 'state'),
      action_size=model.nu,
      horizon=horizon,
      control_period_s=_NUM_SUBSTEPS * world.time_step_s,
    ),
    sample_task=sample_task,
    reset=reset,
    step=step,
    model=model,
    holds_physics=world.needs_options,
  )
  return checked(env)


def _hand(model: Any, measured: Measurement) -> tuple[Array, Array]:
  """Returns the hand's position [3], m, and velocity [3], m/s.

  The hand is where it closes: between the finger tips.
  """
  position = measured.site_xpos[model.site('jaco_grasp').id]
  hand = model.body('jaco_hand').id
  root = int(model.body_rootid[hand])
  return position, point_velocity(measured, root, hand, position)


def _in_order(target: Array, pair: Array) -> Array:
  """Returns the target block's row first, then the other's."""
  return jnp.where(target == 0, pair, pair[::-1])


def _target_first(model: Any, target: Array, state: PhysicsState) -> Array:
  """Returns [2, 13]: position, quaternion, velocity, angular velocity."""
  rows = []
  for name in BLOCKS:
    joint = model.joint(name)
    qpos = int(joint.qposadr[0])
    dof = int(joint.dofadr[0])
    rows.append(
      jnp.concatenate([state.qpos[qpos : qpos + 7], state.qvel[dof : dof + 6]])
    )
  return _in_order(target, jnp.stack(rows))


def _progress(
  hand: Array, pair: Array, half_sizes: Array, last: int
) -> dict[str, Array]:
  """Measures how far the work is; `stage` counts up to the `last` asked for."""
  target, other = pair
  distance = jnp.linalg.norm(hand - target[:3])
  height = target[2] - half_sizes[0] * _vertical_extent(target[3:7])
  offset = jnp.linalg.norm(target[:2] - other[:2])
  gap = target[2] - other[2] - jnp.sum(half_sizes)
  speed = jnp.linalg.norm(target[7:10])

  reaches = distance < _REACH_M
  holds = jnp.stack(
    [
      reaches,
      reaches & (height > _LIFT_M),
      (offset < _STACK_OFFSET_M)
      & (jnp.abs(gap) < _STACK_GAP_M)
      & (speed < _STACK_SPEED_M_PER_S),
    ]
  )[:last]
  numbers = jnp.arange(1, last + 1, dtype=jnp.float32)
  stage = jnp.max(jnp.where(holds, numbers, 0.0))
  return {
    'stage': stage,
    'success': (stage == last).astype(jnp.float32),
    'hand_distance_m': distance,
    'height_m': height,
    'stack_offset_m': offset,
    'stack_gap_m': gap,
  }


def _vertical_extent(quaternion: Array) -> Array:
  """Returns how far a turned unit cube (half edge 1) reaches up and down.

  `sum_i |R_zi|`, the third row of the rotation matrix.
  """
  w, x, y, z = quaternion
  row = [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x**2 + y**2)]
  return jnp.sum(jnp.abs(jnp.stack(row)))


def _paint(model: Any, target: Array, key: Array) -> Appearance:
  """Paints the blocks: reddish the target, bluish the other."""
  appearance = plain(model)
  order = _in_order(target, jnp.asarray(_ROLE_COLOURS))
  keys = jax.random.split(key, len(BLOCKS))
  for i, name in enumerate(BLOCKS):
    geoms = jnp.asarray([model.geom(name).id])
    appearance = painted(appearance, geoms, keys[i], seed_range=_TEXTURE_SEEDS)
    paint = appearance.geom_rgba[geoms, :3]
    mixed = (1 - _PAINT_SHARE) * order[i][None] + _PAINT_SHARE * paint
    appearance = dataclasses.replace(
      appearance, geom_rgba=appearance.geom_rgba.at[geoms, :3].set(mixed)
    )
  return appearance


def _varied_blocks(model: Any) -> Callable[[Array], ModelFields]:
  """Returns what draws the blocks' sizes, masses and friction."""
  geoms = jnp.asarray([model.geom(name).id for name in BLOCKS])
  bodies = jnp.asarray([model.body(name).id for name in BLOCKS])
  pairs = jnp.asarray(
    [
      i
      for i in range(model.npair)
      if {int(model.pair_geom1[i]), int(model.pair_geom2[i])}
      & {model.geom(name).id for name in BLOCKS}
    ]
  )
  derive = mass_properties(model)
  fields = {
    name: jnp.asarray(getattr(model, name), jnp.float32)
    for name in (
      'geom_size',
      'geom_rbound',
      'body_mass',
      'body_inertia',
      'pair_friction',
    )
  }

  def draw(key: Array) -> ModelFields:
    size_key, density_key, friction_key = jax.random.split(key, 3)
    low, high = _HALF_SIZE_RANGE_M
    half = jax.random.uniform(size_key, (2,), minval=low, maxval=high)
    low, high = _DENSITY_SCALE_RANGE
    density = jax.random.uniform(density_key, (2,), minval=low, maxval=high)
    low, high = _FRICTION_SCALE_RANGE
    friction = jax.random.uniform(friction_key, (), minval=low, maxval=high)

    volume = jnp.power(half / fields['geom_size'][geoms, 0], 3)
    mass = fields['body_mass'][bodies] * volume * density
    inertia = jnp.repeat((2 / 3 * mass * jnp.square(half))[:, None], 3, axis=1)
    # Sliding friction only: the others do not act between points.
    sliding = fields['pair_friction'][pairs, :2] * friction
    return {
      **derive(
        fields['body_mass'].at[bodies].set(mass),
        fields['body_inertia'].at[bodies].set(inertia),
      ),
      'geom_size': fields['geom_size']
      .at[geoms]
      .set(jnp.repeat(half[:, None], 3, axis=1)),
      'geom_rbound': fields['geom_rbound'].at[geoms].set(jnp.sqrt(3.0) * half),
      'pair_friction': fields['pair_friction'].at[pairs, :2].set(sliding),
    }

  return draw
