"""What follows from a task's own masses, as MuJoCo's compiler derives it."""

from collections.abc import Callable
from typing import Any

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from metajax.envs.linear_systems import solve_positive_definite
from metajax.envs.physics import ModelFields, any_rank
from metajax.envs.physics_mjx import import_mjx

_FREE, _BALL = 0, 1  # mjtJoint


def mass_properties(model: Any) -> Callable[[Array, Array], ModelFields]:
  """Returns the function that turns masses into arrays of the model.

  Contacts and joint limits are softened by inverse weights that the compiler
  derives from the masses; a task that changes `body_mass` alone keeps the old
  ones. With `M` the inertia at `qpos0` and `J` a body's Jacobian at its centre
  of mass, `A = J M^{-1} J^T`: a body's inverse weights are the mean diagonals
  of the translational and the rotational block of `A`, a degree of freedom's
  the diagonal of `M^{-1}`, averaged over the parts of a ball or a free joint.

  Args:
    model: a `mujoco.MjModel`.

  Returns:
    `(body_mass [nbody] kg, body_inertia [nbody, 3] kg m^2) -> model_fields`,
    which holds both and all that follows from them, for `Physics.step`. Call
    it where tasks are sampled, once a task.
  """
  mjx = import_mjx()
  device_model = mjx.put_model(model, impl='jax')
  blank = mjx.make_data(model, impl='jax')
  moves = np.flatnonzero(model.body_weldid != 0)
  averaging = jnp.asarray(_averaging_over_joints(model))
  in_subtree = jnp.asarray(_subtrees(model))

  @jax.jit
  @any_rank
  def derive(body_mass: Array, body_inertia: Array) -> ModelFields:
    own = device_model.replace(body_mass=body_mass, body_inertia=body_inertia)
    subtree_mass = in_subtree @ body_mass
    own = own.replace(body_subtreemass=subtree_mass)
    data = blank.replace(qpos=jnp.asarray(model.qpos0, jnp.float32))
    data = mjx.com_pos(own, mjx.kinematics(own, data))
    inertia = mjx.full_m(own, mjx.crb(own, data))
    inverse = jax.vmap(solve_positive_definite, in_axes=(None, 0))(
      inertia, jnp.eye(model.nv)
    )
    weights = jnp.zeros((model.nbody, 2))
    for body in moves:
      linear, angular = mjx.jac(own, data, data.xipos[body], body)
      weights = weights.at[body].set(
        jnp.stack(
          [
            jnp.einsum('ik,ij,jk->', j, inverse, j) / 3
            for j in (linear, angular)
          ]
        )
      )
    return {
      'body_mass': body_mass,
      'body_inertia': body_inertia,
      'body_subtreemass': subtree_mass,
      'body_invweight0': weights,
      'dof_M0': jnp.diagonal(inertia),
      'dof_invweight0': averaging @ jnp.diagonal(inverse),
    }

  return derive


def _averaging_over_joints(model: Any) -> np.ndarray:
  """Returns [nv, nv], which averages over each joint's three alike parts."""
  matrix = np.eye(model.nv, dtype=np.float32)
  for joint in range(model.njnt):
    start, kind = int(model.jnt_dofadr[joint]), int(model.jnt_type[joint])
    blocks = {_FREE: (start, start + 3), _BALL: (start,)}.get(kind, ())
    for first in blocks:
      matrix[first : first + 3, first : first + 3] = 1 / 3
  return matrix


def _subtrees(model: Any) -> np.ndarray:
  """Returns [nbody, nbody], 1 where the column's body hangs from the row's."""
  matrix = np.eye(model.nbody, dtype=np.float32)
  for body in range(model.nbody - 1, 0, -1):
    matrix[int(model.body_parentid[body])] += matrix[body]
  return matrix
