"""Articulated bodies: the one place that advances them."""

from collections.abc import Callable, Mapping
import contextlib
import functools
import importlib
from importlib import resources
import io
from typing import Any, NamedTuple

import jax
from jax import Array
import jax.numpy as jnp

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


# A task's own physics: {name of an array of the model: its value}.
ModelFields = Mapping[str, Array]


class Physics(NamedTuple):
  """One physics engine around one model: pure functions of ONE world.

  `model_fields` replaces arrays of the model by their names
  (`{'actuator_gear': ..., 'pair_friction': ...}`), traced or not: this is how
  a task has physics of its own. Contacts here are explicit pairs, so friction
  is `pair_friction`; whoever changes `body_mass` scales `body_inertia` too.

  Attributes:
    reset: `(qpos, qvel) -> PhysicsState`, at rest in all else.
    step: `(state, ctrl, *, num_substeps=1, model_fields=None,
      body_forces=None) -> PhysicsState`, `num_substeps` time steps later under
      constant control `ctrl` [nu]. `body_forces` [nbody, 6] float32, N and
      N m, act on the bodies' centres of mass in the world's frame.
    measure: `(state, *, model_fields=None) -> data`. The engine's public
      fields that follow from positions and velocities (`xpos`, `xquat`,
      `xipos`, `site_xpos`, `geom_xpos`, `subtree_com`, `cvel`, ...), of this
      very moment: after a step, the engine's own lag one time step behind.
    body_masses: `(model_fields=None) -> [nbody]` float32, kg.
    time_step_s: seconds of one substep.
  """

  reset: Callable[[Array, Array], PhysicsState]
  step: Callable[..., PhysicsState]
  measure: Callable[..., Any]
  body_masses: Callable[..., Array]
  time_step_s: float


def load_model(file_name: str) -> Any:
  """Compiles one of the package's own MJCF models.

  Args:
    file_name: a file in `metajax/envs/models`, `half_cheetah.xml`.

  Returns:
    The host's `mujoco.MjModel`.

  Raises:
    InputError: if there is no such file.
  """
  # Here, so that `import metajax` stays quick.
  mujoco = importlib.import_module('mujoco')
  models = resources.files('metajax.envs') / 'models'
  source = models / file_name
  if not source.is_file():
    known = sorted(x.name for x in models.iterdir() if x.name.endswith('.xml'))
    raise reject('file_name', f'one of {", ".join(known)}', file_name)
  return mujoco.MjModel.from_xml_string(source.read_text(encoding='utf-8'))


def mjx_physics(model: Any) -> Physics:
  """Puts a model on MuJoCo XLA, the engine written in JAX.

  Programs that step it want `holds_physics=True` when they are compiled
  (`metajax.core.compilation`): on CPU an arm is hundreds of times slower
  without.

  Args:
    model: a `mujoco.MjModel`.

  Returns:
    The physics; the model's numbers are constants of what is compiled, save
    those that `model_fields` names.
  """
  mjx = _import_mjx()
  device_model = mjx.put_model(model, impl='jax')
  blank = mjx.make_data(model, impl='jax')

  def with_fields(model_fields: ModelFields | None):
    if not model_fields:
      return device_model
    _check_model_fields(device_model, model_fields)
    return device_model.tree_replace(dict(model_fields))

  def load(state: PhysicsState):
    return blank.replace(**state._asdict())

  def reset(qpos: Array, qvel: Array) -> PhysicsState:
    return PhysicsState(
      qpos=jnp.asarray(qpos, jnp.float32),
      qvel=jnp.asarray(qvel, jnp.float32),
      act=blank.act,
      qacc_warmstart=jnp.zeros_like(blank.qacc_warmstart),
      mocap_pos=blank.mocap_pos,
      mocap_quat=blank.mocap_quat,
    )

  # Jitted, so that programs which step the same world trace the engine once.
  @functools.partial(jax.jit, static_argnames='num_substeps')
  @_any_rank
  def step(
    state: PhysicsState,
    ctrl: Array,
    *,
    num_substeps: int = 1,
    model_fields: ModelFields | None = None,
    body_forces: Array | None = None,
  ) -> PhysicsState:
    check_count('num_substeps', num_substeps)
    own_model = with_fields(model_fields)
    inputs = {'ctrl': ctrl}
    if body_forces is not None:
      inputs['xfrc_applied'] = body_forces

    def substep(state: PhysicsState, _) -> tuple[PhysicsState, None]:
      data = mjx.step(own_model, load(state).replace(**inputs))
      return (
        PhysicsState(*(getattr(data, name) for name in PhysicsState._fields)),
        None,
      )

    if num_substeps == 1:
      return substep(state, None)[0]
    return jax.lax.scan(substep, state, length=num_substeps)[0]

  @jax.jit
  @_any_rank
  def measure(
    state: PhysicsState, *, model_fields: ModelFields | None = None
  ) -> Any:
    own_model = with_fields(model_fields)
    data = mjx.kinematics(own_model, load(state))
    return mjx.com_vel(own_model, mjx.com_pos(own_model, data))

  def body_masses(model_fields: ModelFields | None = None) -> Array:
    return with_fields(model_fields).body_mass

  return Physics(
    reset=reset,
    step=step,
    measure=measure,
    body_masses=body_masses,
    time_step_s=float(model.opt.timestep),
  )


def tree_velocity(data: Any, body_masses: Array) -> Array:
  """Returns the velocity of the centre of mass of a one-tree world.

  `v = sum_i m_i (v_i + w_i x (x_i - c)) / sum_i m_i`, with each body's spatial
  velocity `(w_i, v_i)` taken at the tree's centre of mass `c`.

  Args:
    data: what `Physics.measure` returned; its bodies, the world apart, hang
      from one root.
    body_masses: [nbody] float32, kg; the world has none.

  Returns:
    [3] float32, m/s. It is the derivative of `data.subtree_com` of the root.
  """
  angular, linear = jnp.split(data.cvel, 2, axis=-1)
  offsets = data.xipos - data.subtree_com[1][None, :]
  velocities = linear + jnp.cross(angular, offsets)
  masses = body_masses[:, None]
  return jnp.sum(masses * velocities, axis=0) / jnp.sum(body_masses)


def _check_model_fields(device_model: Any, model_fields: ModelFields) -> None:
  for name, value in model_fields.items():
    try:
      like = functools.reduce(getattr, name.split('.'), device_model)
    except AttributeError:
      like = None
    if not isinstance(like, jax.Array):
      raise reject(
        'model_fields', "names of the model's floating-point arrays", name
      )
    if jnp.shape(value) != like.shape:
      raise InputError(
        f'model_fields[{name!r}]: expected shape {like.shape}, got'
        f' {jnp.shape(value)}'
      )


def _any_rank(function: Callable[..., Any]) -> Callable[..., Any]:
  """Lets the engine broadcast over ranks where a program forbids it."""

  @functools.wraps(function)
  def wrapped(*args, **kwargs):
    with jax.numpy_rank_promotion('allow'):
      return function(*args, **kwargs)

  return wrapped


def _import_mjx() -> Any:
  """Imports MuJoCo XLA without what it prints about engines it lacks."""
  with contextlib.redirect_stdout(io.StringIO()):
    from mujoco import mjx
  return mjx
