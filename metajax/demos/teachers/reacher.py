"""The reacher's teacher: the tip goes straight to the right target."""

import jax
from jax import Array
import jax.numpy as jnp

from metajax.core.learner import PyTree
from metajax.demos.teachers.joint_torques import velocity_controller
from metajax.demos.teachers.teacher import Teacher
from metajax.envs.engines import make_physics
from metajax.envs.environment import Env, EnvState

_MAX_SPEED_RAD_PER_S = 3.0
_MAX_BEND_RAD = 2.9


def reacher_teacher(
  env: Env, *, noise: float = 0.0, physics: str = 'mjx'
) -> Teacher:
  """Builds a controller that brings the tip over the target.

  The joint angles that put the tip there are known in closed form,

    `b = +-acos((r^2 - l_1^2 - l_2^2) / (2 l_1 l_2))`,
    `a = atan2(y, x) - atan2(l_2 sin b, l_1 + l_2 cos b)`,

  and of the two the nearer ones are taken. Joint velocities are proportional
  to what is left to turn (`metajax.demos.teachers.joint_torques`).

  Args:
    env: `metajax.envs.torque_arms.reacher.reacher`.
    noise: standard deviation of the Gaussian added to every action, >= 0.
    physics: name of the engine that tells where the arm is.

  Returns:
    The teacher; its memory is the wanted joint angles [2], rad.
  """
  model = env.model
  world = make_physics(model, physics)
  first = float(model.body('forearm').pos[0])
  second = float(model.site('tip').pos[0])
  control = velocity_controller(
    model, 'forearm', period_s=env.spec.control_period_s
  )

  def first_memory(state: EnvState, key: Array) -> PyTree:
    del key
    x, y = state.physics.mocap_pos[state.task.target_slot, :2]
    squared = x**2 + y**2 - first**2 - second**2
    cosine = jnp.clip(squared / (2 * first * second), -1.0, 1.0)
    bend = jnp.minimum(jnp.arccos(cosine), _MAX_BEND_RAD)
    bends = jnp.stack([bend, -bend])
    turns = jnp.arctan2(y, x) - jnp.arctan2(
      second * jnp.sin(bends), first + second * jnp.cos(bends)
    )
    # The nearest of the angles that are a full turn apart.
    turns = jnp.mod(turns - state.physics.qpos[0] + jnp.pi, 2 * jnp.pi)
    turns = turns - jnp.pi + state.physics.qpos[0]
    wanted = jnp.stack([turns, bends], axis=-1)
    ways = jnp.max(jnp.abs(wanted - state.physics.qpos[None]), axis=-1)
    return wanted[jnp.argmin(ways)]

  def act(state: EnvState, memory: PyTree, key: Array) -> tuple[Array, PyTree]:
    measured = world.measure(
      state.physics, model_fields=state.task.model_fields
    )
    velocities = jnp.clip(
      4.0 * (memory - state.physics.qpos),
      -_MAX_SPEED_RAD_PER_S,
      _MAX_SPEED_RAD_PER_S,
    )
    action = control(state.physics, measured, velocities, jnp.zeros((2,)))
    return action + noise * jax.random.normal(key, (2,)), memory

  return Teacher(name='reacher', first_memory=first_memory, act=act)
