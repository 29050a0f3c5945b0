"""The teacher of the arm under forces: computed torques, force known."""

from jax import Array
import jax.numpy as jnp

from metajax.core.learner import PyTree
from metajax.demos.teachers.joint_torques import velocity_controller
from metajax.demos.teachers.teacher import Teacher
from metajax.envs.engines import make_physics
from metajax.envs.environment import Env, EnvState
from metajax.envs.kinematics import (
  chain_to,
  damped_least_squares,
  jacobian,
)
from metajax.envs.torque_arms.arm_forces import SEGMENT_STEPS

_MAX_SPEED_M_PER_S = 0.6
_POSTURE = (0.6, 0.3, 0.0, 0.5, 0.0, 0.0, 0.0)


def arm_forces_teacher(env: Env, *, physics: str = 'mjx') -> Teacher:
  """Builds a controller that brings the box to the goal and holds it there.

  The box's velocity, proportional to its distance from the goal, becomes
  joint velocities by damped least squares and these torques, less `J^T f` of
  the force that the task tells (`metajax.demos.teachers.joint_torques`).

  Args:
    env: `metajax.envs.torque_arms.arm_forces.arm_forces`.
    physics: name of the engine that tells where the arm is.

  Returns:
    The teacher; it remembers nothing.
  """
  model = env.model
  world = make_physics(model, physics)
  chain = chain_to(model, 'hand')
  end = model.site('tip').id
  box_mass = float(model.body('held').mass[0])
  control = velocity_controller(
    model, 'hand', period_s=env.spec.control_period_s, gain=0.4
  )
  posture = jnp.array(_POSTURE)

  def act(state: EnvState, memory: PyTree, key: Array) -> tuple[Array, PyTree]:
    del key
    task = state.task
    measured = world.measure(state.physics, model_fields=task.model_fields)
    place = measured.site_xpos[end]
    rows = jacobian(chain, measured, place)[:3]
    goal = state.physics.mocap_pos[0]
    velocity = 3.0 * (goal - place)
    speed = jnp.linalg.norm(velocity) + 1e-6
    velocity = velocity * jnp.minimum(1.0, _MAX_SPEED_M_PER_S / speed)
    joints = damped_least_squares(rows, velocity)
    rest = 0.5 * (posture - state.physics.qpos)
    rest = rest - damped_least_squares(rows, rows @ rest)
    segment = jnp.minimum(state.memory // SEGMENT_STEPS, len(task.pulls) - 1)
    force = jnp.array([0.0, 0.0, -1.0]) * box_mass * task.pulls[segment]
    action = control(state.physics, measured, joints + rest, rows.T @ force)
    return action, memory

  return Teacher(name='arm_forces', first_memory=lambda state, key: (), act=act)
