"""The half-cheetah on uneven ground: the profile is the task."""

from collections.abc import Mapping, Sequence
import dataclasses
import functools

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp

from metajax.core.validation import check_choice, check_count, reject
from metajax.envs.environment import Env, EnvState, checked, first_state
from metajax.envs.locomotion.bodies import (
  LeggedBody,
  forward_reward,
  half_cheetah_body,
  noisy_start,
  running_metrics,
  spec_of,
)
from metajax.envs.locomotion.terrain import (
  PROFILES,
  planes_along,
  profile,
  random_ramps,
)
from metajax.envs.physics import Measurement, PhysicsState

_STANDING_HEIGHT_M = 0.7
_STANCE_REACH_M = 0.7
_PIECE_LENGTH_M = 0.4
_PIECE_HALF_THICKNESS_M = 0.1


@struct.dataclass
class SlopeTask:
  """The ground to run on."""

  # [500] float32, m, on a grid of 0.2 m; the robot starts at column 250.
  heights: Array
  # Arrays of the model by name, of this task alone; {}: the model as it is.
  model_fields: Mapping[str, Array] = dataclasses.field(default_factory=dict)


def half_cheetah_slope(
  horizon: int = 1000,
  test_profiles: Sequence[str] = PROFILES,
  *,
  physics: str = 'mjx',
) -> Env:
  """Builds the half-cheetah on slopes (Finn 2018, section 5.5).

  It is to run forward: with `x` the forward coordinate of the centre of mass
  and `a` the action, clipped to [-1, 1],

    `r = (x_{t+1} - x_t) / 0.01 - 0.05 ||a||^2`

  Training tasks are six random ramps of 2 m, the first two up, of 0.2 to 1 m
  in all; held-out tasks are one of `test_profiles`. The published ground is a
  height field, which costs far more contacts. Here every link has a plane of
  its own, laid before each control step along the profile under that link:
  the chord over the link's length. Where the slope is constant this is exact;
  at an edge the ground is rounded by a link's length.

  Control and physics run at 100 Hz; an episode never ends before its horizon.
  It starts in the standing pose, along the ground, with noise N(0, 0.01^2) on
  positions and N(0, 0.1^2) on velocities. The observation [20] is the
  positions without x (8: m, then rad), the velocities (9), the centre of mass
  (3, m); heights are the world's, and the ground is not told.

  Metrics: `forward_velocity_m_per_s`, `forward_position_m`.

  Args:
    horizon: control steps in an episode.
    test_profiles: names of profiles (`terrain.profile`), equiprobable in
      held-out tasks.
    physics: name of the engine, `mjx` or `c`.

  Returns:
    The environment; its tasks are `SlopeTask`.

  Raises:
    InputError: if an argument is out of its range.
  """
  check_count('horizon', horizon)
  if not test_profiles:
    raise reject('test_profiles', 'at least one name', test_profiles)
  for name in test_profiles:
    check_choice('test_profiles', name, PROFILES)
  body = half_cheetah_body(physics, 'half_cheetah_slope.xml')
  held_out = jnp.stack([profile(name) for name in test_profiles])
  lay_ground = _ground_layer(body)

  def links_of(measured: Measurement) -> Array:
    return measured.geom_xpos[_link_geoms(body), 0]

  def sample_test_task(key: Array) -> SlopeTask:
    return SlopeTask(heights=jax.random.choice(key, held_out))

  def reset(task: SlopeTask, key: Array) -> EnvState:
    state = _along_ground(noisy_start(body, key), task.heights)
    measured = body.world.measure(state, model_fields=task.model_fields)
    links = links_of(measured)
    return first_state(
      task,
      lay_ground(state, task.heights, links),
      body.observe(state, measured),
      metrics=running_metrics(body, measured, task.model_fields),
      memory=links,  # x of the links' middles, m
    )

  def step(state: EnvState, action: Array) -> EnvState:
    task = state.task
    action = jnp.clip(action, -1.0, 1.0)
    next_physics, measured = body.world.step(
      lay_ground(state.physics, task.heights, state.memory),
      action,
      model_fields=task.model_fields,
    )
    observation = body.observe(next_physics, measured)
    return dataclasses.replace(
      state,
      physics=next_physics,
      observation=observation,
      reward=forward_reward(body, state.observation, action, observation),
      metrics=running_metrics(body, measured, task.model_fields),
      memory=links_of(measured),
    )

  env = Env(
    spec=spec_of(body, 'half_cheetah_slope', horizon),
    sample_task=lambda key: SlopeTask(heights=random_ramps(key)),
    sample_test_task=sample_test_task,
    reset=reset,
    step=step,
    model=body.model,
    holds_physics=body.world.needs_options,
    observed_reward=functools.partial(forward_reward, body),
  )
  return checked(env)


def _link_geoms(body: LeggedBody) -> list[int]:
  """Returns the links' geoms, in the order of their pairs and planes."""
  return [int(geom) for geom in body.model.pair_geom1]


def _along_ground(state: PhysicsState, heights: Array) -> PhysicsState:
  """Turns the standing pose about the origin, onto the ground there."""
  place, quaternion = planes_along(
    heights, jnp.zeros((1,)), jnp.full((1,), _STANCE_REACH_M)
  )
  pitch = 2.0 * jnp.arctan2(quaternion[0, 2], quaternion[0, 0])
  rise = jnp.stack(
    [
      _STANDING_HEIGHT_M * jnp.sin(pitch),
      place[0, 2] + _STANDING_HEIGHT_M * (jnp.cos(pitch) - 1.0),
      pitch,
    ]
  )
  return state._replace(qpos=state.qpos.at[:3].add(rise))


def _ground_layer(body: LeggedBody):
  """Returns `(state, heights, links) -> state` with the ground under it.

  `links` are [num_links] x of the links' middles, m.
  """
  model = body.model
  geoms = _link_geoms(body)
  # Half its length and its round end: how far a link that lies reaches.
  reach = jnp.asarray(model.geom_size[geoms, :2].sum(axis=1), jnp.float32)
  plane_bodies = [int(model.geom_bodyid[i]) for i in model.pair_geom2]
  planes = jnp.array([int(model.body_mocapid[i]) for i in plane_bodies])
  pieces = jnp.array(
    [
      int(model.body_mocapid[i])
      for i in range(model.nbody)
      if model.body_mocapid[i] >= 0 and i not in plane_bodies
    ]
  )

  def lay(state: PhysicsState, heights: Array, links: Array) -> PhysicsState:
    plane_places, plane_turns = planes_along(heights, links, reach)
    middles = _piece_middles(state.qpos[0], len(pieces))
    piece_places, piece_turns = planes_along(
      heights, middles, jnp.full_like(middles, 0.5 * _PIECE_LENGTH_M)
    )
    piece_places = piece_places.at[:, 2].add(-_PIECE_HALF_THICKNESS_M)
    return state._replace(
      mocap_pos=state.mocap_pos.at[planes]
      .set(plane_places)
      .at[pieces]
      .set(piece_places),
      mocap_quat=state.mocap_quat.at[planes]
      .set(plane_turns)
      .at[pieces]
      .set(piece_turns),
    )

  return lay


def _piece_middles(x: Array, num_pieces: int) -> Array:
  """Returns [num_pieces] x of the drawn pieces of ground, m.

  They tile the ground around `x`; as it moves on, the hindmost becomes the
  foremost, and the others stay.
  """
  first = jnp.floor(x / _PIECE_LENGTH_M).astype(jnp.int32) - num_pieces // 2
  slots = jnp.arange(num_pieces)
  places = first + (slots - first) % num_pieces
  return (places + 0.5) * _PIECE_LENGTH_M
