"""MAML on sinusoids (Finn 2018, section 4.6.1)."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metajax.core.algorithm import Algorithm, evaluation_key
from metajax.core.learner import TaskFamily
from metajax.core.meta_training import meta_train
from metajax.core.selection import select_best
from metajax.core.validation import check_positive
from metajax.learners.maml import MamlConfig, fine_tuning_curve, maml
from metajax.learners.multi_task import multi_task
from metajax.nets.context import WithContext, context_alone
from metajax.nets.perceptrons import Perceptron
from metajax.run.evaluation import summarise
from metajax.run.figures.adaptation_curves import Curve, adaptation_curve
from metajax.run.figures.function_fits import FunctionFit, function_fits
from metajax.run.figures.learning_curves import learning_curve
from metajax.run.launch import Baseline, Experiment, Preset, Report
from metajax.run.schedule import Schedule
from metajax.run.tables import print_table
from metajax.tasks.regression import reveal_task, sinusoid, sinusoids

# Mean squared error on 5 shots after so many gradient steps: Table 10.
_TABLE_10 = {
  'MAML': {1: 0.67, 5: 0.38, 10: 0.35},
  'pretrained': {1: 2.41, 5: 2.23, 10: 2.19},
  'multi-task': {1: 4.19, 5: 3.85, 10: 3.69},
  'multi-task, of small norm': {1: 7.18, 5: 5.69, 10: 5.60},
  'multi-task, near their mean': {1: 2.91, 5: 2.72, 10: 2.71},
}
# What stands in front of a method's metrics.
_METHODS = {
  'MAML': '',
  'context vector': 'context_vector/',
  'pretrained': 'pretrained/',
  'multi-task': 'multi_task/',
  'multi-task, of small norm': 'multi_task_norm/',
  'multi-task, near their mean': 'multi_task_mean/',
  'from scratch': 'from_scratch/',
  'oracle': 'oracle/',
}
# Fine-tuning diverged above the square of the greatest amplitude.
_WORST_OF_PREDICTING_ZERO = 25.0
_SHOWN_LOSSES = (0.02, 8.0)
_DRAWN_TASKS = 4
# All the points that a network of the multi-task baselines could wish for.
_POINTS_OF_ONE_TASK = 1000


def sinusoid_maml(
  config: MamlConfig, *, test_shots: int | None = None
) -> Algorithm:
  """Makes MAML on sinusoids, tested on `test_shots`; None: the config's."""
  check_positive('inner_lr', config.inner_lr)
  return _meta_train(
    config,
    maml(
      _network(config),
      inner_lr=config.inner_lr,
      num_inner_steps=config.num_inner_steps,
      first_order=config.first_order,
      learn_inner_lr=config.learn_inner_lr,
      rematerialise=config.rematerialise,
    ),
    test_inner_lr=config.inner_lr,
    test_shots=test_shots,
  )


def pretrained(config: MamlConfig) -> Algorithm:
  """Makes the baseline that regresses all tasks at once, then fine-tunes."""
  return _meta_train(
    config,
    maml(_network(config), inner_lr=config.inner_lr, num_inner_steps=0),
    test_inner_lr=config.pretrained_inner_lr,
  )


def from_scratch(config: MamlConfig) -> Algorithm:
  """Makes the baseline that fine-tunes random weights."""
  return _meta_train(
    config,
    maml(_network(config), inner_lr=config.inner_lr, num_inner_steps=0),
    test_inner_lr=config.from_scratch_inner_lr,
  )


def oracle(config: MamlConfig) -> Algorithm:
  """Makes the upper bound, which is told amplitude and phase."""
  return _meta_train(
    config,
    maml(_network(config), inner_lr=config.inner_lr, num_inner_steps=0),
    test_inner_lr=config.inner_lr,
    num_test_steps=0,
    wrap=reveal_task,
  )


def context_vector(config: MamlConfig) -> Algorithm:
  """Makes the baseline that adapts an input of its own, and nothing else."""
  network = WithContext(_network(config), size=config.context_size)
  return _meta_train(
    config,
    maml(
      network,
      inner_lr=config.context_inner_lr,
      num_inner_steps=config.num_inner_steps,
      what_adapts=context_alone,
    ),
    test_inner_lr=config.context_inner_lr,
    test_network=network,
    what_adapts=context_alone,
  )


def multi_task_of(penalty: str) -> Callable[[MamlConfig], Algorithm]:
  """Returns what makes the mean of networks that learned one task each.

  Args:
    penalty: as of `metajax.learners.multi_task`.
  """

  def make(config: MamlConfig) -> Algorithm:
    weights = {
      'none': 0.0,
      'norm': config.norm_penalty,
      'distance_to_mean': config.mean_penalty,
    }
    check_positive('network_lr', config.network_lr)
    return multi_task(
      maml(_network(config), inner_lr=config.inner_lr, num_inner_steps=0),
      sinusoids(shots=_POINTS_OF_ONE_TASK, query_shots=1),
      optax.flatten(optax.adam(config.network_lr)),
      penalty=penalty,
      penalty_weight=weights[penalty],
      iterations_per_task=config.iterations_per_network,
      steps_per_iteration=config.updates_per_iteration,
      batch_size=config.network_batch_size,
      test_learner=fine_tuning_curve(
        _network(config),
        inner_lr=config.multi_task_inner_lr,
        num_steps=config.num_test_steps,
      ),
      test_tasks=_test_tasks(config, config.test_shots),
      num_test_tasks=config.num_test_tasks,
    )

  return make


def _selected(make, **settings) -> Callable[[MamlConfig], Algorithm]:
  """Has an algorithm tested with its best state, by validation."""
  return lambda config: select_best(
    make(config, **settings), 'query_loss', every=config.validate_every
  )


def _network(config):
  return Perceptron(
    config.hidden_sizes,
    output_size=1,
    bias_transformation_size=config.bias_transformation_size,
  )


def _meta_train(
  config,
  learner,
  *,
  test_inner_lr,
  test_shots=None,
  num_test_steps=None,
  test_network=None,
  what_adapts=None,
  wrap=lambda tasks: tasks,
):
  check_positive('outer_lr', config.outer_lr)
  steps = config.num_test_steps if num_test_steps is None else num_test_steps
  shots = config.test_shots if test_shots is None else test_shots
  return meta_train(
    learner,
    wrap(sinusoids(shots=config.shots, query_shots=config.query_shots)),
    # One vector for the whole of a small network is quicker than many leaves.
    optax.flatten(optax.adam(config.outer_lr)),
    meta_batch_size=config.meta_batch_size,
    task_chunk_size=config.task_chunk_size,
    test_learner=fine_tuning_curve(
      _network(config) if test_network is None else test_network,
      inner_lr=test_inner_lr,
      num_steps=steps,
      what_adapts=what_adapts,
    ),
    test_tasks=wrap(_test_tasks(config, shots)),
    num_test_tasks=config.num_test_tasks,
  )


def _test_tasks(config, shots) -> TaskFamily:
  return sinusoids(shots=shots, query_shots=config.test_query_shots)


def report(report: Report) -> None:
  """Prints the table beside the thesis's and draws the figures."""
  config, metrics = report.config, report.metrics
  methods = {
    label: prefix
    for label, prefix in _METHODS.items()
    if f'{prefix}query_loss/step_0' in metrics
  }
  print_table(
    _rows(report, methods),
    {
      f'{label}, {step} steps': value
      for label, values in _TABLE_10.items()
      for step, value in values.items()
    },
    title=(
      f'Mean squared error on {config.test_shots} shots of held-out sinusoids; '
      f'MAML trained on {config.shots} shots. Paper: Finn 2018, Table 10'
    ),
  )
  figures = report.workdir / 'figures'
  learning_curve(
    figures / 'learning_curve.png',
    {'MAML': report.results[''].history},
    'meta/loss',
    title='Query loss after adaptation, in meta-training',
    ylabel='mean squared error',
    log_scale=True,
  )
  curves = {
    label: _curve(report, prefix)
    for label, prefix in methods.items()
    if prefix != 'oracle/'
  }
  adaptation_curve(
    figures / 'adaptation.png',
    curves,
    reference={
      label: values for label, values in _TABLE_10.items() if label in curves
    },
    title=f'Fine-tuned on {config.test_shots} points, where it converges',
    ylabel='mean squared error',
    xlabel='gradient steps',
    log_scale=True,
    limits=_SHOWN_LOSSES,
  )
  adaptation_curve(
    figures / 'adaptation_by_shots.png',
    {
      f'{shots} shots': _curve(report, prefix)
      for shots, prefix in (
        (config.test_shots, ''),
        (10, '10_shot/'),
        (20, '20_shot/'),
      )
    },
    title='MAML by number of points, where it converges',
    ylabel='mean squared error',
    xlabel='gradient steps',
    log_scale=True,
    limits=_SHOWN_LOSSES,
  )
  _draw_fits(report, 'fits.png', '', config.inner_lr)
  if 'pretrained' in report.results:
    _draw_fits(
      report,
      'fits_pretrained.png',
      'pretrained',
      config.pretrained_inner_lr,
    )


def _rows(report, methods) -> list[tuple[str, Mapping[str, Any]]]:
  """Returns the table's rows: plain means, and those of tasks that converge.

  Gradient descent with a fixed step size diverges on a rare task, and then
  one task decides the mean of thousands.
  """
  rows = []
  for label, prefix in methods.items():
    for step in (0, 1, 5, 10):
      name = f'{prefix}query_loss/step_{step}'
      if name not in report.metrics:
        continue
      summary = report.metrics[name]
      rows.append((f'{label}, {step} steps', summary))
      bounded = _of_converging_tasks(report, prefix, step)
      if bounded['n'] < summary['n']:
        lost = summary['n'] - bounded['n']
        rows.append((f'  without {lost} that diverged', bounded))
  return rows


def _of_converging_tasks(report, prefix, step) -> Mapping[str, Any]:
  """Summarises the loss of the tasks on which fine-tuning did not diverge."""
  result, name = prefix.rstrip('/'), f'query_loss/step_{step}'
  if result in report.results:
    losses = report.results[result].evaluation[name]
  else:
    losses = report.results[''].evaluation[prefix + name]
  return summarise({name: losses[losses <= _WORST_OF_PREDICTING_ZERO]})[name]


def _curve(report, prefix) -> Curve:
  cells = [
    _of_converging_tasks(report, prefix, step)
    for step in range(report.config.num_test_steps + 1)
  ]
  return Curve(
    mean=[cell['mean'] for cell in cells],
    ci95=[cell['ci95'] for cell in cells],
  )


def _draw_fits(report, file_name, result, inner_lr) -> None:
  """Draws what fine-tuning makes of the first held-out sinusoids."""
  config = report.config
  learner = fine_tuning_curve(
    _network(config), inner_lr=inner_lr, num_steps=config.num_test_steps
  )
  params = report.results[result].state.selected.params
  inputs = jnp.linspace(-5.0, 5.0, 200)[:, None]

  @jax.jit
  @jax.vmap
  def fit(key):
    episode = _test_tasks(config, config.test_shots).sample((), key)
    adapted = learner.adapt(params, episode.support, key)
    truth = sinusoid(episode.task, inputs)
    return episode.support, truth, learner.predict(adapted, inputs)

  key = evaluation_key(jax.random.key(report.seeds[0]))
  supports, truths, predictions = jax.device_get(
    fit(jax.random.split(key, _DRAWN_TASKS))
  )
  steps = {
    f'{step} steps': step
    for step in (0, 1, 10)
    if step <= config.num_test_steps
  }
  function_fits(
    report.workdir / 'figures' / file_name,
    [
      FunctionFit(
        inputs=np.asarray(inputs[:, 0]),
        truth=truths[task, :, 0],
        support_inputs=supports.inputs[task, :, 0],
        support_targets=supports.targets[task, :, 0],
        predictions={
          label: predictions[task, step, :, 0] for label, step in steps.items()
        },
      )
      for task in range(_DRAWN_TASKS)
    ],
    title=(f'Held-out sinusoids, {result or "MAML"}, after gradient steps'),
  )


def _experiment(name: str, source: str, config: MamlConfig) -> Experiment:
  """Returns a sinusoid experiment; the paper's setting is a laptop's too."""
  paper = Preset(
    config=config,
    schedule=Schedule(
      num_steps=70_000,
      log_every=1000,
      evaluate_every=10_000,
      best_metric='query_loss/step_1',
    ),
  )
  smoke = Preset(
    config=config.replace(
      num_test_tasks=100, validate_every=250, updates_per_iteration=2
    ),
    schedule=Schedule(
      num_steps=1000, log_every=100, best_metric='query_loss/step_1'
    ),
  )
  return Experiment(
    name=name,
    source=source,
    presets={'smoke': smoke, 'laptop': paper, 'paper': paper},
    make=_selected(sinusoid_maml),
    baselines={
      'context_vector': Baseline(_selected(context_vector)),
      'pretrained': Baseline(_selected(pretrained)),
      'multi_task': Baseline(multi_task_of('none')),
      'multi_task_norm': Baseline(multi_task_of('norm')),
      'multi_task_mean': Baseline(multi_task_of('distance_to_mean')),
      'from_scratch': Baseline(_selected(from_scratch), trained=False),
      'oracle': Baseline(_selected(oracle)),
    },
    evaluations={
      f'{shots}_shot': _selected(sinusoid_maml, test_shots=shots)
      for shots in (10, 20)
    },
    report=report,
  )


EXPERIMENTS = (
  _experiment(
    'sinusoid',
    'Finn 2018, Table 10 and Figures 3, 4: trained on 10 shots, tested on 5',
    MamlConfig(),
  ),
  _experiment(
    'sinusoid_5_shot',
    'Finn 2018, Table 10: trained and tested on 5 shots',
    MamlConfig(shots=5, query_shots=5),
  ),
)
