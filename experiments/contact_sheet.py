"""Draws every scene that a camera sees: a training and a held-out task each.

python -m experiments.contact_sheet --out=runs/contact_sheet.png
"""

from pathlib import Path
import sys

from absl import app, flags, logging
import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from metajax.core.compilation import compile_hot
from metajax.core.validation import InputError, check_choice
from metajax.envs.catalogue import FAMILIES, make_environment
from metajax.envs.environment import Env, EnvState, held_out
from metajax.envs.views import camera_view
from metajax.run.errors import describe_failure
from metajax.run.figures.picture_grids import picture_grid

_OUT = flags.DEFINE_string('out', 'runs/contact_sheet.png', 'the PNG to write')
_FAMILY = flags.DEFINE_list('family', [], 'which families; all')
_SIZE = flags.DEFINE_integer('size', 96, 'rows and columns of a picture', 1)
_SAMPLES = flags.DEFINE_integer('samples', 2, 'rays a pixel and axis', 1)
_COLUMNS = flags.DEFINE_integer('columns', 6, 'scenes side by side', 1)
_SEED = flags.DEFINE_integer('seed', 0, 'seed of the tasks', 0)


def main(argv):
  """Draws the sheet; one line says what was wrong with the flags."""
  logging.set_verbosity(logging.WARNING)
  try:
    if argv[1:]:
      raise InputError(f'{argv[1]}: expected flags only')
    for name in _FAMILY.value:
      check_choice('--family', name, tuple(FAMILIES))
    draw_sheet(Path(_OUT.value), _FAMILY.value or list(FAMILIES))
  except Exception as error:
    message, code = describe_failure(error)
    if code == 1:
      raise
    print(f'contact_sheet: {message}', file=sys.stderr)
    sys.exit(code)


def draw_sheet(path: Path, names: list[str]) -> None:
  """Draws the scenes of some families; those without one are left out."""
  pictures = {}
  for name in names:
    pair = first_pictures(
      name, size=_SIZE.value, samples=_SAMPLES.value, seed=_SEED.value
    )
    if pair is not None:
      pictures[name] = np.concatenate(pair, axis=1)
      print(name, flush=True)
  picture_grid(path, pictures, num_columns=_COLUMNS.value)
  print(path)


def first_pictures(
  name: str, *, size: int, samples: int, seed: int
) -> np.ndarray | None:
  """Returns how episodes of a family begin.

  Args:
    name: of the family.
    size: rows and columns of a picture.
    samples: rays a pixel and axis.
    seed: of the tasks.

  Returns:
    [2, size, size, 3] uint8, of a training and of a held-out task; None of a
    family that is not drawn.
  """
  env = make_environment(name, physics='c')
  if env.model is None and env.picture is None:
    return None
  view = camera_view(env, height=size, width=size, samples=samples)

  def begin(source: Env, key: Array) -> EnvState:
    task_key, reset_key = jax.random.split(key)
    return env.reset(source.sample_task(task_key), reset_key)

  def pair(key: Array) -> Array:
    states = begin(env, key), begin(held_out(env), jax.random.clone(key))
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    return jax.vmap(lambda state: view(state).rgb)(both)

  program = compile_hot(pair, holds_physics=env.holds_physics)
  return np.asarray(program(jax.random.key(seed)))


if __name__ == '__main__':
  app.run(main)
