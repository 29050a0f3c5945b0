"""Physics engines by their names, and the package's own models."""

import importlib
from importlib import resources
from typing import Any

from metajax.core.validation import check_choice, reject
from metajax.envs.physics import Physics
from metajax.envs.physics_c import c_physics
from metajax.envs.physics_mjx import mjx_physics

# MJX runs everywhere and can be differentiated; C MuJoCo is several times
# faster on a CPU and compiles in no time.
ENGINES = {'mjx': mjx_physics, 'c': c_physics}


def make_physics(model: Any, engine: str = 'mjx') -> Physics:
  """Puts a model on a physics engine.

  Args:
    model: a `mujoco.MjModel`.
    engine: `mjx`, or `c` for MuJoCo's own on the host.

  Returns:
    The physics: the same functions, the same numbers but for rounding and
    the contacts of boxes.

  Raises:
    InputError: if there is no such engine.
  """
  check_choice('physics', engine, tuple(ENGINES))
  return ENGINES[engine](model)


def load_model(file_name: str) -> Any:
  """Compiles one of the package's own MJCF models.

  Args:
    file_name: a file in `metajax/envs/models`, `half_cheetah.xml`.

  Returns:
    The host's `mujoco.MjModel`.

  Raises:
    InputError: if there is no such file.
  """
  models = resources.files('metajax.envs') / 'models'
  source = models / file_name
  if not source.is_file():
    known = sorted(x.name for x in models.iterdir() if x.name.endswith('.xml'))
    raise reject('file_name', f'one of {", ".join(known)}', file_name)
  return compile_model(source.read_text(encoding='utf-8'))


def compile_model(mjcf: str) -> Any:
  """Compiles MJCF text, which may include the package's own files.

  Args:
    mjcf: the text; `<include file="jaco_arm.xml"/>` finds that file in
      `metajax/envs/models`.

  Returns:
    The host's `mujoco.MjModel`.
  """
  # Here, so that `import metajax` stays quick.
  mujoco = importlib.import_module('mujoco')
  models = resources.files('metajax.envs') / 'models'
  files = {
    x.name: x.read_bytes() for x in models.iterdir() if x.name.endswith('.xml')
  }
  return mujoco.MjModel.from_xml_string(mjcf, assets=files)
