"""Articulated bodies: what every physics engine offers to environments."""

from collections.abc import Callable, Mapping
import copy
import functools
from typing import Any, NamedTuple

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from metajax.core.validation import InputError, check_count, reject


class PhysicsState(NamedTuple):
  """All that a moment of the simulation hands on to the next.

  Everything else that an engine knows follows from it. The whole `mjx.Data`
  is a hundred times larger, and slower to carry through a scan.

  Attributes:
    qpos: [nq] float32, joint positions, m and rad (quaternions w, x, y, z).
    qvel: [nv] float32, joint velocities, m/s and rad/s.
    act: [na] float32, activations of actuators that have one.
    qacc_warmstart: [nv] float32, the contact solver's first guess.
    mocap_pos: [nmocap, 3] float32, m, bodies that are placed, not simulated.
    mocap_quat: [nmocap, 4] float32.
  """

  qpos: Array
  qvel: Array
  act: Array
  qacc_warmstart: Array
  mocap_pos: Array
  mocap_quat: Array


class Measurement(NamedTuple):
  """Where everything is, and how fast: it follows from a `PhysicsState`.

  It is of this very moment; an engine's own derived fields lag one time step
  behind after a step.

  Attributes:
    xpos: [nbody, 3] float32, m, origins of the bodies in the world.
    xquat: [nbody, 4] float32, their orientations.
    xipos: [nbody, 3] float32, m, their centres of mass.
    geom_xpos: [ngeom, 3] float32, m.
    geom_xmat: [ngeom, 3, 3] float32.
    site_xpos: [nsite, 3] float32, m.
    site_xmat: [nsite, 3, 3] float32.
    subtree_com: [nbody, 3] float32, m, centre of mass of each subtree.
    cvel: [nbody, 6] float32, angular (rad/s) then linear (m/s) velocity of
      each body, at the centre of mass of its tree (`point_velocity`).
  """

  xpos: Array
  xquat: Array
  xipos: Array
  geom_xpos: Array
  geom_xmat: Array
  site_xpos: Array
  site_xmat: Array
  subtree_com: Array
  cvel: Array


# A task's own physics: {name of an array of the model: its value}.
ModelFields = Mapping[str, Array]


class Physics(NamedTuple):
  """One physics engine around one model: pure functions of ONE world.

  `model_fields` replaces arrays of the model by their names
  (`{'actuator_gear': ..., 'pair_friction': ...}`), traced or not: this is how
  a task has physics of its own. Contacts here are explicit pairs, so friction
  is `pair_friction`; what follows from masses `mass_properties` computes.

  Attributes:
    engine: name of the engine.
    model: the host's `mujoco.MjModel`.
    reset: `(qpos, qvel=0, *, mocap_pos=None, mocap_quat=None) ->
      PhysicsState`, at rest in all else; bodies that are placed stand where
      the model has them.
    step: `(state, ctrl, *, num_substeps=1, model_fields=None,
      body_forces=None) -> (PhysicsState, Measurement)`, `num_substeps` time
      steps later under constant control `ctrl` [nu]. `body_forces` [nbody, 6]
      float32, N and N m, act on the bodies' centres of mass in the world's
      frame.
    measure: `(state, *, model_fields=None) -> Measurement`.
    time_step_s: seconds of one substep.
    needs_options: whether programs that step it need the compiler options for
      articulated bodies (`metajax.core.compilation`).
  """

  engine: str
  model: Any
  reset: Callable[..., PhysicsState]
  step: Callable[..., tuple[PhysicsState, Measurement]]
  measure: Callable[..., Measurement]
  time_step_s: float
  needs_options: bool


def reset_of(model: Any, num_activations: int) -> Callable[..., PhysicsState]:
  """Returns `Physics.reset` for a model; engines share it."""
  placed = [i for i in range(model.nbody) if model.body_mocapid[i] >= 0]
  placed.sort(key=lambda i: model.body_mocapid[i])
  home_pos = jnp.asarray(model.body_pos[placed], jnp.float32).reshape(-1, 3)
  home_quat = jnp.asarray(model.body_quat[placed], jnp.float32).reshape(-1, 4)

  def reset(
    qpos: Array,
    qvel: Array | None = None,
    *,
    mocap_pos: Array | None = None,
    mocap_quat: Array | None = None,
  ) -> PhysicsState:
    at_rest = jnp.zeros((model.nv,), jnp.float32)
    return PhysicsState(
      qpos=jnp.asarray(qpos, jnp.float32),
      qvel=at_rest if qvel is None else jnp.asarray(qvel, jnp.float32),
      act=jnp.zeros((num_activations,), jnp.float32),
      qacc_warmstart=at_rest,
      mocap_pos=home_pos if mocap_pos is None else mocap_pos,
      mocap_quat=home_quat if mocap_quat is None else mocap_quat,
    )

  return reset


def field_of(
  physics: Physics, name: str, model_fields: ModelFields | None = None
) -> Array:
  """Returns an array of the model, the task's own if it has one.

  Args:
    physics: the physics.
    name: name of the array in the model, `body_mass`.
    model_fields: the task's own arrays.

  Returns:
    The array, as the model has it, float32.
  """
  if model_fields and name in model_fields:
    return model_fields[name]
  array = functools.reduce(getattr, name.split('.'), physics.model)
  return jnp.asarray(array, jnp.float32)


def point_velocity(
  measurement: Measurement, root: int, body: int, point: Array
) -> Array:
  """Returns the velocity of a point that moves with a body.

  `v_p = v_c + w x (p - c)`, with the body's spatial velocity `(w, v_c)` taken
  at the centre of mass `c` of its tree.

  Args:
    measurement: what an engine measured.
    root: index of the body that the tree hangs from (`model.body_rootid`).
    body: index of the body.
    point: [3] float32, m, in the world.

  Returns:
    [3] float32, m/s.
  """
  angular, linear = jnp.split(measurement.cvel[body], 2)
  return linear + jnp.cross(angular, point - measurement.subtree_com[root])


def tree_velocity(measurement: Measurement, body_masses: Array) -> Array:
  """Returns the velocity of the centre of mass of a one-tree world.

  `v = sum_i m_i (v_i + w_i x (x_i - c)) / sum_i m_i`, with each body's spatial
  velocity `(w_i, v_i)` taken at the tree's centre of mass `c`.

  Args:
    measurement: what an engine measured; its bodies, the world apart, hang
      from one root.
    body_masses: [nbody] float32, kg; the world has none.

  Returns:
    [3] float32, m/s. It is the derivative of `subtree_com` of the root.
  """
  angular, linear = jnp.split(measurement.cvel, 2, axis=-1)
  offsets = measurement.xipos - measurement.subtree_com[1][None, :]
  velocities = linear + jnp.cross(angular, offsets)
  masses = body_masses[:, None]
  return jnp.sum(masses * velocities, axis=0) / jnp.sum(body_masses)


def movable(model: Any) -> Any:
  """Returns a copy of a model whose shapes stand where its arrays say.

  C MuJoCo reads no position of a shape that was compiled to stand where its
  body does, though a task may move it; unless it is told that none does.
  """
  model = copy.copy(model)
  for name in ('body_sameframe', 'geom_sameframe', 'site_sameframe'):
    getattr(model, name)[:] = 0
  return model


def check_model_fields(model: Any, model_fields: ModelFields | None) -> None:
  """Checks that a task's own arrays fit the model.

  Args:
    model: the host's `mujoco.MjModel`.
    model_fields: name to array; dots lead into the options (`opt.gravity`).

  Raises:
    InputError: naming the array that the model does not have, or its shape;
      or masses without what engines derive from them (C MuJoCo moves some
      bodies by `dof_M0` alone).
  """
  model_fields = model_fields or {}
  for name, value in model_fields.items():
    try:
      like = np.asarray(functools.reduce(getattr, name.split('.'), model))
    except AttributeError:
      like = np.asarray(None)
    if like.dtype != float:
      raise reject(
        'model_fields', "names of the model's floating-point arrays", name
      )
    if jnp.shape(value) != like.shape:
      raise InputError(
        f'model_fields[{name!r}]: expected shape {like.shape}, got'
        f' {jnp.shape(value)}'
      )
  if 'body_mass' in model_fields and 'dof_M0' not in model_fields:
    raise InputError(
      'model_fields: expected with body_mass all that follows from it, as'
      ' metajax.envs.mass_properties derives it, got body_mass alone'
    )


def check_step(
  model: Any,
  ctrl: Array,
  num_substeps: int,
  model_fields: ModelFields | None,
  body_forces: Array | None,
) -> None:
  """Checks what `Physics.step` is given; engines share it.

  Raises:
    InputError: naming what does not fit the model.
  """
  check_count('num_substeps', num_substeps)
  if jnp.shape(ctrl) != (model.nu,):
    raise reject('ctrl', f'an array [{model.nu}]', jnp.shape(ctrl))
  if body_forces is not None and jnp.shape(body_forces) != (model.nbody, 6):
    raise reject(
      'body_forces', f'an array [{model.nbody}, 6]', jnp.shape(body_forces)
    )
  check_model_fields(model, model_fields)


def any_rank(function: Callable[..., Any]) -> Callable[..., Any]:
  """Lets an engine broadcast over ranks where a program forbids it."""

  @functools.wraps(function)
  def wrapped(*args, **kwargs):
    with jax.numpy_rank_promotion('allow'):
      return function(*args, **kwargs)

  return wrapped
