"""Images: more gradient steps than trained for, and distorted images."""

from collections.abc import Mapping
from fractions import Fraction
import functools
from typing import Any

import jax
import numpy as np

from experiments.few_shot_images import (
  ImageConfig,
  classification,
  from_scratch,
  image_curve,
  image_learner,
  images,
  trained,
)
from experiments.maml_images import accuracy_curve, image_presets, per_cent
from metajax.core.algorithm import Algorithm
from metajax.core.conditions import learner_under_conditions, under_conditions
from metajax.core.learner import Learner
from metajax.learners.black_box import attentive, black_box, one_hot
from metajax.learners.meta_networks import meta_networks
from metajax.learners.task_losses import accuracy, cross_entropy
from metajax.nets.fast_weights import AugmentedClassifier
from metajax.nets.sequence import classification_snail
from metajax.nets.vision import omniglot_network
from metajax.run.figures.adaptation_curves import Curve, adaptation_curve
from metajax.run.figures.filmstrips import filmstrip
from metajax.run.figures.learning_curves import learning_curve
from metajax.run.launch import Baseline, Experiment, Report
from metajax.run.tables import print_table
from metajax.tasks.image_classification import LabelledImages
from metajax.tasks.image_distortion import distorted

_SIZE = 105  # pixels of the drawings, which are distorted before they shrink
_FEATURES = 64  # of an image, to those that read
_DRAWN_CLASSES = 8
_UNDISTORTED = 'undistorted'
_SCALES = {
  f'scale {scale}': float(scale)
  for scale in map(Fraction, ('1/3', '1/2', '2/3', '3/2', '2'))
}
_SHEARS = {
  f'shear {turn} pi': float(turn) * np.pi
  for turn in map(Fraction, ('-1/4', '-1/6', '-1/8', '1/8', '1/6', '1/4'))
}
_CONDITIONS = (_UNDISTORTED, *_SCALES, *_SHEARS)
_METHODS = {'MAML': '', 'SNAIL': 'snail/', 'MetaNet': 'meta_networks/'}
# Released values of Finn 2018, Figure 8, in the order of the conditions.
_REPORTED = {
  'MAML': (98.93, 75.5, 94.5, 98.1, 96.0, 83.5)
  + (97.4, 98.8, 99.07, 99.07, 99.08, 97.7),
  'SNAIL': (98.95, 74.2, 93.5, 97.6, 93.9, 79.7)
  + (94.0, 98.0, 98.6, 98.79, 98.3, 94.4),
  'MetaNet': (98.2, 62.0, 88.6, 94.8, 90.5, 75.0)
  + (89.6, 95.3, 96.3, 96.2, 94.6, 86.7),
}
# Released values of Finn 2018, Figures 7 and 9: per cent after so many steps.
_FINE_TUNED = {
  5: {'MAML': {1: 98.9, 100: 98.9}, 'random': {10: 53.5, 100: 55.3}},
  20: {
    'MAML': {1: 6.1, 2: 74.9, 3: 91.4, 4: 94.6, 5: 96.4, 100: 96.4},
    'random': {10: 31.1, 100: 32.7},
  },
}


def maml_of_many_steps(config: ImageConfig) -> Algorithm:
  """Makes MAML that is tested, but not validated, with many more steps."""
  learner = image_learner(config)
  return trained(
    config, learner, image_curve(config), validation_learner=learner
  )


def distorted_maml(config: ImageConfig) -> Algorithm:
  """Makes MAML, tested on distorted images."""
  return _under_distortions(config, image_learner(config), image_curve(config))


def distorted_snail(config: ImageConfig) -> Algorithm:
  """Makes SNAIL, tested on distorted images."""
  learner = black_box(
    attentive(classification_snail(config.ways, config.shots)),
    cross_entropy,
    tell=one_hot(config.ways),
    embedding=omniglot_network(_FEATURES, filters=config.filters),
    measures=accuracy,
  )
  return _under_distortions(config, learner, learner)


def distorted_meta_networks(config: ImageConfig) -> Algorithm:
  """Makes MetaNet, tested on distorted images."""
  network = AugmentedClassifier(
    config.ways, filters=config.filters, features=_FEATURES
  )
  learner = meta_networks(network)
  return _under_distortions(config, learner, learner)


def _under_distortions(
  config: ImageConfig, learner: Learner, test_learner: Learner
) -> Algorithm:
  """Trains on images as they are, and tests under every condition."""
  training = classification(config, _shrunk(config, 'train'), 'train')
  validation = _shrunk(config, 'validation')
  conditions = _distorted_test_images(config.dataset, config.data_dir)
  test = classification(config, conditions[_UNDISTORTED], 'test')
  return trained(
    config,
    learner,
    learner_under_conditions(test_learner, list(conditions)),
    tasks=training,
    validation_tasks=classification(config, validation, 'validation'),
    test_tasks=under_conditions(test, conditions),
    validation_learner=test_learner,
  )


def _shrunk(config, split: str) -> LabelledImages:
  """Returns images as they are, through the same sampling as distorted ones."""
  return distorted(images(config, split, size=_SIZE))


@functools.cache
def _distorted_test_images(
  dataset: str, data_dir: str
) -> dict[str, LabelledImages]:
  """Returns the held-out images under every condition; one set a run."""
  config = ImageConfig(dataset=dataset, data_dir=data_dir)
  drawings = images(config, 'test', size=_SIZE)
  found = {_UNDISTORTED: distorted(drawings)}
  for name, scale in _SCALES.items():
    found[name] = distorted(drawings, scale=scale)
  for name, shear in _SHEARS.items():
    found[name] = distorted(drawings, shear=shear)
  return found


def report_distortions(report: Report) -> None:
  """Prints the tables beside the released values and draws the figures."""
  methods = {
    label: prefix
    for label, prefix in _METHODS.items()
    if prefix.rstrip('/') in report.results
  }
  for label, prefix in methods.items():
    reported = zip(_CONDITIONS, _REPORTED[label], strict=True)
    print_table(
      [(name, _accuracy(report, prefix, name)) for name in _CONDITIONS],
      dict(reported),
      title=(
        f'Accuracy (%) of {label}, {report.config.ways}-way '
        f'{report.config.shots}-shot on distorted {report.config.dataset}. '
        'Paper: released values of Finn 2018, Figure 8, on Omniglot'
      ),
    )
  figures = report.workdir / 'figures'
  for what, values in (
    ('scale', {_UNDISTORTED: 1.0, **_SCALES}),
    ('shear', {_UNDISTORTED: 0.0, **_SHEARS}),
  ):
    order = sorted(values, key=lambda name, values=values: values[name])
    adaptation_curve(
      figures / f'by_{what}.png',
      {
        label: _over(report, prefix, order, [values[name] for name in order])
        for label, prefix in methods.items()
      },
      title=f'Held-out classes, images of another {what}',
      ylabel='accuracy (%)',
      xlabel=f'{what} (rad)' if what == 'shear' else what,
    )
  learning_curve(
    figures / 'learning_curve.png',
    {
      label: report.results[prefix.rstrip('/')].history
      for label, prefix in methods.items()
    },
    'accuracy',
    title='Accuracy of the answers, in meta-training',
    ylabel='share classified right',
  )
  filmstrip(
    figures / 'distortions.png',
    _same_drawings(report),
    title='Held-out drawings under every condition',
  )


def _accuracy(report, prefix: str, condition: str) -> Mapping[str, Any]:
  """Returns the accuracy after the last gradient step, in per cent."""
  name = f'{prefix}{condition}/accuracy'
  if name not in report.metrics:
    name = f'{name}/step_{report.config.num_test_steps}'
  return per_cent(report.metrics[name])


def _over(report, prefix: str, conditions, values) -> Curve:
  cells = [_accuracy(report, prefix, name) for name in conditions]
  return Curve(
    mean=[cell['mean'] for cell in cells],
    ci95=[cell['ci95'] for cell in cells],
    steps=values,
  )


def report_extra_steps(report: Report) -> None:
  """Prints the table beside the released values and draws the figure."""
  config = report.config
  methods = {'MAML': ''}
  if 'from_scratch' in report.results:
    methods['random'] = 'from_scratch/'
  reported = _FINE_TUNED.get(config.ways, {})
  rows = []
  for label, prefix in methods.items():
    for step in (0, 1, 2, 3, 5, 10, 20, 50, 100):
      name = f'{prefix}accuracy/step_{step}'
      if name in report.metrics:
        row = f'{label}, {step} steps'
        rows.append((row, per_cent(report.metrics[name])))
  print_table(
    rows,
    {
      f'{label}, {step} steps': value
      for label, values in reported.items()
      for step, value in values.items()
    },
    title=(
      f'Accuracy (%) on queries, {config.ways}-way {config.shots}-shot on '
      f'held-out classes of {config.dataset}; trained for '
      f'{config.num_inner_steps} gradient steps. Paper: on Omniglot'
    ),
  )
  figures = report.workdir / 'figures'
  curves = {}
  for label, prefix in methods.items():
    curves[f'{label}, query'] = accuracy_curve(report, prefix)
    curves[f'{label}, support'] = accuracy_curve(
      report, prefix, measure='support_accuracy'
    )
  adaptation_curve(
    figures / 'extra_steps.png',
    curves,
    title=f'{config.ways}-way {config.shots}-shot, fine-tuned for long',
    ylabel='accuracy (%)',
    xlabel='gradient steps',
  )
  learning_curve(
    figures / 'learning_curve.png',
    {'MAML': report.results[''].history},
    'accuracy',
    title='Accuracy after adaptation, in meta-training',
    ylabel='share classified right',
  )


def _same_drawings(report) -> dict[str, np.ndarray]:
  """Returns the first drawing of some held-out classes, by condition."""
  config = report.config
  conditions = _distorted_test_images(config.dataset, config.data_dir)

  def drawings(found):
    first = jax.device_get(found.images[found.first[:_DRAWN_CLASSES]])
    return np.broadcast_to(first, (*first.shape[:-1], 3))  # grey or coloured

  return {name: drawings(found) for name, found in conditions.items()}


def _extra_steps(ways: int) -> Experiment:
  config = ImageConfig(ways=ways, num_test_steps=100)
  if ways == 20:
    config = config.replace(
      inner_lr=0.1,
      from_scratch_inner_lr=0.1,
      num_inner_steps=5,
      meta_batch_size=16,
    )
  return Experiment(
    name=f'extra_steps_{ways}_way',
    source=f'Finn 2018, Figures 7 and 9: 100 gradient steps, {ways}-way',
    presets=image_presets(
      config,
      num_steps=3000 if ways == 5 else 6000,
      laptop={
        'filters': 32,
        'meta_batch_size': 8 if ways == 5 else 4,
        'validate_every': 500,
        'num_test_tasks': 100,
      },
      smoke={'num_test_steps': 6},
    ),
    make=maml_of_many_steps,
    baselines={'from_scratch': Baseline(from_scratch, trained=False)},
    report=report_extra_steps,
  )


EXPERIMENTS = (
  _extra_steps(5),
  _extra_steps(20),
  Experiment(
    name='image_distortions',
    source='Finn 2018, Figure 8: scaled and sheared images, 5-way 1-shot',
    presets=image_presets(
      ImageConfig(),
      num_steps=3000,
      laptop={
        'filters': 32,
        'meta_batch_size': 8,
        'validate_every': 500,
        'num_test_tasks': 200,
      },
    ),
    make=distorted_maml,
    baselines={
      'snail': Baseline(distorted_snail),
      'meta_networks': Baseline(distorted_meta_networks),
    },
    report=report_distortions,
  ),
)
