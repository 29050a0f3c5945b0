"""A rope on a table, pushed into the shape that the task asks for."""

from collections.abc import Mapping
import dataclasses
import functools
from typing import Any

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from metajax.core.validation import check_count, reject
from metajax.envs.engines import load_model, make_physics
from metajax.envs.environment import (
  Env,
  EnvSpec,
  EnvState,
  checked,
  first_state,
)
from metajax.envs.physics import Physics, PhysicsState

NUM_PEARLS = 12
MAX_PUSH_M = 0.4  # pushes begin and end within this of the table's middle

_NUM_TRAIN_SHAPES = 240
_NUM_TEST_SHAPES = 10
_MAX_PUSHES = 8
_MOVED_M = 0.1  # what a pearl has to move for a new shape
_SUCCESS_M = 0.1
_APART_M = 0.05  # held-out shapes from those for training
_PUSH_PHASES = 8
_PHASE_SUBSTEPS = 10
_PARKED_M = (-0.5, -0.5)
_TRANSLATION_M = 0.2
_PLACED_WITHIN_M = 0.35
_PEARL_NOISE_M = 0.01


@struct.dataclass
class RopeTask:
  """The shape that the rope is to take."""

  # [12, 2] float32, m, the pearls in order, about their own mean.
  goal_shape: Array
  # Arrays of the model by name, of this task alone; {}: the model as it is.
  model_fields: Mapping[str, Array] = dataclasses.field(default_factory=dict)


def rope(horizon: int = 5, *, physics: str = 'mjx') -> Env:
  """Builds the rope that is pushed into shapes (Xie et al. 2018).

  Twelve pearls lie in a line on a table of 1 x 1 m. One action is one whole
  push [4]: where it begins (x, y) and where it ends (x, y), 1 being 0.4 m from
  the table's middle. The pusher is set down at the one, moves straight to the
  other in 0.8 s, and is taken away to the corner (-0.5, -0.5); 0.1 s later the
  next push begins. With the pearls at `x_j`, those of the goal at `g_j`,

    `d = sqrt(sum_j |(x_j - mean x) - (g_j - mean g)|^2)`,  `r = -d`

  so that where the shape lies does not count; pearls keep their order. Success
  is `d < 0.1` m; the episode goes on. Goals are the shapes that random pushes
  lead to, once a pearl has moved by more than 0.1 m: 240 for training and 10
  held out, `d >= 0.05` m from all of those. Chosen here: these pushes go
  through a pearl, and no goal is a success for the straight rope.

  The observation [52] is the pearls' positions (24, m), their velocities (24,
  m/s), the pusher's position (2, m) and velocity (2, m/s). It does not tell
  the goal. What replaces the gripper and the rope's free bodies is told in
  `rope.xml`; the going up and down of the pusher takes no time.

  Metrics: `success`; `shape_distance_m`, `d`; `mean_distance_m`, the mean of
  the pearls' distances.

  Args:
    horizon: pushes in an episode, at most 8.
    physics: name of the engine, `mjx` or `c`.

  Returns:
    The environment; its tasks are `RopeTask`. The goals are found by C MuJoCo
    whatever the engine, in some seconds, when the first one is built.

  Raises:
    InputError: if an argument is out of its range.
  """
  check_count('horizon', horizon)
  if horizon > _MAX_PUSHES:
    raise reject('horizon', f'at most {_MAX_PUSHES}', horizon)
  model = load_model('rope.xml')
  world = make_physics(model, physics)
  line = _line_of(model)
  shapes = jnp.asarray(goal_shapes())
  train, test = shapes[:_NUM_TRAIN_SHAPES], shapes[_NUM_TRAIN_SHAPES:]

  def observe(state: PhysicsState) -> Array:
    size = 2 * NUM_PEARLS
    return jnp.concatenate(
      [
        jnp.ravel(line) + state.qpos[:size],
        state.qvel[:size],
        state.qpos[size:],
        state.qvel[size:],
      ]
    )

  def measure(task: RopeTask, state: PhysicsState) -> dict[str, Array]:
    pearls = line + state.qpos[: 2 * NUM_PEARLS].reshape(NUM_PEARLS, 2)
    distances = shape_distances(pearls, task.goal_shape)
    # The small number keeps the derivative finite at the goal.
    whole = jnp.sqrt(jnp.sum(jnp.square(distances)) + 1e-12)
    return {
      'success': (whole < _SUCCESS_M).astype(jnp.float32),
      'shape_distance_m': whole,
      'mean_distance_m': jnp.mean(distances),
    }

  def build_task(shapes: Array, key: Array) -> RopeTask:
    return RopeTask(goal_shape=jax.random.choice(key, shapes))

  def reset(task: RopeTask, key: Array) -> EnvState:
    del key
    state = world.reset(_at_rest(jnp.zeros((NUM_PEARLS, 2))))
    return first_state(task, state, observe(state), measure(task, state))

  def step(state: EnvState, action: Array) -> EnvState:
    ends = MAX_PUSH_M * jnp.clip(action, -1.0, 1.0)
    after = _push(
      world, state.physics, ends[:2], ends[2:], state.task.model_fields
    )
    metrics = measure(state.task, after)
    return dataclasses.replace(
      state,
      physics=after,
      observation=observe(after),
      reward=-metrics['shape_distance_m'],
      metrics=metrics,
    )

  env = Env(
    spec=EnvSpec(
      name='rope',
      observation_size=4 * NUM_PEARLS + 4,
      action_size=4,
      horizon=horizon,
      control_period_s=(_PUSH_PHASES + 1) * _PHASE_SUBSTEPS * world.time_step_s,
    ),
    sample_task=lambda key: build_task(train, key),
    sample_test_task=lambda key: build_task(test, key),
    reset=reset,
    step=step,
    model=model,
    holds_physics=world.needs_options,
  )
  return checked(env)


def shape_distances(pearls: Array, goal_shape: Array) -> Array:
  """Returns how far each pearl is from its place in the goal, means aligned.

  Args:
    pearls: [..., n, 2] float32, m.
    goal_shape: [..., n, 2] float32, m.

  Returns:
    [..., n] float32, m.
  """
  offsets = [
    x - jnp.mean(x, axis=-2, keepdims=True) for x in (pearls, goal_shape)
  ]
  # The small number keeps the derivative finite where they coincide.
  return jnp.sqrt(jnp.sum(jnp.square(offsets[0] - offsets[1]), axis=-1) + 1e-12)


def placed_shape(env: Env, shape: Array, key: Array) -> Array:
  """Lays a shape somewhere on the table, each pearl a little off its place.

  Scenes of success and, from other tasks' shapes, of failure are made of
  these: translated by up to 0.2 m along each axis, but not beyond 0.35 m from
  the table's middle, each pearl off by up to 10 mm along each (Xie et al.
  2018).

  Args:
    env: the rope.
    shape: [12, 2] float32, m, a task's `goal_shape`.
    key: key of the place.

  Returns:
    [26] float32, m, the positions of the model's joints, the pusher away.
  """
  place_key, noise_key = jax.random.split(key)
  shape = shape - jnp.mean(shape, axis=0)[None]
  low = -_PLACED_WITHIN_M - jnp.min(shape, axis=0)
  high = _PLACED_WITHIN_M - jnp.max(shape, axis=0)
  middle = jax.random.uniform(
    place_key, (2,), minval=-_TRANSLATION_M, maxval=_TRANSLATION_M
  )
  noise = jax.random.uniform(
    noise_key, shape.shape, minval=-_PEARL_NOISE_M, maxval=_PEARL_NOISE_M
  )
  pearls = shape + jnp.clip(middle, low, high)[None] + noise
  return _at_rest(pearls - _line_of(env.model))


@functools.cache
def goal_shapes() -> np.ndarray:
  """Finds the shapes of all tasks by random pushes, 240 and then 10.

  Returns:
    [250, 12, 2] float32, m, each about its own mean.
  """
  model = load_model('rope.xml')
  world = make_physics(model, 'c')
  line = np.asarray(_line_of(model))
  push = jax.jit(jax.vmap(functools.partial(_push, world, model_fields={})))
  train_and_test = []
  for seed, count in enumerate((_NUM_TRAIN_SHAPES, _NUM_TEST_SHAPES)):
    generator = np.random.default_rng(seed)
    state = world.reset(_at_rest(jnp.zeros((NUM_PEARLS, 2))))
    state = jax.tree.map(
      lambda x: jnp.broadcast_to(x, (count, *x.shape)),  # noqa: B023
      state,
    )
    found = np.zeros((count, NUM_PEARLS, 2))
    is_found = np.zeros(count, bool)
    while not is_found.all():
      moves = np.asarray(state.qpos)[:, :-2].reshape(found.shape)
      starts, ends = _random_pushes(generator, line[None] + moves)
      state = push(state, starts, ends)
      moves = np.asarray(state.qpos)[:, :-2].reshape(found.shape)
      has_moved = np.linalg.norm(moves, axis=-1).max(axis=-1) > _MOVED_M
      shapes = line[None] + moves
      new = has_moved & ~is_found & (_distances(shapes, line) > _SUCCESS_M)
      for others in train_and_test:
        nearest = np.min([_distances(shapes, x) for x in others], axis=0)
        new &= nearest > _APART_M
      found[new] = shapes[new]
      is_found |= new
    train_and_test.append(found - found.mean(axis=1, keepdims=True))
  return np.concatenate(train_and_test).astype(np.float32)


def _distances(shapes: np.ndarray, goal: np.ndarray) -> np.ndarray:
  """Returns `d` [n], m, of each of many shapes [n, 12, 2] from one."""
  offsets = shapes - shapes.mean(axis=1, keepdims=True)
  offsets -= (goal - goal.mean(axis=0))[None]
  return np.sqrt(np.sum(np.square(offsets), axis=(1, 2)))


def _random_pushes(
  generator: np.random.Generator, pearls: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Draws one push per world, through one of its pearls.

  Args:
    generator: of the random numbers.
    pearls: [worlds, 12, 2] m.

  Returns:
    (starts, ends), each [worlds, 2] float32, m.
  """
  count = len(pearls)
  starts = generator.normal(0.0, 0.25, (count, 2))
  through = pearls[np.arange(count), generator.integers(NUM_PEARLS, size=count)]
  stretch = generator.uniform(1.0, 2.0, (count, 1))
  ends = starts + stretch * (through - starts)
  starts, ends = (
    np.clip(x, -MAX_PUSH_M, MAX_PUSH_M).astype(np.float32)
    for x in (starts, ends)
  )
  return starts, ends


def _line_of(model: Any) -> Array:
  """Returns [12, 2], m, where the pearls lie at first."""
  rows = [model.body(f'pearl_{i}').id for i in range(NUM_PEARLS)]
  return jnp.asarray(model.body_pos[rows, :2], jnp.float32)


def _at_rest(moves: Array) -> Array:
  """Returns the joints' positions [26] for pearls moved by [12, 2], m."""
  return jnp.concatenate([jnp.ravel(moves), jnp.asarray(_PARKED_M)])


def _push(
  world: Physics,
  state: PhysicsState,
  start: Array,
  end: Array,
  model_fields: Mapping[str, Array],
) -> PhysicsState:
  """Carries one push out, and lets the rope come to rest.

  Args:
    world: the physics.
    state: before.
    start: [2] float32, m, where the pusher is set down.
    end: [2] float32, m, where it is taken away.
    model_fields: the task's own arrays of the model.

  Returns:
    The state after it.
  """
  duration = _PUSH_PHASES * _PHASE_SUBSTEPS * world.time_step_s
  velocity = (end - start) / duration

  def set_down(state, position, velocity):
    return state._replace(
      qpos=state.qpos.at[-2:].set(position),
      qvel=state.qvel.at[-2:].set(velocity),
    )

  # One program for all phases; in the last one the pusher is away.
  def phase(state: PhysicsState, index: Array):
    is_away = index == _PUSH_PHASES
    away = set_down(state, jnp.asarray(_PARKED_M), jnp.zeros((2,)))
    state = jax.tree.map(lambda a, b: jnp.where(is_away, a, b), away, state)
    control = jnp.where(is_away, jnp.zeros((2,)), velocity)
    state, _ = world.step(
      state,
      control,
      num_substeps=_PHASE_SUBSTEPS,
      model_fields=model_fields,
    )
    return state, None

  state = set_down(state, start, velocity)
  return jax.lax.scan(phase, state, jnp.arange(_PUSH_PHASES + 1))[0]
