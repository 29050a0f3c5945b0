"""Half-cheetah and ant: bodies that run, whatever the ground and the task."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from jax import Array
import jax.numpy as jnp

from metajax.envs.engines import load_model, make_physics
from metajax.envs.environment import EnvSpec
from metajax.envs.physics import (
  Measurement,
  ModelFields,
  Physics,
  PhysicsState,
  field_of,
  tree_velocity,
)

_POSITION_NOISE = 0.01  # m, rad
_VELOCITY_NOISE = 0.1  # m/s, rad/s

# Four legs of (hip, ankle), rad: the ankles' signs follow their axes.
_ANT_HEIGHT_M = 0.55
_ANT_LEGS_RAD = (0.0, 1.0, 0.0, -1.0, 0.0, -1.0, 0.0, 1.0)
_ANT_HEIGHTS_M = (0.2, 1.0)


class LeggedBody(NamedTuple):
  """A body that runs, in its scene; pure functions of ONE world.

  The body is the first tree of the scene, so that its joints come first.

  Attributes:
    name: what the robot is called.
    world: the physics.
    initial_qpos: [nq] float32, how an episode begins, but for its noise.
    num_positions: how many of `qpos` are the body's own.
    num_velocities: how many of `qvel` are the body's own.
    observe: `(state, measurement) -> [observation_size]` float32. The last
      three are the body's centre of mass, m.
    observation_size: length of the observation.
    invariant: indices of observations that tell how far it has come.
    has_fallen: `(measurement) -> []` bool.
    num_substeps: time steps in a control step.
    control_cost: reward that a unit of squared action costs.
    survival_bonus: reward of every control step.
  """

  name: str
  world: Physics
  initial_qpos: Array
  num_positions: int
  num_velocities: int
  observe: Callable[[PhysicsState, Measurement], Array]
  observation_size: int
  invariant: tuple[int, ...]
  has_fallen: Callable[[Measurement], Array]
  num_substeps: int
  control_cost: float
  survival_bonus: float

  @property
  def model(self) -> Any:
    """The host's `mujoco.MjModel`."""
    return self.world.model

  @property
  def control_period_s(self) -> float:
    """Simulated seconds of a control step."""
    return self.num_substeps * self.world.time_step_s


def half_cheetah_body(
  physics: str = 'mjx', scene: str = 'half_cheetah.xml'
) -> LeggedBody:
  """Puts the half-cheetah (Duan et al. 2016) on a physics engine.

  The observation [20] is the positions without x (8: m, then rad), the
  velocities (9), the centre of mass (3, m). It never falls for good.

  Args:
    physics: name of the engine, `mjx` or `c`.
    scene: one of the package's models; its first tree is the half-cheetah.

  Returns:
    The body.
  """
  world = make_physics(load_model(scene), physics)

  def observe(state: PhysicsState, measured: Measurement) -> Array:
    return jnp.concatenate(
      [state.qpos[1:9], state.qvel[:9], measured.subtree_com[1]]
    )

  return LeggedBody(
    name='half_cheetah',
    world=world,
    initial_qpos=jnp.asarray(world.model.qpos0, jnp.float32),
    num_positions=9,
    num_velocities=9,
    observe=observe,
    observation_size=20,
    invariant=(17,),
    has_fallen=lambda measured: jnp.zeros((), bool),
    num_substeps=1,
    control_cost=0.05,
    survival_bonus=0.0,
  )


def ant_body(physics: str = 'mjx') -> LeggedBody:
  """Puts the ant (Duan et al. 2016) on a physics engine.

  The observation [41] is the positions (15: torso x, y, z in m, its
  quaternion, eight joints in rad), the velocities (14), the torso's rotation
  matrix (9, row by row), the centre of mass (3, m). The published
  observation's 84 contact forces are left out: engines do not agree on them.

  It has fallen when its torso's height leaves [0.2, 1.0] m.

  Args:
    physics: name of the engine, `mjx` or `c`.

  Returns:
    The body.
  """
  model = load_model('ant.xml')
  world = make_physics(model, physics)
  torso, ball = int(model.body('torso').id), int(model.geom('torso').id)
  lowest, highest = _ANT_HEIGHTS_M

  def observe(state: PhysicsState, measured: Measurement) -> Array:
    return jnp.concatenate(
      [
        state.qpos,
        state.qvel,
        jnp.ravel(measured.geom_xmat[ball]),
        measured.subtree_com[torso],
      ]
    )

  def has_fallen(measured: Measurement) -> Array:
    height = measured.xpos[torso, 2]
    return (height < lowest) | (height > highest)

  initial_qpos = jnp.asarray(model.qpos0, jnp.float32)
  initial_qpos = initial_qpos.at[2].set(_ANT_HEIGHT_M)
  initial_qpos = initial_qpos.at[7:].set(jnp.array(_ANT_LEGS_RAD))
  return LeggedBody(
    name='ant',
    world=world,
    initial_qpos=initial_qpos,
    num_positions=15,
    num_velocities=14,
    observe=observe,
    observation_size=41,
    invariant=(0, 1, 38, 39),
    has_fallen=has_fallen,
    num_substeps=2,
    control_cost=0.005,
    survival_bonus=0.05,
  )


def spec_of(body: LeggedBody, name: str, horizon: int) -> EnvSpec:
  """Returns the sizes and times of an environment around a body."""
  return EnvSpec(
    name=name,
    observation_size=body.observation_size,
    action_size=body.model.nu,
    horizon=horizon,
    control_period_s=body.control_period_s,
    invariant=body.invariant,
  )


def noisy_start(body: LeggedBody, key: Array) -> PhysicsState:
  """Returns the standing pose with noise on positions and velocities.

  `qpos += N(0, 0.01^2)`, `qvel = N(0, 0.1^2)`, of the body only.
  """
  position_key, velocity_key = jax.random.split(key)
  model = body.model
  positions = jax.random.normal(position_key, (body.num_positions,))
  velocities = jax.random.normal(velocity_key, (body.num_velocities,))
  return body.world.reset(
    body.initial_qpos.at[: body.num_positions].add(_POSITION_NOISE * positions),
    jnp.zeros((model.nv,))
    .at[: body.num_velocities]
    .set(_VELOCITY_NOISE * velocities),
  )


def mass_velocity(
  body: LeggedBody,
  measured: Measurement,
  model_fields: ModelFields | None = None,
) -> Array:
  """Returns the velocity of the body's centre of mass.

  It follows from the velocities of its links, not from differences of
  positions.

  Args:
    body: the body.
    measured: what the engine measured.
    model_fields: the task's own arrays of the model.

  Returns:
    [3] float32, m/s.
  """
  is_own = jnp.asarray(body.model.body_rootid == 1, jnp.float32)
  masses = field_of(body.world, 'body_mass', model_fields)
  return tree_velocity(measured, masses * is_own)


def effort_reward(body: LeggedBody, action: Array) -> Array:
  """Returns what an action costs, and the bonus of being alive.

  `r = bonus - cost ||a||^2`, `a` in [-1, 1].

  Args:
    body: the body.
    action: [action_size] float32, clipped.

  Returns:
    [] float32.
  """
  return body.survival_bonus - body.control_cost * jnp.sum(jnp.square(action))


def forward_reward(
  body: LeggedBody, obs_tm1: Array, action: Array, obs_t: Array
) -> Array:
  """Returns the reward of running forward (Finn 2018, table 15).

  `r = (x_t - x_tm1) / dt - cost ||a||^2 + bonus`, with `x` the forward
  coordinate of the centre of mass: half-cheetah `dt = 0.01 s`, cost 0.05, no
  bonus; ant `dt = 0.02 s`, cost 0.005, bonus 0.05. It reads nothing but
  observations, so that a planner can tell it of predicted ones.

  Args:
    body: the body.
    obs_tm1: [observation_size] float32, before the step.
    action: [action_size] float32; what it costs is clipped to [-1, 1].
    obs_t: [observation_size] float32, after it.

  Returns:
    [] float32.
  """
  velocity = (obs_t[-3] - obs_tm1[-3]) / body.control_period_s
  return velocity + effort_reward(body, jnp.clip(action, -1.0, 1.0))


def running_metrics(
  body: LeggedBody,
  measured: Measurement,
  model_fields: ModelFields | None = None,
) -> Mapping[str, Array]:
  """Returns how fast and how far forward the centre of mass is.

  Args:
    body: the body.
    measured: what the engine measured.
    model_fields: the task's own arrays of the model.

  Returns:
    `forward_velocity_m_per_s` and `forward_position_m`, [] float32.
  """
  velocity = mass_velocity(body, measured, model_fields)[0]
  return {
    'forward_velocity_m_per_s': velocity,
    'forward_position_m': measured.subtree_com[1, 0],
  }
