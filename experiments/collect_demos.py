"""Collects demonstrations of a family's teacher into a directory.

python -m experiments.collect_demos --list
python -m experiments.collect_demos --family=reacher --out=demos/reacher
python -m experiments.collect_demos --family=pusher --size=125 \
  --num_tasks=769 --num_held_out_tasks=74 --demos_per_task=12 \
  --keep=successes --success_steps=10 --execution_noise=0.1 --out=demos/pusher
python -m experiments.collect_demos --family=jaco_stack --style=metamimic_a \
  --num_tasks=1 --demos_per_task=500 --keep=successes --keep_states \
  --out=demos/stack --resume

SIGTERM, SIGUSR1 and SIGINT let it finish its shard and stop; --resume goes on
and ends with the very same files. Exit codes: 0 done, or stopped cleanly by a
signal; 2 a mistake in the command line; 3 the directory is in use; 5 storage;
6 memory; 1 anything else.
"""

from collections.abc import Sequence
import contextlib
from pathlib import Path
import sys
import time
import traceback
from typing import NoReturn

from absl import flags, logging

from metajax.core.validation import check_choice, reject
from metajax.demos.collection import Collected, collect_set
from metajax.demos.demonstration_set import open_demonstrations
from metajax.demos.recipe import KEEPS, Recipe, View, check_recipe
from metajax.demos.set_index import Index
from metajax.demos.teachers.catalogue import TEACHERS, make_teacher, styles_of
from metajax.envs.catalogue import FAMILIES, make_environment
from metajax.envs.engines import ENGINES
from metajax.run.compilation_cache import share_compiled_programs
from metajax.run.devices import make_each_core_a_device
from metajax.run.errors import Preempted, describe_failure
from metajax.run.flags import parse
from metajax.run.progress import time_left
from metajax.run.signals import StopSignals

_NO_CAMERA = 'none'
_COLUMNS = (
  'split',
  'tasks',
  'episodes',
  'success',
  'rejected',
  'given up',
  'MB',
)


def main(argv: Sequence[str] | None = None) -> NoReturn:
  """Does what the command line asks for and exits with its code.

  Args:
    argv: the program's name and its arguments; None: those of the process.
  """
  logging.set_verbosity(logging.WARNING)
  try:
    _execute(sys.argv if argv is None else argv)
  except (Exception, KeyboardInterrupt) as error:
    message, code = describe_failure(error)
    if code == 1:
      traceback.print_exception(error)
    print(f'collect_demos: {message}', file=sys.stderr)
    sys.exit(code)
  sys.exit(0)


def _execute(argv: Sequence[str]) -> None:
  values = _define_flags()
  parse(argv, values)
  if values['help'].value:
    print(__doc__)
    for name in sorted(values):
      print(f'  --{name:22} {values[name].help} ({values[name].value})')
    return
  if values['list'].value:
    width = max(map(len, TEACHERS))
    for name in TEACHERS:
      print(f'{name:{width}}  {FAMILIES[name].about}')
    return
  check_choice('--family', values['family'].value, tuple(TEACHERS))
  check_choice('--physics', values['physics'].value, tuple(ENGINES))
  styles = styles_of(values['family'].value)
  check_choice('--style', values['style'].value, styles)
  check_choice('--keep', values['keep'].value, KEEPS)
  if not values['out'].value:
    raise reject('--out', 'a directory', values['out'].value)
  recipe = _recipe_of(values)
  check_recipe(recipe)
  make_each_core_a_device()
  share_compiled_programs()
  collect(Path(values['out'].value), recipe, resume=values['resume'].value)


def collect(path: Path, recipe: Recipe, *, resume: bool) -> None:
  """Collects a set of one of the catalogue's families, and tells how it goes.

  Args:
    path: the directory.
    recipe: what is wanted.
    resume: go on with a set that is there.

  Raises:
    Preempted: if a signal asked to stop; what was done is on disk.
    InputError, LockedError, StorageError: as `collect_set` does.
  """
  env = make_environment(recipe.family, physics=recipe.physics)
  teacher = make_teacher(recipe.family, env, style=recipe.style)
  total = sum(recipe.splits.values()) * recipe.demos_per_task
  start_s = time.perf_counter()
  parts: list[Collected] = []
  shards = collect_set(path, env, teacher, recipe, resume=resume)
  with StopSignals() as stop, contextlib.closing(shards):
    print(
      f'{recipe.family}: {total} episodes into {path.absolute()}', flush=True
    )
    for part in shards:
      parts.append(part)
      done = sum(shard.num_episodes for shard in part.index.shards)
      _print_progress(parts, done, total)
      if stop.received and done < total:
        raise Preempted(
          f'{stop.received} after {done} of {total} episodes, which are saved:'
          ' go on with --resume'
        )
  print_table(path, parts, time.perf_counter() - start_s)


def print_table(path: Path, parts: Sequence[Collected], total_s: float) -> None:
  """Prints what a set holds, and what the time went into.

  Args:
    path: the set's directory.
    parts: the shards of this very collection.
    total_s: seconds that it took in all.
  """
  index = open_demonstrations(path, ()).index
  successes = _success_rates(path, index)
  rows = [
    ('split', 'tasks', 'episodes', 'success', 'rejected', 'given up', 'MB')
  ]
  for split in index.splits:
    shards = [shard for shard in index.shards if shard.split == split]
    num_bytes = sum(
      file.num_bytes for shard in shards for file in shard.files.values()
    )
    rows.append(
      (
        split,
        str(index.splits[split]),
        str(sum(shard.num_rows for shard in shards)),
        successes.get(split, '-'),
        str(sum(sum(shard.rejected) for shard in shards)),
        str(sum(len(shard.given_up) for shard in shards)),
        f'{num_bytes / 1e6:.1f}',
      )
    )
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  for row in rows:
    cells = zip(row, widths, strict=True)
    print('  '.join(cell.rjust(width) for cell, width in cells))
  print(
    f'{total_s:.0f} s: simulating {sum(p.simulating_s for p in parts):.1f},'
    f' drawing {sum(p.drawing_s for p in parts):.1f},'
    f' writing {sum(p.writing_s for p in parts):.1f}',
    flush=True,
  )


def _success_rates(path: Path, index: Index) -> dict[str, str]:
  """Returns each split's share of successes among its episodes."""
  if 'success' not in index.fields:
    return {}
  demonstrations = open_demonstrations(path, ['success'])
  least = index.settings['success_steps']
  rates = {}
  for split in demonstrations.splits:
    success = demonstrations.load(split)['success']
    if success.size:
      rates[split] = f'{(success.sum(axis=-1) >= least).mean():.1%}'
  return rates


def _print_progress(parts: Sequence[Collected], done: int, total: int) -> None:
  """Prints one line; the first shard's time is mostly compiling."""
  recent = parts[1:] or parts
  seconds = sum(p.simulating_s + p.drawing_s + p.writing_s for p in recent)
  episodes = sum(p.index.shards[-1].num_episodes for p in recent)
  index = parts[-1].index
  cameras = sum(name.startswith('frames/') for name in index.fields)
  frames = episodes * (index.horizon + 1) * cameras / seconds
  left = time_left(total - done, episodes / seconds)
  said = f'  {frames:.0f} frames/s' if cameras else ''
  print(
    f'{done}/{total} episodes  {episodes / seconds:.3g} episodes/s{said}'
    f'  {left} left',
    flush=True,
  )


def _recipe_of(values: flags.FlagValues) -> Recipe:
  given = {name: values[name].value for name in values}
  size = given['size']
  cameras = [name for name in given['camera'] if name != _NO_CAMERA]
  names = (
    'family',
    'physics',
    'style',
    'seed',
    'num_tasks',
    'num_validation_tasks',
    'num_held_out_tasks',
    'demos_per_task',
    'execution_noise',
    'keep',
    'success_steps',
    'max_attempts',
    'keep_states',
    'episodes_per_shard',
  )
  return Recipe(
    views=tuple(
      View(
        camera=camera,
        height=given['height'] or size,
        width=given['width'] or size,
        samples=given['samples'],
        shadows=given['shadows'],
        hidden=tuple(given['hidden']),
      )
      for camera in cameras
    ),
    **{name: given[name] for name in names},
  )


def _define_flags() -> flags.FlagValues:
  values = flags.FlagValues()

  def number(
    name: str, default: int | None, about: str, least: int = 1
  ) -> None:
    flags.DEFINE_integer(name, default, about, least, flag_values=values)

  def text(name: str, default: str, about: str) -> None:
    flags.DEFINE_string(name, default, about, flag_values=values)

  def names(name: str, default: list[str], about: str) -> None:
    flags.DEFINE_list(name, default, about, flag_values=values)

  def switch(name: str, default: bool, about: str) -> None:
    flags.DEFINE_boolean(name, default, about, flag_values=values)

  switch('help', False, 'print this')
  switch('list', False, 'print the families that have a teacher')
  text('family', '', 'which family')
  text('physics', 'c', 'physics engine: c, or mjx')
  text('style', 'plain', 'how the teacher acts')
  text('out', '', 'the directory that the set goes into')
  switch('resume', False, 'go on with the set in that directory')
  number('seed', 0, 'seed of tasks and episodes', 0)
  number('num_tasks', 100, 'training tasks', 0)
  number('num_validation_tasks', 0, 'tasks for choosing a model', 0)
  number('num_held_out_tasks', 0, 'tasks of the held-out distribution', 0)
  number('demos_per_task', 10, 'demonstrations of each task')
  flags.DEFINE_float(
    'execution_noise',
    0.0,
    'noise on what is done, in units of the largest action; labels stay clean',
    0.0,
    flag_values=values,
  )
  text('keep', 'all', 'which episodes: all, or successes')
  number('success_steps', 1, 'successful steps of an episode that is a success')
  number('max_attempts', 20, 'attempts after which an episode is given up')
  names('camera', ['overview'], 'cameras, or none')
  number('size', 64, 'rows and columns of a picture')
  number('height', None, 'rows, if not --size')
  number('width', None, 'columns, if not --size')
  number('samples', 1, 'rays a pixel and axis')
  switch('shadows', True, 'whether shapes keep the light from each other')
  names('hidden', [], 'geoms that are not drawn')
  switch('keep_states', False, "keep the simulator's full state of every step")
  number(
    'episodes_per_shard',
    None,
    'episodes written, and after a crash lost, together',
  )
  return values


if __name__ == '__main__':
  main()
