"""What an experiment is: presets, an algorithm, baselines and a report."""

from collections.abc import Callable, Mapping
import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

from metajax.core.algorithm import Algorithm
from metajax.run.loop import RunResult
from metajax.run.schedule import Schedule


class Preset(NamedTuple):
  """The sizes of an experiment: never another method.

  Attributes:
    config: instance of the system's frozen `flax.struct` dataclass.
    schedule: when to log, evaluate and save.
  """

  config: Any
  schedule: Schedule


class Baseline(NamedTuple):
  """What an experiment is compared with.

  Attributes:
    make: makes its algorithm from the experiment's config.
    trained: whether it is trained; if not, its initial state is evaluated.
  """

  make: Callable[[Any], Algorithm]
  trained: bool = True


class Report(NamedTuple):
  """All that an experiment's report draws and prints from.

  With several seeds, the results hold the state of the first seed, and the
  evaluated values of all seeds behind each other.

  Attributes:
    experiment: the experiment.
    preset: name of the preset.
    config: the config, with what the command line changed.
    workdir: where `figures/` and `videos/` go.
    seeds: seeds that were run.
    results: results of the main run, under '', and of each baseline.
    metrics: name to `{'mean', 'ci95', 'n'}`, as in evaluation.json.
  """

  experiment: 'Experiment'
  preset: str
  config: Any
  workdir: Path
  seeds: tuple[int, ...]
  results: dict[str, RunResult]
  metrics: dict[str, dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Experiment:
  """One table or figure of a paper, ready to be run.

  Attributes:
    name: what `--experiment` calls it.
    source: the paper's table or figure, with what it measured.
    presets: smoke, laptop, paper.
    make: makes the algorithm of a config.
    baselines: each runs into `baselines/NAME/`; its metrics are `NAME/...`.
    report: prints the table beside the paper's and draws the figures.
    evaluations: further evaluations of the trained state by algorithms that
      share its form; their metrics are `NAME/...`.
    memory_field: the field of the config that memory hangs on, a count of
      tasks; where it does not suffice, the largest that does is named.
  """

  name: str
  source: str
  presets: Mapping[str, Preset]
  make: Callable[[Any], Algorithm]
  baselines: Mapping[str, Baseline]
  report: Callable[[Report], None]
  evaluations: Mapping[str, Callable[[Any], Algorithm]] = dataclasses.field(
    default_factory=dict
  )
  memory_field: str = 'meta_batch_size'
