"""How fast the camera draws, beside MuJoCo's own renderer where it is.

Measured as the collection of demonstrations draws: each core is a device.
"""

from collections.abc import Callable
import ctypes.util
import functools
import os
from typing import Any

import jax
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np

from experiments.timing import time_in_turn
from metajax.core.compilation import compile_hot
from metajax.envs.catalogue import make_environment
from metajax.envs.environment import Env, EnvState
from metajax.envs.views import camera_view

_FAMILY = 'jaco_stack'
_FRAMES = 256  # of each side in a round
_MIB = 2**20


def camera_frames(rounds: int, *, size: int = 64) -> None:
  """Prints frames a second of one scene, over all devices.

  Args:
    rounds: timed rounds of each side.
    size: rows and columns of a picture.
  """
  if ctypes.util.find_library('OSMesa'):
    # Read by MuJoCo when it is first imported.
    os.environ.setdefault('MUJOCO_GL', 'osmesa')
  env = make_environment(_FAMILY, physics='c')
  mesh = jax.make_mesh((jax.device_count(),), ('frames',))
  states = jax.device_put(
    _states(env), NamedSharding(mesh, PartitionSpec('frames'))
  )
  calls: dict[str, Callable[[], Any]] = {}
  for name, shadows in (('camera', False), ('camera with shadows', True)):
    program = _program(env, size, shadows, mesh).lower(states).compile()
    planned = program.memory_analysis()
    if planned is not None:
      print(f'  {name}: {planned.temp_size_in_bytes / _MIB:.1f} MiB beside it')
    calls[name] = functools.partial(program, states)
  theirs = _mujocos_renderer(env, jax.device_get(states), size)
  if theirs is None:
    print("  MuJoCo's renderer: none here (MUJOCO_GL=osmesa, libosmesa6)")
  else:
    calls["MuJoCo's renderer"] = theirs
  timings = time_in_turn(calls, rounds)
  print(
    f'  {env.model.ngeom} shapes, {size} x {size} pixels,'
    f' {jax.device_count()} device(s)'
  )
  for name, timing in timings.items():
    print(f'  {name:20} {_FRAMES / timing.median:6.0f} frames/s')
  if theirs is not None:
    ratio = timings["MuJoCo's renderer"].median / timings['camera'].median
    print(f"  {ratio:.2f} times MuJoCo's renderer, both without shadows")


def _states(env: Env) -> EnvState:
  """Returns states of as many tasks as there are frames in a round."""

  def state_of(key: Array) -> EnvState:
    task_key, reset_key = jax.random.split(key)
    return env.reset(env.sample_task(task_key), reset_key)

  keys = jax.random.split(jax.random.key(0), _FRAMES)
  return compile_hot(jax.vmap(state_of), holds_physics=env.holds_physics)(keys)


def _program(env: Env, size: int, shadows: bool, mesh: Mesh) -> Any:
  """Returns the program that draws all frames, a share on each device."""
  view = camera_view(env, height=size, width=size, shadows=shadows)
  frames = PartitionSpec('frames')
  return compile_hot(
    jax.shard_map(
      jax.vmap(lambda state: view(state).rgb),
      mesh=mesh,
      in_specs=frames,
      out_specs=frames,
      check_vma=False,
    ),
    holds_physics=env.holds_physics,
  )


def _mujocos_renderer(
  env: Env, states: EnvState, size: int
) -> Callable[[], np.ndarray] | None:
  """Returns the call that draws the same frames; None where it cannot."""
  import mujoco  # slow to import

  try:
    renderer = mujoco.Renderer(env.model, size, size)
  # Each of its ways to a screen fails in a way of its own.
  except Exception:
    return None
  data = mujoco.MjData(env.model)

  def draw() -> np.ndarray:
    for i in range(_FRAMES):
      data.qpos[:] = states.physics.qpos[i]
      mujoco.mj_kinematics(env.model, data)
      mujoco.mj_camlight(env.model, data)
      renderer.update_scene(data, 'overview')
      renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
      frame = renderer.render()
    return frame

  return draw
