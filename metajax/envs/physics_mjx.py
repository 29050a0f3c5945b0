"""MuJoCo XLA: the physics engine that is written in JAX."""

import contextlib
import functools
import io
from typing import Any

import jax
from jax import Array

from metajax.core.validation import reject
from metajax.envs.linear_systems import lapack_avoided
from metajax.envs.physics import (
  Measurement,
  ModelFields,
  Physics,
  PhysicsState,
  any_rank,
  check_model_fields,
  check_step,
  reset_of,
)


def mjx_physics(model: Any) -> Physics:
  """Puts a model on MuJoCo XLA.

  Programs that step it want `holds_physics=True` when they are compiled
  (`metajax.core.compilation`): on CPU an arm is hundreds of times slower
  without.

  Args:
    model: a `mujoco.MjModel`.

  Returns:
    The physics; the model's numbers are constants of what is compiled, save
    those that `model_fields` names.
  """
  mjx = import_mjx()
  device_model = mjx.put_model(model, impl='jax')
  blank = mjx.make_data(model, impl='jax')

  def with_fields(model_fields: ModelFields | None):
    if not model_fields:
      return device_model
    for name in model_fields:
      array = functools.reduce(getattr, name.split('.'), device_model)
      if not isinstance(array, jax.Array):
        raise reject('model_fields', 'arrays that mjx lets a task change', name)
    return device_model.tree_replace(dict(model_fields))

  def load(state: PhysicsState):
    return blank.replace(**state._asdict())

  def measurement_of(own_model, state: PhysicsState) -> Measurement:
    data = mjx.kinematics(own_model, load(state))
    data = mjx.com_vel(own_model, mjx.com_pos(own_model, data))
    return Measurement(*(getattr(data, name) for name in Measurement._fields))

  # Jitted, so that programs which step the same world trace the engine once.
  @functools.partial(jax.jit, static_argnames='num_substeps')
  @any_rank
  def step(
    state: PhysicsState,
    ctrl: Array,
    *,
    num_substeps: int = 1,
    model_fields: ModelFields | None = None,
    body_forces: Array | None = None,
  ) -> tuple[PhysicsState, Measurement]:
    check_step(model, ctrl, num_substeps, model_fields, body_forces)
    own_model = with_fields(model_fields)
    inputs = {'ctrl': ctrl}
    if body_forces is not None:
      inputs['xfrc_applied'] = body_forces

    def substep(state: PhysicsState, _) -> tuple[PhysicsState, None]:
      with lapack_avoided():
        data = mjx.step(own_model, load(state).replace(**inputs))
      return (
        PhysicsState(*(getattr(data, name) for name in PhysicsState._fields)),
        None,
      )

    if num_substeps == 1:
      state = substep(state, None)[0]
    else:
      state = jax.lax.scan(substep, state, length=num_substeps)[0]
    return state, measurement_of(own_model, state)

  @jax.jit
  @any_rank
  def measure(
    state: PhysicsState, *, model_fields: ModelFields | None = None
  ) -> Measurement:
    check_model_fields(model, model_fields)
    return measurement_of(with_fields(model_fields), state)

  return Physics(
    engine='mjx',
    model=model,
    reset=reset_of(model, blank.act.shape[0]),
    step=step,
    measure=measure,
    time_step_s=float(model.opt.timestep),
    needs_options=True,
  )


def import_mjx() -> Any:
  """Imports MuJoCo XLA without what it prints about engines it lacks."""
  with contextlib.redirect_stdout(io.StringIO()):
    from mujoco import mjx
  return mjx
