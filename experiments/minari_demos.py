"""Takes demonstration sets to Minari, and Minari's data sets from there.

Needs Minari (`pip install 'metajax[demos]'`). Its data sets are those on this
machine, in its own folder (`MINARI_DATASETS_PATH`); nothing is downloaded.

python -m experiments.minari_demos --from=demos/pusher --to=pusher/expert-v0
python -m experiments.minari_demos --from=door/human-v0,door/expert-v0 \
  --out=demos/door

Exit codes: 0 done; 2 a mistake in the command line; 3 the directory is in use;
5 storage; 1 anything else.
"""

from pathlib import Path

from absl import app, flags, logging

from metajax.core.validation import InputError, check_choice, reject
from metajax.demos.demonstration_set import open_demonstrations
from metajax.demos.set_index import SPLITS
from metajax.run.errors import exit_in_one_line

_FROM = flags.DEFINE_list(
  'from', [], "a set's directory, or names of Minari's data sets, a task each"
)
_TO = flags.DEFINE_string('to', '', 'what Minari is to call the set')
_OUT = flags.DEFINE_string('out', '', 'the directory that a set goes into')
_SPLIT = flags.DEFINE_string('split', 'train', 'which split is taken or made')
_DEMOS_PER_TASK = flags.DEFINE_integer(
  'demos_per_task', None, 'episodes of each data set; as many as all have', 1
)
_RESUME = flags.DEFINE_boolean('resume', False, 'go on with the set in --out')
_METADATA = {
  name: flags.DEFINE_string(name, '', f'{about}, for Minari')
  for name, about in (
    ('author', 'who made the set'),
    ('author_email', 'where they are reached'),
    ('algorithm_name', 'what acted'),
    ('code_permalink', 'where the code is'),
    ('description', 'what it shows'),
  )
}


def main(argv):
  """Exports or imports; one line says what was wrong with the flags."""
  logging.set_verbosity(logging.WARNING)
  with exit_in_one_line('minari_demos'):
    if argv[1:]:
      raise InputError(f'{argv[1]}: expected flags only')
    if bool(_TO.value) == bool(_OUT.value):
      raise InputError('expected either --to or --out')
    if not _FROM.value:
      raise reject('--from', 'a directory, or data sets', _FROM.value)
    check_choice('--split', _SPLIT.value, SPLITS)
    if _TO.value:
      _export(_FROM.value)
    else:
      _import(_FROM.value)


def _export(sources: list[str]) -> None:
  """Writes a split of one set as a Minari data set."""
  # Here, since Minari is an extra; as below.
  from metajax.demos.minari_sets import export_minari

  if len(sources) > 1:
    raise reject('--from', 'one directory', sources)
  demonstrations = open_demonstrations(sources[0])
  metadata = {
    name: flag.value for name, flag in _METADATA.items() if flag.value
  }
  dataset = export_minari(
    demonstrations, _TO.value, split=_SPLIT.value, metadata=metadata
  )
  print(
    f'{_TO.value}: {dataset.total_episodes} episodes,'
    f' {dataset.total_steps} steps'
  )


def _import(sources: list[str]) -> None:
  """Writes Minari data sets as one demonstration set."""
  from metajax.demos.minari_sets import import_minari

  path = Path(_OUT.value)
  index = import_minari(
    path,
    sources,
    split=_SPLIT.value,
    demos_per_task=_DEMOS_PER_TASK.value,
    resume=_RESUME.value,
  )
  print(
    f'{path}: {len(sources)} tasks of {index.demos_per_task} episodes of up to'
    f' {index.horizon} steps; fields {", ".join(index.fields)}'
  )


if __name__ == '__main__':
  app.run(main)
