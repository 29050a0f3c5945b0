"""Sinusoids in and out of distribution, MAML and black-box learners."""

from collections.abc import Mapping
import math
from typing import Any

from flax import struct
import jax
import optax

from metajax.core.algorithm import Algorithm
from metajax.core.conditions import learner_under_conditions, under_conditions
from metajax.core.learner import Learner, TaskFamily
from metajax.core.meta_training import meta_train
from metajax.core.selection import select_best
from metajax.core.validation import check_positive
from metajax.learners.black_box import attentive, black_box, recurrent
from metajax.learners.maml import fine_tuning_curve, maml
from metajax.learners.task_losses import squared_error
from metajax.nets.perceptrons import Perceptron
from metajax.nets.recurrent import StackedLstm
from metajax.nets.sequence import regression_snail
from metajax.run.figures.adaptation_curves import Curve, adaptation_curve
from metajax.run.figures.learning_curves import learning_curve
from metajax.run.launch import Baseline, Experiment, Preset, Report
from metajax.run.schedule import Schedule
from metajax.run.tables import print_table
from metajax.tasks.regression import (
  reveal_task,
  sinusoid_ranges,
  sinusoids,
  sinusoids_within,
)

_IN_DISTRIBUTION = 'in distribution'
_GREATER_AMPLITUDE = 'amplitude 5 to 10'
_FURTHER_PHASE = 'phase pi to 2 pi'
_AMPLITUDES = {
  f'amplitude {value:g}': value for value in (5.0, 6.0, 7.0, 8.0, 9.0, 10.0)
}
_PHASES = {f'phase {turn:g} pi': turn for turn in (1.0, 1.25, 1.5, 1.75, 2.0)}
_CONDITIONS = {
  _IN_DISTRIBUTION: sinusoid_ranges(),
  _GREATER_AMPLITUDE: sinusoid_ranges(amplitude_range=(5.0, 10.0)),
  _FURTHER_PHASE: sinusoid_ranges(phase_range=(math.pi, 2.0 * math.pi)),
  **{
    name: sinusoid_ranges(amplitude_range=(value, value))
    for name, value in _AMPLITUDES.items()
  },
  **{
    name: sinusoid_ranges(phase_range=(turn * math.pi, turn * math.pi))
    for name, turn in _PHASES.items()
  },
}
# Label to what stands in front of a method's metrics.
_FINE_TUNED = {
  'MAML': '',
  'task-conditioned, 0.001': 'task_conditioned/',
  'task-conditioned, 0.000005': 'task_conditioned/slow/',
}
_BLACK_BOXES = {'SNAIL': 'snail/', 'recurrent': 'recurrent/'}
_SHOWN_STEPS = (0, 1, 5, 10, 20, 100)
# Released values, mean squared error after so many gradient steps.
_REPORTED = {
  (_IN_DISTRIBUTION, 'MAML'): (2.89, 0.53, 0.047, 0.027, 0.020, 0.017),
  (_GREATER_AMPLITUDE, 'MAML'): (22.4, 8.1, 4.3, 3.4, 3.2, 2.8),
  (_FURTHER_PHASE, 'MAML'): (7.9, 2.7, 1.20, 0.93, 0.84, 0.74),
  (_GREATER_AMPLITUDE, 'task-conditioned, 0.001'): (
    *(6.9, 21.8, 20.7),
    *(14.9, 14.3, 13.1),
  ),
  (_FURTHER_PHASE, 'task-conditioned, 0.001'): (
    *(2.90, 2.11, 1.69),
    *(1.65, 1.60, 1.49),
  ),
  (_GREATER_AMPLITUDE, 'task-conditioned, 0.000005'): (
    *(6.7, 6.8, 6.7),
    *(6.5, 6.3, 6.1),
  ),
  (_FURTHER_PHASE, 'task-conditioned, 0.000005'): (
    *(2.38, 2.36, 2.35),
    *(2.32, 2.29, 2.10),
  ),
}
_REPORTED_OF_SNAIL = {
  _IN_DISTRIBUTION: 0.0089,
  _GREATER_AMPLITUDE: 4.86,
  _FURTHER_PHASE: 8.13,
  **dict(
    zip(_AMPLITUDES, (0.059, 0.300, 1.44, 4.44, 9.81, 17.69), strict=True)
  ),
  **dict(zip(_PHASES, (0.036, 5.27, 19.45, 7.15, 0.048), strict=True)),
}
_REPORTED_OF_MAML = {
  **dict(zip(_AMPLITUDES, (0.052, 0.341, 1.22, 2.89, 5.51, 9.49), strict=True)),
  **dict(zip(_PHASES, (0.020, 0.615, 1.92, 0.421, 0.026), strict=True)),
}


@struct.dataclass
class SinusoidCurvesConfig:
  """Settings of the sinusoid curves; the defaults are the thesis's.

  Floats are leaves and may be swept; the rest is static.
  """

  inner_lr: float = 1e-3  # alpha
  outer_lr: float = 1e-3  # beta, of Adam
  slow_inner_lr: float = 5e-6  # the other one of the task-conditioned network
  num_inner_steps: int = struct.field(pytree_node=False, default=5)
  meta_batch_size: int = struct.field(pytree_node=False, default=25)
  # Of a held-out task the weights after every step are kept: not of all tasks.
  task_chunk_size: int | None = struct.field(pytree_node=False, default=25)
  shots: int = struct.field(pytree_node=False, default=5)
  query_shots: int = struct.field(pytree_node=False, default=5)
  hidden_sizes: tuple[int, ...] = struct.field(
    pytree_node=False, default=(100, 100)
  )
  bias_transformation_size: int = struct.field(pytree_node=False, default=10)
  recurrent_sizes: tuple[int, ...] = struct.field(
    pytree_node=False, default=(100,)
  )
  validate_every: int = struct.field(pytree_node=False, default=2000)
  num_test_steps: int = struct.field(pytree_node=False, default=100)
  num_test_tasks: int = struct.field(pytree_node=False, default=1200)
  test_query_shots: int = struct.field(pytree_node=False, default=100)


def maml_curves(config: SinusoidCurvesConfig) -> Algorithm:
  """Makes MAML, fine-tuned far longer than it was trained for."""
  check_positive('inner_lr', config.inner_lr)
  network = _perceptron(config)
  return _trained(
    config,
    maml(
      network,
      inner_lr=config.inner_lr,
      num_inner_steps=config.num_inner_steps,
    ),
    _curve(config, config.inner_lr),
  )


def task_conditioned(config: SinusoidCurvesConfig) -> Algorithm:
  """Makes the network that is told the task, then fine-tuned.

  It is tested twice on the same tasks: with the step size alpha, and, under
  `slow/`, with the small one.
  """
  algorithm, slow = (
    _task_conditioned(config, inner_lr)
    for inner_lr in (config.inner_lr, config.slow_inner_lr)
  )

  def evaluate(data, state, key):
    same_key = jax.random.clone(key)
    return algorithm.evaluate(data, state, key) | {
      f'slow/{name}': values
      for name, values in slow.evaluate(data, state, same_key).items()
    }

  return algorithm._replace(evaluate=evaluate)


def snail(config: SinusoidCurvesConfig) -> Algorithm:
  """Makes SNAIL."""
  learner = black_box(attentive(regression_snail()), squared_error)
  return _trained(config, learner, learner)


def recurrent_learner(config: SinusoidCurvesConfig) -> Algorithm:
  """Makes the LSTM that reads the points."""
  network = StackedLstm(config.recurrent_sizes, output_size=1)
  learner = black_box(recurrent(network), squared_error)
  return _trained(config, learner, learner)


def _task_conditioned(config, inner_lr: float) -> Algorithm:
  check_positive('inner_lr', inner_lr)
  return _trained(
    config,
    maml(_perceptron(config), inner_lr=inner_lr, num_inner_steps=0),
    _curve(config, inner_lr),
    wrap=reveal_task,
  )


def _perceptron(config) -> Perceptron:
  return Perceptron(
    config.hidden_sizes,
    output_size=1,
    bias_transformation_size=config.bias_transformation_size,
  )


def _curve(config, inner_lr: float) -> Learner:
  return fine_tuning_curve(
    _perceptron(config), inner_lr=inner_lr, num_steps=config.num_test_steps
  )


def _trained(
  config, learner: Learner, test_learner: Learner, *, wrap=lambda tasks: tasks
) -> Algorithm:
  """Trains in distribution, and tests the best state under all conditions."""
  check_positive('outer_lr', config.outer_lr)
  tasks = wrap(sinusoids(shots=config.shots, query_shots=config.query_shots))

  def on(held_out: TaskFamily, tester: Learner) -> Algorithm:
    return meta_train(
      learner,
      tasks,
      # One vector for the whole of a small network is quicker than leaves.
      optax.flatten(optax.adam(config.outer_lr)),
      meta_batch_size=config.meta_batch_size,
      task_chunk_size=config.task_chunk_size,
      test_learner=tester,
      test_tasks=held_out,
      num_test_tasks=config.num_test_tasks,
    )

  within = sinusoids_within(
    _CONDITIONS[_IN_DISTRIBUTION],
    shots=config.shots,
    query_shots=config.test_query_shots,
  )
  return select_best(
    on(
      under_conditions(wrap(within), _CONDITIONS),
      learner_under_conditions(test_learner, list(_CONDITIONS)),
    ),
    'query_loss',
    every=config.validate_every,
    validation=on(tasks, learner),
  )


def report(report: Report) -> None:
  """Prints the tables beside the released values and draws the figures."""
  fine_tuned, black_boxes = (
    {
      label: prefix
      for label, prefix in methods.items()
      if _method(prefix) in report.results
    }
    for methods in (_FINE_TUNED, _BLACK_BOXES)
  )
  figures = report.workdir / 'figures'
  for condition, name in (
    (_IN_DISTRIBUTION, 'in_distribution'),
    (_GREATER_AMPLITUDE, 'greater_amplitude'),
    (_FURTHER_PHASE, 'further_phase'),
  ):
    _print_curves(report, condition, fine_tuned, black_boxes)
    adaptation_curve(
      figures / f'{name}.png',
      {
        label: _over_steps(report, condition, prefix)
        for label, prefix in fine_tuned.items()
      }
      | {
        label: _constant(report, condition, prefix)
        for label, prefix in black_boxes.items()
      },
      title=f'{report.config.shots} points of a sinusoid, {condition}',
      ylabel='mean squared error',
      xlabel='gradient steps',
      log_scale=True,
    )
  for values, name, what in (
    (_AMPLITUDES, 'by_amplitude', 'amplitude'),
    (_PHASES, 'by_phase', 'phase (pi)'),
  ):
    last = report.config.num_test_steps
    suffixes = {'MAML': f'query_loss/step_{last}'} | dict.fromkeys(
      black_boxes, 'query_loss'
    )
    prefixes = {'MAML': '', **black_boxes}
    for label, suffix in suffixes.items():
      print_table(
        [
          (condition, report.metrics[f'{prefixes[label]}{condition}/{suffix}'])
          for condition in values
        ],
        _REPORTED_OF_MAML
        if label == 'MAML'
        else _REPORTED_OF_SNAIL
        if label == 'SNAIL'
        else None,
        title=f'Mean squared error of {label} by {what}',
      )
    adaptation_curve(
      figures / f'{name}.png',
      {
        label: _over_values(report, values, prefixes[label], suffix)
        for label, suffix in suffixes.items()
      },
      title=f'Mean squared error by {what}; MAML after {last} steps',
      ylabel='mean squared error',
      xlabel=what,
      log_scale=True,
    )
  learning_curve(
    figures / 'learning_curve.png',
    {
      label: report.results[_method(prefix)].history
      for label, prefix in (fine_tuned | black_boxes).items()
      if not prefix.endswith('slow/')
    },
    'meta/loss',
    title='Loss of the answers, in meta-training',
    ylabel='mean squared error',
    log_scale=True,
  )


def _method(prefix: str) -> str:
  """Returns the name of the results whose metrics begin so."""
  return prefix.split('/')[0]


def _print_curves(report, condition, fine_tuned, black_boxes) -> None:
  rows, reference = [], {}
  for label, prefix in fine_tuned.items():
    for index, step in enumerate(_SHOWN_STEPS):
      if step > report.config.num_test_steps:
        continue
      row = f'{label}, {step} steps'
      cell = report.metrics[f'{prefix}{condition}/query_loss/step_{step}']
      rows.append((row, cell))
      if (condition, label) in _REPORTED:
        reference[row] = _REPORTED[condition, label][index]
  for label, prefix in black_boxes.items():
    rows.append((label, report.metrics[f'{prefix}{condition}/query_loss']))
  reference['SNAIL'] = _REPORTED_OF_SNAIL[condition]
  print_table(
    rows,
    reference,
    title=(
      f'Mean squared error on {report.config.shots} points, {condition}. '
      'Paper: released values of Finn 2018, Figures 7 and 8'
    ),
  )


def _over_steps(report, condition, prefix) -> Curve:
  names = [
    f'{prefix}{condition}/query_loss/step_{step}'
    for step in range(report.config.num_test_steps + 1)
  ]
  return _curve_of([report.metrics[name] for name in names])


def _constant(report, condition, prefix) -> Curve:
  """Returns what takes no gradient steps, from the first to the last."""
  cell = report.metrics[f'{prefix}{condition}/query_loss']
  return _curve_of([cell, cell], steps=(0, report.config.num_test_steps))


def _over_values(report, values, prefix, suffix) -> Curve:
  cells = [report.metrics[f'{prefix}{name}/{suffix}'] for name in values]
  return _curve_of(cells, steps=list(values.values()))


def _curve_of(cells: list[Mapping[str, Any]], steps=None) -> Curve:
  return Curve(
    mean=[cell['mean'] for cell in cells],
    ci95=[cell['ci95'] for cell in cells],
    steps=steps,
  )


def _schedule(num_steps: int) -> Schedule:
  return Schedule(num_steps=num_steps, log_every=max(1, num_steps // 70))


_CONFIG = SinusoidCurvesConfig()

EXPERIMENTS = (
  Experiment(
    name='sinusoid_curves',
    source='Finn 2018, Figures 7 and 8: sinusoids from 5 points',
    presets={
      'smoke': Preset(
        _CONFIG.replace(
          hidden_sizes=(20, 20),
          recurrent_sizes=(8,),
          meta_batch_size=4,
          task_chunk_size=4,
          num_test_steps=10,
          num_test_tasks=20,
          validate_every=10,
        ),
        _schedule(20),
      ),
      'laptop': Preset(
        _CONFIG.replace(
          meta_batch_size=10, task_chunk_size=10, num_test_tasks=200
        ),
        _schedule(20_000),
      ),
      'paper': Preset(_CONFIG, _schedule(70_000)),
    },
    make=maml_curves,
    baselines={
      'task_conditioned': Baseline(task_conditioned),
      'snail': Baseline(snail),
      'recurrent': Baseline(recurrent_learner),
    },
    report=report,
  ),
)
