"""One command line for every experiment: flags to config to run to report."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import math
from pathlib import Path
import sys
import traceback
from typing import Any, NamedTuple, NoReturn

from absl import flags
import jax
import numpy as np

from metajax.core.algorithm import Algorithm
from metajax.core.sharding import shard
from metajax.core.sweeps import sweep
from metajax.core.validation import check_choice, reject
from metajax.run.compilation_cache import share_compiled_programs
from metajax.run.devices import choose_devices
from metajax.run.errors import (
  MemoryLimitError,
  describe_failure,
)
from metajax.run.evaluation import evaluate, summarise, write_evaluation
from metajax.run.experiment import Baseline, Experiment, Preset, Report
from metajax.run.flags import (
  define_from,
  override,
  parse,
  parse_sweeps,
  swept_configs,
)
from metajax.run.loop import RunResult, run
from metajax.run.memory import bytes_free, largest_that_fits
from metajax.run.programs import Programs
from metajax.run.schedule import Schedule
from metajax.run.tables import print_table

# An experiment's file imports all it needs from here.
__all__ = ['Baseline', 'Experiment', 'Preset', 'Report', 'launch']

MAIN = ''  # what the main run is called among the results

_SEED_LIMIT = 2**31 - 1


def launch(
  experiments: Sequence[Experiment], argv: Sequence[str] | None = None
) -> NoReturn:
  """Runs what the command line asks for and exits with its code.

  Exit codes: 0 done, or stopped cleanly by a signal; 2 a mistake in the
  command line or in a config; 3 the workdir is in use; 4 numbers that are not
  finite; 5 storage; 6 memory; 1 anything else.

  Args:
    experiments: what can be run.
    argv: the program's name and its arguments; None: those of the process.
  """
  argv = sys.argv if argv is None else argv
  program = Path(argv[0]).stem
  try:
    _execute(experiments, program, argv)
  except (Exception, KeyboardInterrupt) as error:
    message, code = describe_failure(error)
    if code == 1:
      traceback.print_exception(error)
    print(f'{program}: {message}', file=sys.stderr)
    sys.exit(code)
  sys.exit(0)


class _Command(NamedTuple):
  """A command line, understood."""

  experiment: Experiment
  preset: str
  config: Any
  settings: dict[str, Any]  # label of a sweep's setting to its config
  schedule: Schedule
  seed: int
  seeds: tuple[int, ...]
  workdir: Path
  resume: bool
  eval_only: bool
  baselines: tuple[str, ...]
  devices: int | None

  @property
  def num_columns(self) -> int:
    return len(self.settings) * len(self.seeds)

  @property
  def is_swept(self) -> bool:
    return self.num_columns > 1

  def algorithm(self, make: Callable[[Any], Algorithm]) -> Algorithm:
    """Returns one setting's algorithm, or that of all of them at once."""
    if self.is_swept:
      algorithm = sweep(make, list(self.settings.values()), self.seeds)
    else:
      algorithm = make(self.config)
    if self.devices == 1:
      return algorithm
    devices = jax.devices()[: self.devices]
    return shard(
      algorithm, jax.make_mesh((len(devices),), ('tasks',), devices=devices)
    )


def _execute(experiments, program: str, argv: Sequence[str]) -> None:
  flag_values = _define_flags(experiments)
  parse(argv, flag_values)
  if flag_values['help'].value:
    _print_help(experiments, program, flag_values)
    return
  if flag_values['list'].value:
    width = max(len(experiment.name) for experiment in experiments)
    for experiment in experiments:
      print(f'{experiment.name:{width}}  {experiment.source}')
    return
  command = _understand(experiments, program, flag_values)
  if flag_values['compilation_cache'].value:
    share_compiled_programs()
  command = command._replace(
    devices=choose_devices(command.devices, command.num_columns)
  )
  print(
    f'{command.experiment.name} ({command.preset}): {command.workdir}',
    flush=True,
  )
  results = _run_all(command)
  metrics = _merged_metrics(command, results)
  write_evaluation(
    command.workdir / 'evaluation.json',
    experiment=command.experiment.name,
    preset=command.preset,
    seed=command.seed,
    steps=results[MAIN].step,
    metrics=metrics,
  )
  if len(command.settings) > 1:
    _print_settings(command, metrics)
    return
  command.experiment.report(
    Report(
      experiment=command.experiment,
      preset=command.preset,
      config=command.config,
      workdir=command.workdir,
      seeds=command.seeds,
      results=_first_states(command, results),
      metrics=metrics,
    )
  )


def _define_flags(experiments: Sequence[Experiment]) -> flags.FlagValues:
  """Defines the flags in a set of their own, so that launching repeats."""
  own = flags.FlagValues()
  once = {'flag_values': own, 'allow_overwrite': False}
  flags.DEFINE_boolean('help', False, 'print the flags', **once)
  flags.DEFINE_boolean('list', False, 'print the experiments', **once)
  flags.DEFINE_string('experiment', None, 'which experiment', **once)
  flags.DEFINE_string('preset', 'laptop', 'sizes, not the method', **once)
  flags.DEFINE_string('workdir', None, 'where everything goes', **once)
  flags.DEFINE_boolean('resume', False, 'go on where a run stopped', **once)
  flags.DEFINE_boolean(
    'eval_only', False, 'evaluate the last checkpoint again', **once
  )
  flags.DEFINE_integer('seed', 0, 'seed of the run', 0, _SEED_LIMIT, **once)
  flags.DEFINE_integer('seeds', 1, 'how many seeds, at once', 1, **once)
  flags.DEFINE_multi_string(
    'sweep', [], 'FIELD=a,b,c; repeatable', flag_values=own
  )
  flags.DEFINE_integer(
    'devices', None, 'over how many devices; on CPU, shares of it', 1, **once
  )
  flags.DEFINE_list(
    'baselines', 'all', 'which are run too: all, none, or names', **once
  )
  flags.DEFINE_boolean(
    'compilation_cache', True, 'keep compiled programs on disk', **once
  )
  presets = [
    preset
    for experiment in experiments
    for preset in experiment.presets.values()
  ]
  define_from([preset.config for preset in presets], 'config', own)
  define_from([preset.schedule for preset in presets], 'schedule', own)
  if 'config.physics' in own:
    flags.DEFINE_alias('physics', 'config.physics', flag_values=own)
  return own


def _print_help(experiments, program, flag_values) -> None:
  """Prints every flag with what it holds; those of the config last."""
  print(f'{program}: {", ".join(e.name for e in experiments)}')
  for name in sorted(flag_values, key=lambda name: ('.' in name, name)):
    print(f'  --{name:32} {flag_values[name].help}')


def _understand(experiments, program: str, flag_values) -> _Command:
  """Returns what a parsed command line asks for.

  Raises:
    InputError: if it asks for what there is not.
  """
  by_name = {experiment.name: experiment for experiment in experiments}
  name = flag_values['experiment'].value
  if name is None and len(by_name) > 1:
    raise reject('--experiment', f'one of {", ".join(by_name)}', 'none')
  name = next(iter(by_name)) if name is None else name
  check_choice('--experiment', name, list(by_name))
  experiment, preset = by_name[name], flag_values['preset'].value
  check_choice('--preset', preset, list(experiment.presets))

  config = override(experiment.presets[preset].config, 'config', flag_values)
  schedule = override(
    experiment.presets[preset].schedule, 'schedule', flag_values
  )
  sweeps = parse_sweeps(flag_values['sweep'].value, config)
  seed, num_seeds = flag_values['seed'].value, flag_values['seeds'].value
  if seed + num_seeds - 1 > _SEED_LIMIT:
    raise reject('--seed', f'seeds up to {_SEED_LIMIT}', seed)

  workdir = flag_values['workdir'].value
  if workdir is None:
    words = [name, preset, f'seed{seed}']
    words += [f'seeds{num_seeds}'] if num_seeds > 1 else []
    words += [f'sweep-{field}' for field in sweeps]
    workdir = Path('runs') / program / '-'.join(words)
  return _Command(
    experiment=experiment,
    preset=preset,
    config=config,
    settings=swept_configs(config, sweeps),
    schedule=schedule,
    seed=seed,
    seeds=tuple(range(seed, seed + num_seeds)),
    workdir=Path(workdir),
    resume=flag_values['resume'].value,
    eval_only=flag_values['eval_only'].value,
    baselines=_chosen_baselines(experiment, flag_values['baselines'].value),
    devices=flag_values['devices'].value,
  )


def _chosen_baselines(
  experiment: Experiment, names: Sequence[str]
) -> tuple[str, ...]:
  """Returns the names of the baselines to run, in the experiment's order.

  Raises:
    InputError: if there is no such baseline.
  """
  every = tuple(experiment.baselines)
  if names in (['all'], ['none']):
    return every if names == ['all'] else ()
  for name in names:
    check_choice('--baselines', name, every)
  return tuple(name for name in every if name in names)


def _run_all(command: _Command) -> dict[str, RunResult]:
  """Runs the experiment, its further evaluations and its baselines."""
  experiment = command.experiment
  if command.eval_only:
    _check_was_run(command)
  result = _run_one(command, experiment.make, MAIN, command.schedule)
  further = dict(result.evaluation)
  for name, make in experiment.evaluations.items():
    algorithm = command.algorithm(make)
    values = evaluate(algorithm, result.state, command.seed)
    further.update({f'{name}/{key}': value for key, value in values.items()})
  results = {MAIN: result._replace(evaluation=further)}
  for name in command.baselines:
    baseline = experiment.baselines[name]
    # A baseline need not measure what decides the main run's best state.
    schedule = dataclasses.replace(command.schedule, best_metric='')
    if not baseline.trained:
      schedule = dataclasses.replace(schedule, num_steps=0)
    print(f'baseline {name}:', flush=True)
    results[name] = _run_one(command, baseline.make, name, schedule)
  return results


def _run_one(command: _Command, make, name: str, schedule) -> RunResult:
  try:
    return run(
      command.algorithm(make),
      schedule,
      seed=command.seed,
      workdir=_workdir(command, name),
      config=_description(command, name),
      resume=command.resume,
      eval_only=command.eval_only,
    )
  except MemoryLimitError as error:
    raise _with_size_that_fits(command, make, schedule, error) from error


def _with_size_that_fits(
  command: _Command, make, schedule: Schedule, error: MemoryLimitError
) -> MemoryLimitError:
  """Returns the error with the largest batch that would fit."""
  field, free = command.experiment.memory_field, bytes_free(jax.devices()[0])
  size = getattr(command.config, field, None)
  if size is None or free is None:
    return error

  def bytes_of(size: int) -> int:
    settings = {
      label: config.replace(**{field: size})
      for label, config in command.settings.items()
    }
    smaller = command._replace(
      config=command.config.replace(**{field: size}), settings=settings
    )
    programs = Programs(smaller.algorithm(make), command.seed)
    return programs.bytes_of_chunk(schedule.chunk_length(0))

  chunk = getattr(command.config, 'task_chunk_size', None) or 1
  multiple = 1 if field == 'task_chunk_size' else chunk
  fits = largest_that_fits(bytes_of, size, free, multiple)
  advice = f'--config.{field}={fits} fits' if fits else f'no {field} fits'
  return MemoryLimitError(f'{error}; {advice}')


def _workdir(command: _Command, name: str) -> Path:
  if name == MAIN:
    return command.workdir
  return command.workdir / 'baselines' / name


def _check_was_run(command: _Command) -> None:
  """Checks that there is something to evaluate, before anything is done.

  Raises:
    InputError: naming what was not run.
  """
  for name in (MAIN, *command.baselines):
    workdir = _workdir(command, name)
    if not (workdir / 'config.json').exists():
      hint = f'the baseline {name} (--baselines=none)' if name else 'a run'
      raise reject('--eval_only', f'{hint} in {workdir}', 'none')


def _description(command: _Command, name: str) -> dict[str, Any]:
  """Returns what config.json says: all that decides a run's numbers."""
  description = {
    'experiment': command.experiment.name,
    'preset': command.preset,
    **{
      field.name: _plain(getattr(command.config, field.name))
      for field in dataclasses.fields(command.config)
    },
  }
  if command.is_swept:
    description['seeds'] = list(command.seeds)
    description['settings'] = list(command.settings)
  if name != MAIN:
    description['baseline'] = name
  return description


def _plain(value: Any) -> Any:
  """Returns a field's value as JSON has it, which knows no infinity."""
  if isinstance(value, (np.ndarray, np.generic, jax.Array)):
    value = value.tolist()
  if isinstance(value, float) and not math.isfinite(value):
    return repr(value)
  return value


def _merged_metrics(
  command: _Command, results: Mapping[str, RunResult]
) -> dict[str, dict[str, Any]]:
  """Summarises all results under one set of names.

  Several seeds are pooled: n counts seeds times tasks, and `per_seed` holds
  the mean of each. The settings of a sweep have their names in front.
  """
  merged = {}
  for column, label in enumerate(command.settings):
    front = f'{label}/' if label else ''
    for result_name, result in results.items():
      prefix = front + (f'{result_name}/' if result_name else '')
      for name, values in result.evaluation.items():
        of_setting = _of_setting(command, values, column)
        summary = summarise({name: of_setting.reshape(-1)})[name]
        if len(command.seeds) > 1:
          summary['per_seed'] = summarise({name: of_setting})[name]['mean']
        merged[prefix + name] = summary
  return merged


def _of_setting(command: _Command, values: np.ndarray, column: int):
  """Returns a setting's `[seeds, num_tasks]` part of evaluated values."""
  return values.reshape(
    len(command.settings), len(command.seeds), values.shape[-1]
  )[column]


def _first_states(
  command: _Command, results: Mapping[str, RunResult]
) -> dict[str, RunResult]:
  """Returns results in the form of one run: what a report can draw from."""
  if not command.is_swept:
    return dict(results)
  return {
    name: result._replace(
      state=jax.tree.map(lambda leaf: leaf[0], result.state.columns),
      evaluation={
        key: values.reshape(-1) for key, values in result.evaluation.items()
      },
    )
    for name, result in results.items()
  }


def _print_settings(command: _Command, metrics: Mapping[str, Any]) -> None:
  """Prints a table of the sweep's settings for every evaluated metric."""
  names = [
    name.removeprefix(f'{next(iter(command.settings))}/')
    for name in metrics
    if name.startswith(f'{next(iter(command.settings))}/')
  ]
  for name in names:
    rows = [(label, metrics[f'{label}/{name}']) for label in command.settings]
    print_table(rows, title=name)
