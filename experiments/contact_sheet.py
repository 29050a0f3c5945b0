"""Draws every scene that a camera sees, or what every teacher shows in it.

python -m experiments.contact_sheet --out=runs/scenes.png
python -m experiments.contact_sheet --teachers --out=runs/teachers.png
"""

from pathlib import Path

from absl import app, flags, logging
import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from metajax.core.compilation import compile_hot
from metajax.core.validation import InputError, check_choice
from metajax.demos.teachers.catalogue import TEACHERS, make_teacher
from metajax.demos.teachers.teacher import run_teacher
from metajax.envs.catalogue import FAMILIES, make_environment
from metajax.envs.environment import Env, EnvState, held_out
from metajax.envs.views import camera_names, camera_view
from metajax.run.errors import exit_in_one_line
from metajax.run.figures.filmstrips import filmstrip
from metajax.run.figures.picture_grids import picture_grid

_NUM_FRAMES = 6  # of an episode
_STEPS_AFTER = 10  # of success that are shown

_OUT = flags.DEFINE_string('out', 'runs/contact_sheet.png', 'the PNG to write')
_TEACHERS = flags.DEFINE_boolean(
  'teachers', False, 'frames of an episode of each teacher'
)
_FAMILY = flags.DEFINE_list('family', [], 'which families; all')
_SIZE = flags.DEFINE_integer('size', 96, 'rows and columns of a picture', 1)
_SAMPLES = flags.DEFINE_integer('samples', 2, 'rays a pixel and axis', 1)
_COLUMNS = flags.DEFINE_integer('columns', 4, 'scenes side by side', 1)
_SEED = flags.DEFINE_integer('seed', 0, 'seed of the tasks', 0)


def main(argv):
  """Draws the sheet; one line says what was wrong with the flags."""
  logging.set_verbosity(logging.WARNING)
  with exit_in_one_line('contact_sheet'):
    if argv[1:]:
      raise InputError(f'{argv[1]}: expected flags only')
    known = TEACHERS if _TEACHERS.value else FAMILIES
    for name in _FAMILY.value:
      check_choice('--family', name, tuple(known))
    draw = draw_teachers if _TEACHERS.value else draw_scenes
    draw(Path(_OUT.value), _FAMILY.value or list(known))


def draw_scenes(path: Path, names: list[str]) -> None:
  """Draws three tasks of each family that is drawn, one of them held out."""
  pictures = {}
  for name in names:
    three = first_pictures(
      name, size=_SIZE.value, samples=_SAMPLES.value, seed=_SEED.value
    )
    if three is not None:
      pictures[name] = np.concatenate(three, axis=1)
      print(name, flush=True)
  picture_grid(path, pictures, num_columns=_COLUMNS.value)
  print(path)


def draw_teachers(path: Path, names: list[str]) -> None:
  """Draws some frames of an episode of each family's teacher."""
  rows = {}
  for name in names:
    rows[name] = episode_frames(
      name, size=_SIZE.value, samples=_SAMPLES.value, seed=_SEED.value
    )
    print(name, flush=True)
  filmstrip(path, rows)
  print(path)


def episode_frames(
  name: str, *, size: int, samples: int, seed: int
) -> np.ndarray:
  """Returns what a family's teacher shows, up to its success.

  Args:
    name: of the family.
    size: rows and columns of a picture.
    samples: rays a pixel and axis.
    seed: of task and episode.

  Returns:
    [6, size, size, 3] uint8, evenly spaced in time.
  """
  env = make_environment(name, physics='c')
  teacher = make_teacher(name, env)
  near = camera_names(env)[-1]
  view = camera_view(env, near, height=size, width=size, samples=samples)

  def frames(key: Array) -> Array:
    task_key, episode_key = jax.random.split(key)
    task = env.sample_task(task_key)
    states = run_teacher(env, teacher, task, episode_key).states
    succeeds = jnp.cumsum(states.metrics['success'] > 0) >= _STEPS_AFTER
    last = jnp.where(succeeds[-1], jnp.argmax(succeeds), env.spec.horizon)
    chosen = jnp.round(jnp.linspace(0, last, _NUM_FRAMES)).astype(jnp.int32)
    some = jax.tree.map(lambda x: x[chosen], states)
    return jax.vmap(lambda state: view(state).rgb)(some)

  program = compile_hot(frames, holds_physics=env.holds_physics)
  return np.asarray(program(_key_of(name, seed)))


def first_pictures(
  name: str, *, size: int, samples: int, seed: int
) -> np.ndarray | None:
  """Returns how episodes of a family begin, from afar and from near.

  Args:
    name: of the family.
    size: rows and columns of a picture.
    samples: rays a pixel and axis.
    seed: of the tasks.

  Returns:
    [3, size, size, 3] uint8: a training task as the first of the family's
    cameras sees it, another as the last one does, and a held-out task as that
    does; None of a family that is not drawn.
  """
  env = make_environment(name, physics='c')
  names = camera_names(env)
  if not names:
    return None
  far, near = (
    camera_view(env, camera, height=size, width=size, samples=samples)
    for camera in (names[0], names[-1])
  )

  def begin(source: Env, key: Array) -> EnvState:
    task_key, reset_key = jax.random.split(key)
    return env.reset(source.sample_task(task_key), reset_key)

  def three(key: Array) -> Array:
    first, second = jax.random.split(key)
    # Equal keys: what differs between the last two is what is held out.
    states = begin(env, second), begin(held_out(env), jax.random.clone(second))
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    pictures = jax.vmap(lambda state: near(state).rgb)(both)
    return jnp.concatenate([far(begin(env, first)).rgb[None], pictures])

  program = compile_hot(three, holds_physics=env.holds_physics)
  return np.asarray(program(_key_of(name, seed)))


def _key_of(name: str, seed: int) -> Array:
  """Returns a family's own key, so that colours differ between families."""
  return jax.random.fold_in(jax.random.key(seed), list(FAMILIES).index(name))


if __name__ == '__main__':
  app.run(main)
