"""MuJoCo in C, behind a callback: several times faster than MJX on a CPU.

The one callback to the host in the library, and chosen by name. It compiles in
no time, works in float64 inside, and cannot be differentiated through.
"""

import functools
import importlib
import math
import os
import threading
from typing import Any

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from metajax.envs.physics import (
  Measurement,
  ModelFields,
  Physics,
  PhysicsState,
  check_model_fields,
  check_step,
  movable,
  reset_of,
)

_ROWS_PER_THREAD = 32


def c_physics(model: Any) -> Physics:
  """Puts a model on MuJoCo's own engine, on the host.

  A world whose numbers stop being finite, or which the engine would reset to
  its beginning, comes back as not-a-number in all its fields, so that
  whoever rolls out sees it as with the other engine.

  Args:
    model: a `mujoco.MjModel`.

  Returns:
    The physics.
  """
  model = movable(model)
  worlds = _Worlds(model)

  @functools.partial(jax.jit, static_argnames='num_substeps')
  def step(
    state: PhysicsState,
    ctrl: Array,
    *,
    num_substeps: int = 1,
    model_fields: ModelFields | None = None,
    body_forces: Array | None = None,
  ) -> tuple[PhysicsState, Measurement]:
    check_step(model, ctrl, num_substeps, model_fields, body_forces)
    inputs = {**state._asdict(), 'ctrl': ctrl}
    if body_forces is not None:
      inputs['xfrc_applied'] = body_forces
    return worlds.call(inputs, model_fields or {}, num_substeps)

  @jax.jit
  def measure(
    state: PhysicsState, *, model_fields: ModelFields | None = None
  ) -> Measurement:
    check_model_fields(model, model_fields)
    return worlds.call(state._asdict(), model_fields or {}, 0)[1]

  return Physics(
    engine='c',
    model=model,
    reset=reset_of(model, model.na),
    step=step,
    measure=measure,
    time_step_s=float(model.opt.timestep),
    needs_options=False,
  )


class _Worlds:
  """Batches of worlds on the host, by their number and own fields.

  One flat array goes there and one comes back: an array more costs a callback
  more than the numbers in it.
  """

  def __init__(self, model: Any):
    # Here, so that `import metajax` stays quick.
    self._mujoco = importlib.import_module('mujoco')
    self._batch = importlib.import_module('mujoco.batch')
    self._model = model
    data = self._mujoco.MjData(model)
    names = PhysicsState._fields + Measurement._fields
    self._results = {name: _shape_of(data, name) for name in names}
    # A batch serves one call at a time; devices call from several threads.
    self._idle: dict[tuple[int, tuple[str, ...]], list[Any]] = {}
    self._lock = threading.Lock()

  def call(
    self, inputs: dict[str, Array], model_fields: ModelFields, num_substeps: int
  ) -> tuple[PhysicsState, Measurement]:
    """Advances, or only measures with no substeps, one or many worlds."""
    given = {**inputs, **{name: model_fields[name] for name in model_fields}}
    size = sum(math.prod(shape) for shape in self._results.values())
    on_host = functools.partial(
      self._on_host,
      {name: jnp.shape(value) for name, value in given.items()},
      tuple(sorted(model_fields)),
      num_substeps,
    )
    numbers = jax.pure_callback(
      on_host,
      jax.ShapeDtypeStruct((size,), jnp.float32),
      jnp.concatenate(
        [jnp.ravel(jnp.asarray(x, jnp.float32)) for x in given.values()]
      ),
      vmap_method='broadcast_all',
    )
    results = _unpack(numbers, self._results)
    return (
      PhysicsState(*(results[name] for name in PhysicsState._fields)),
      Measurement(*(results[name] for name in Measurement._fields)),
    )

  def _on_host(
    self,
    shapes: dict[str, tuple[int, ...]],
    field_names: tuple[str, ...],
    num_substeps: int,
    numbers: Any,
  ) -> np.ndarray:
    numbers = np.asarray(numbers)
    rows = numbers.reshape(-1, numbers.shape[-1])
    is_good = np.isfinite(rows).all(axis=1)
    key = (len(rows), field_names)
    worlds = self._borrow(key)
    try:
      worlds.state[:] = 0.0
      for name, values in _unpack(rows, shapes).items():
        is_field = name in field_names
        target = worlds.expand(name) if is_field else worlds.bind(name)
        target[:] = values
        if not is_good.all():
          # Any finite numbers: what comes of them is thrown away.
          target[~is_good] = _of(self._model, name) if is_field else 0.0
      if not is_good.all():
        worlds.bind('qpos')[~is_good] = self._model.qpos0
      self._advance(worlds, num_substeps, is_good)
      size = sum(math.prod(shape) for shape in self._results.values())
      output = np.empty((len(rows), size), np.float32)
      for name, part in _unpack(output, self._results).items():
        part[:] = worlds.bind(name).reshape(part.shape)
      output[~is_good] = np.nan
    finally:
      self._give_back(key, worlds)
    return output.reshape(*numbers.shape[:-1], size)

  def _advance(
    self, worlds: Any, num_substeps: int, is_good: np.ndarray
  ) -> None:
    """Steps and measures; marks the worlds that went wrong."""
    stage = int(self._mujoco.mjtStage.mjSTAGE_VEL)
    worlds.warning[:] = 0
    try:
      if num_substeps:
        worlds.step(nstep=num_substeps, stage=stage)
      else:
        worlds.forward(stage=stage)
    except self._batch.SimulationError as error:
      is_good[error.ids] = False
    warnings = self._mujoco.mjtWarning
    for name in ('BADQPOS', 'BADQVEL', 'BADQACC', 'BADCTRL'):
      # (last info, how often)
      warned = worlds.warning[:, int(getattr(warnings, f'mjWARN_{name}')), 1]
      is_good &= warned == 0

  def _borrow(self, key: tuple[int, tuple[str, ...]]) -> Any:
    with self._lock:
      idle = self._idle.setdefault(key, [])
      if idle:
        return idle.pop()
    num_worlds, field_names = key
    num_threads = min(os.cpu_count() or 1, num_worlds // _ROWS_PER_THREAD)
    worlds = self._batch.Batch(self._model, num_worlds, max(1, num_threads))
    for name in self._results:
      worlds.bind(name)
    for name in field_names:
      worlds.expand(name)
    return worlds

  def _give_back(self, key: tuple[int, tuple[str, ...]], worlds: Any) -> None:
    with self._lock:
      self._idle[key].append(worlds)


def _unpack(numbers: Any, shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
  """Cuts `[..., size]` numbers into named arrays, as views."""
  parts, start = {}, 0
  for name, shape in shapes.items():
    stop = start + math.prod(shape)
    part = numbers[..., start:stop]
    parts[name] = part.reshape(*part.shape[:-1], *shape)
    start = stop
  return parts


def _of(model: Any, name: str) -> np.ndarray:
  return functools.reduce(getattr, name.split('.'), model)


def _shape_of(data: Any, name: str) -> tuple[int, ...]:
  shape = getattr(data, name).shape
  return (shape[0], 3, 3) if name.endswith('xmat') else shape
