"""MAML on few-shot images (Finn 2018, section 4.6.2)."""

from collections.abc import Mapping

import jax
import numpy as np

from experiments.few_shot_images import (
  ImageConfig,
  context_vector,
  first_order,
  from_scratch,
  image_maml,
  image_tasks,
  nearest_pixels,
  pretrained,
)
from metajax.core.algorithm import evaluation_key
from metajax.run.figures.adaptation_curves import Curve, adaptation_curve
from metajax.run.figures.few_shot_tasks import few_shot_task
from metajax.run.figures.learning_curves import learning_curve
from metajax.run.launch import Baseline, Experiment, Preset, Report
from metajax.run.schedule import Schedule
from metajax.run.tables import print_table

# Per cent of queries that are classified right.
_OMNIGLOT = 'Finn 2018, section 4.6.2, the table of Omniglot'
_MINI_IMAGENET = 'Finn 2018, section 4.6.2, the table of MiniImagenet'
_REPORTED = {
  ('omniglot', 5, 1): {'MAML': 98.7, 'context vector': 94.9},
  ('omniglot', 5, 5): {'MAML': 99.9, 'context vector': 97.7},
  ('omniglot', 20, 1): {'MAML': 95.8},
  ('omniglot', 20, 5): {'MAML': 98.9},
  ('mini_imagenet', 5, 1): {
    'MAML': 48.70,
    'MAML, first order': 48.07,
    'pretrained': 28.86,
  },
  ('mini_imagenet', 5, 5): {
    'MAML': 63.11,
    'MAML, first order': 63.15,
    'pretrained': 49.79,
  },
}

# Of the laptop preset. Five ways: first order takes three times as long to
# learn, and has come within three points of second order by then. Twenty ways:
# about twenty minutes, which is not its end.
_LAPTOP_STEPS = {(5, 1): 18_000, (5, 5): 6000, (20, 1): 6000, (20, 5): 1500}

_BASELINES = {
  'first_order': ('MAML, first order', first_order, True),
  'context_vector': ('context vector', context_vector, True),
  'pretrained': ('pretrained', pretrained, True),
  'from_scratch': ('from scratch', from_scratch, False),
  'nearest_neighbour': ('nearest neighbour', nearest_pixels, False),
}


def report(report: Report) -> None:
  """Prints the table beside the thesis's and draws the figures."""
  config, metrics = report.config, report.metrics
  methods = {'MAML': ''} | {
    label: f'{name}/'
    for name, (label, _, _) in _BASELINES.items()
    if name in report.results
  }
  rows = []
  for label, prefix in methods.items():
    for step in (0, config.num_test_steps):
      cell = metrics.get(f'{prefix}accuracy/step_{step}')
      if cell is not None:
        name = label if step else f'{label}, unadapted'
        rows.append((name, per_cent(cell)))
    if f'{prefix}accuracy' in metrics:
      rows.append((label, per_cent(metrics[f'{prefix}accuracy'])))
  print_table(
    rows,
    _REPORTED.get((config.dataset, config.ways, config.shots)),
    title=(
      f'Accuracy (%), {config.ways}-way {config.shots}-shot on held-out '
      f'classes of {config.dataset}, {config.num_test_steps} gradient steps'
    ),
  )
  figures = report.workdir / 'figures'
  learning_curve(
    figures / 'learning_curve.png',
    {
      label: report.results[prefix.rstrip('/')].history
      for label, prefix in methods.items()
      if prefix in ('', 'first_order/', 'context_vector/')
    },
    'accuracy',
    title='Accuracy after adaptation, in meta-training',
    ylabel='share classified right',
  )
  adaptation_curve(
    figures / 'adaptation.png',
    {
      label: accuracy_curve(report, prefix)
      for label, prefix in methods.items()
      if f'{prefix}accuracy/step_0' in metrics
    },
    title=f'{config.ways}-way {config.shots}-shot, held-out classes',
    ylabel='accuracy (%)',
    xlabel='gradient steps',
  )
  few_shot_task(
    figures / 'task.png',
    *_first_task(report),
    title='A held-out task and its labels: support, then query',
  )


def per_cent(cell: Mapping) -> dict:
  """Returns the mean and interval of a share as per cent."""
  return {**cell, 'mean': 100 * cell['mean'], 'ci95': 100 * cell['ci95']}


def accuracy_curve(
  report: Report, prefix: str, *, measure: str = 'accuracy'
) -> Curve:
  """Returns the accuracy in per cent after every gradient step."""
  cells = []
  while f'{prefix}{measure}/step_{len(cells)}' in report.metrics:
    cells.append(
      per_cent(report.metrics[f'{prefix}{measure}/step_{len(cells)}'])
    )
  return Curve(
    mean=[cell['mean'] for cell in cells], ci95=[cell['ci95'] for cell in cells]
  )


def _first_task(report) -> tuple[np.ndarray, np.ndarray]:
  """Returns the first held-out task's support and query, by class."""
  tasks = image_tasks(report.config, 'test')
  key = evaluation_key(jax.random.key(report.seeds[0]))
  episode = jax.jit(tasks.sample)(tasks.data, key)
  return tuple(
    np.asarray(inputs).reshape(report.config.ways, -1, *inputs.shape[1:])
    for inputs in (episode.support.inputs, episode.query.inputs)
  )


def _experiment(
  name: str,
  source: str,
  config: ImageConfig,
  *,
  num_steps: int,
  laptop: Mapping,
  smoke: Mapping | None = None,
) -> Experiment:
  """Returns an experiment whose laptop preset is of smaller sizes."""
  return Experiment(
    name=name,
    source=source,
    presets=image_presets(
      config, num_steps=num_steps, laptop=laptop, smoke=smoke
    ),
    make=image_maml,
    baselines={
      name: Baseline(make, trained=is_trained)
      for name, (_, make, is_trained) in _BASELINES.items()
    },
    report=report,
  )


def image_presets(
  config: ImageConfig,
  *,
  num_steps: int,
  laptop: Mapping,
  smoke: Mapping | None = None,
) -> dict[str, Preset]:
  """Returns the presets of an experiment on images.

  Args:
    config: the paper's settings.
    num_steps: meta-iterations of the laptop preset.
    laptop: what its config has other than the paper's.
    smoke: what the smoke preset's config has other than those of all.
  """

  def schedule(num_steps):
    return Schedule(num_steps=num_steps, log_every=max(1, num_steps // 50))

  small = config.replace(task_chunk_size=1, **laptop)
  return {
    'smoke': Preset(
      small.replace(
        filters=8,
        meta_batch_size=2,
        num_test_tasks=4,
        validate_every=2,
        pretraining_batch_size=4,
      ).replace(**({} if smoke is None else smoke)),
      schedule(4),
    ),
    'laptop': Preset(small, schedule(num_steps)),
    'paper': Preset(config, schedule(60_000)),
  }


def _table(dataset: str, source: str) -> tuple[Experiment, ...]:
  """Returns the four cells of the table of Omniglot, or of glyphs for it."""
  experiments = []
  for ways, shots in ((5, 1), (5, 5), (20, 1), (20, 5)):
    five = ImageConfig(
      dataset=dataset,
      ways=ways,
      shots=shots,
      query_shots=shots,
      test_query_shots=shots,
    )
    twenty = five.replace(
      inner_lr=0.1,
      context_inner_lr=0.1,
      num_inner_steps=5,
      num_test_steps=5,
      meta_batch_size=16,
    )
    experiments.append(
      _experiment(
        f'{dataset}_{ways}_way_{shots}_shot',
        source,
        five if ways == 5 else twenty,
        num_steps=_LAPTOP_STEPS[ways, shots],
        laptop={
          'filters': 32,
          'meta_batch_size': 4,
          'validate_every': 250,
          'num_test_tasks': 200,
        },
      )
    )
  return tuple(experiments)


def _mini_imagenet(shots: int, meta_batch_size: int) -> Experiment:
  return _experiment(
    f'mini_imagenet_5_way_{shots}_shot',
    _MINI_IMAGENET,
    ImageConfig(
      dataset='mini_imagenet',
      inner_lr=0.01,
      context_inner_lr=0.01,
      clip=10.0,
      filters=32,
      shots=shots,
      query_shots=15,
      test_query_shots=shots,
      num_inner_steps=5,
      num_test_steps=10,
      meta_batch_size=meta_batch_size,
      rematerialise=True,
    ),
    num_steps=1000,
    laptop={
      'filters': 16,
      'meta_batch_size': 2,
      'query_shots': 5,
      'validate_every': 250,
      'num_test_tasks': 100,
    },
    smoke={'num_inner_steps': 1, 'num_test_steps': 3, 'query_shots': 1},
  )


EXPERIMENTS = (
  *_table('glyphs', f'{_OMNIGLOT}, on drawn glyphs that need no download'),
  *_table('omniglot', _OMNIGLOT),
  _mini_imagenet(1, meta_batch_size=4),
  _mini_imagenet(5, meta_batch_size=2),
)
