"""PLATIPUS on lines and sinusoids (Finn 2018, ambiguous regression)."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.platipus_methods import (
  METHODS,
  Evaluation,
  Problem,
  baselines_of,
  maml_sampler,
  platipus_sampler,
  train_platipus,
)
from experiments.sampled_functions import function_measures
from metajax.core.algorithm import Algorithm, evaluation_key
from metajax.core.learner import Learner
from metajax.core.sharding import lay_tasks
from metajax.core.validation import check_choice
from metajax.learners.likelihoods import (
  gaussian,
  mixture,
  negative_log_likelihood,
)
from metajax.learners.platipus import PlatipusConfig
from metajax.learners.task_losses import squared_error
from metajax.nets.perceptrons import Perceptron
from metajax.run.figures.adaptation_curves import Curve, adaptation_curve
from metajax.run.figures.learning_curves import learning_curve
from metajax.run.figures.sampled_functions import (
  SampledFunctions,
  sampled_functions,
)
from metajax.run.launch import Experiment, Preset, Report
from metajax.run.schedule import Schedule
from metajax.run.tables import print_table
from metajax.tasks.ambiguous_regression import (
  line_or_sinusoid,
  lines_and_sinusoids,
)

_OTHER_SHOTS = (1, 3, 10, 20)
# Deviations that a learner's predictions may have; each learner gets the one
# that serves it best on tasks of their own.
_NOISE_STDS = tuple(np.geomspace(0.1, 3.0, 18).round(3).tolist())
_NUM_FIT_TASKS = 300
_NUM_DRAWN_TASKS = 4
_TASK_LOSSES = {
  'gaussian': lambda config: negative_log_likelihood(
    gaussian(config.observation_std)
  ),
  'squared_error': lambda config: squared_error,
}
_MEASURES = {
  'mixture_nll': 'negative log-likelihood, each with its fitted noise',
  'joint_mixture_nll': 'the same, of all points together',
  'squared_error': 'mean squared error of a sample',
  'best_error': 'mean squared error of the best sample',
}


def problem(
  config: PlatipusConfig, *, test_shots: int | None = None
) -> Problem:
  """Returns the regression, tested on `test_shots` points; None: config's."""
  check_choice('likelihood', config.likelihood, tuple(_TASK_LOSSES))
  shots = config.shots if test_shots is None else test_shots
  return Problem(
    network=Perceptron(
      config.hidden_sizes,
      output_size=1,
      bias_transformation_size=config.bias_transformation_size,
    ),
    task_loss=_TASK_LOSSES[config.likelihood](config),
    tasks=lines_and_sinusoids(
      shots=config.shots, query_shots=config.query_shots
    ),
    test=lambda samplers: _evaluation(
      config, samplers, shots, config.num_test_tasks
    ),
    validate=lambda samplers: _evaluation(
      config, samplers, config.shots, _NUM_FIT_TASKS
    ),
    selected_by='mixture_nll',
  )


def platipus_regression(
  config: PlatipusConfig, *, test_shots: int | None = None
) -> Algorithm:
  """Makes PLATIPUS, tested on `test_shots` points; None: the config's."""
  return train_platipus(config, problem(config, test_shots=test_shots))


def _evaluation(
  config: PlatipusConfig,
  samplers: Mapping[str, Learner],
  shots: int,
  num_tasks: int,
) -> Evaluation:
  """Returns the meta-test of several samplers on the same noise-free tasks."""
  tasks = lines_and_sinusoids(
    shots=shots, query_shots=config.test_query_shots, query_noise_std=0.0
  )

  def evaluate(data, params, key):
    del data
    fit_key, test_key = jax.random.split(key)
    fit_keys = jax.random.split(fit_key, _NUM_FIT_TASKS)
    test_keys = jax.random.split(test_key, num_tasks)
    keys = lay_tasks(jnp.concatenate([fit_keys, test_keys]))
    stds = jnp.array(_NOISE_STDS)
    found = {}
    for prefix, learner in samplers.items():

      def meet(key, learner=learner):
        sample_key, adapt_key = jax.random.split(key)
        episode = tasks.sample((), sample_key)
        phis = learner.adapt(params, episode.support, adapt_key)
        return episode, learner.predict(phis, episode.query.inputs)

      def losses(episode, predictions):
        return jax.vmap(
          lambda std: _mixture(predictions, episode.query.targets, std)
        )(stds)['mixture_nll']

      def measure(episode, predictions, std):
        return {
          **function_measures(predictions, episode.query, episode.support),
          **_mixture(predictions, episode.query.targets, std),
          'fitted_std': std,
        }

      met = jax.vmap(meet)(jax.random.clone(keys))
      to_fit = jax.tree.map(lambda leaf: leaf[:_NUM_FIT_TASKS], met)
      to_test = jax.tree.map(lambda leaf: leaf[_NUM_FIT_TASKS:], met)
      by_std = jax.vmap(losses)(*to_fit)
      best = stds[jnp.argmin(jnp.mean(by_std, axis=0))]
      measured = jax.vmap(measure, in_axes=(0, 0, None))(*to_test, best)
      found |= {
        f'{prefix}{name}': jnp.broadcast_to(values, (num_tasks,))
        for name, values in measured.items()
      }
    return found

  return evaluate


def _mixture(predictions, targets, std):
  likelihood = gaussian(std)
  return mixture(jax.vmap(lambda one: likelihood(one, targets))(predictions))


def report(report: Report) -> None:
  """Prints the tables and draws the figures."""
  config, metrics = report.config, report.metrics
  methods = {
    label: prefix
    for label, prefix in METHODS.items()
    if f'{prefix}squared_error' in metrics
  }
  for measure, what in _MEASURES.items():
    print_table(
      [(label, metrics[prefix + measure]) for label, prefix in methods.items()],
      title=f'Lines and sinusoids, noisy points given: {config.shots}; {what}',
    )
  names = {
    'variance': 'variance over samples',
    'variance_near': '  where points are nearest',
    'variance_far': '  where they are farthest',
    'variance_tells_error': 'rank correlation with squared error',
    'are_lines': 'samples that are lines',
    'are_sinusoids': 'samples that are sinusoids',
    'holds_both_kinds': 'tasks with both kinds among samples',
  }
  by_shots = _by_shots(config)
  print_table(
    [
      (f'{shots} points: {label}', metrics[f'{prefix}{name}'])
      for name, label in names.items()
      for shots, prefix in by_shots.items()
    ],
    title=f'{config.num_samples} samples of PLATIPUS by points given',
  )
  figures = report.workdir / 'figures'
  learning_curve(
    figures / 'learning_curve.png',
    {'PLATIPUS': report.results[''].history},
    'query_nll',
    title='Query loss of a sample from q, in meta-training',
    ylabel='negative log-likelihood, nats a point',
    log_scale=True,
  )
  adaptation_curve(
    figures / 'variance.png',
    {
      label: _curve(metrics, name, by_shots)
      for label, name in (
        ('far from points', 'variance_far'),
        ('everywhere', 'variance'),
        ('near points', 'variance_near'),
      )
    },
    title='What samples disagree on, by points given',
    ylabel='variance over samples',
    xlabel='points given',
    log_scale=True,
  )
  if 'maml' in report.results:
    _draw_samples(report)


def _by_shots(config) -> dict[int, str]:
  """Returns what stands before the metrics of each number of points."""
  return {
    shots: '' if shots == config.shots else f'{shots}_shot/'
    for shots in sorted({config.shots, *_OTHER_SHOTS})
  }


def _curve(metrics: Mapping[str, Any], name: str, by_shots) -> Curve:
  cells = [metrics[prefix + name] for prefix in by_shots.values()]
  return Curve(
    mean=[cell['mean'] for cell in cells],
    ci95=[cell['ci95'] for cell in cells],
    steps=list(by_shots),
  )


def _draw_samples(report) -> None:
  """Draws the first held-out tasks from few points and from many."""
  config = report.config
  solved = problem(config)
  sampler = platipus_sampler(config, solved)
  alone = maml_sampler(config, solved)
  params = report.results[''].state.selected.params
  maml_params = report.results['maml'].state.selected.params
  inputs = jnp.linspace(-5.0, 5.0, 200)[:, None]

  def fit(shots, key):
    tasks = lines_and_sinusoids(shots=shots, query_shots=1)
    sample_key, adapt_key, alone_key = jax.random.split(key, 3)
    task, support, _ = tasks.sample((), sample_key)
    phis = sampler.adapt(params, support, adapt_key)
    single = alone.adapt(maml_params, support, alone_key)
    return SampledFunctions(
      inputs=inputs[:, 0],
      truth=line_or_sinusoid(task, inputs)[:, 0],
      support_inputs=support.inputs[:, 0],
      support_targets=support.targets[:, 0],
      samples=sampler.predict(phis, inputs)[..., 0],
      single=alone.predict(single, inputs)[0, :, 0],
      title='',
    )

  for shots in _by_shots(config):
    key = evaluation_key(jax.random.key(report.seeds[0]))
    drawn = jax.jit(jax.vmap(lambda key, shots=shots: fit(shots, key)[:-1]))(
      jax.random.split(key, _NUM_DRAWN_TASKS)
    )
    drawn = jax.device_get(drawn)
    sampled_functions(
      report.workdir / 'figures' / f'samples_{shots}_points.png',
      [
        SampledFunctions(*(leaf[task] for leaf in drawn))
        for task in range(_NUM_DRAWN_TASKS)
      ],
      title=f'Held-out tasks, noisy points given: {shots}',
      samples_label=f'{config.num_samples} samples of PLATIPUS',
    )


def _other_shots(shots: int):
  return lambda config: platipus_regression(config, test_shots=shots)


_CONFIG = PlatipusConfig()

EXPERIMENTS = (
  Experiment(
    name='ambiguous_regression',
    source='Finn 2018, Figure 12: lines and sinusoids from 5 noisy points',
    presets={
      'smoke': Preset(
        config=_CONFIG.replace(
          hidden_sizes=(20, 20),
          meta_batch_size=4,
          num_test_tasks=20,
          validate_every=20,
        ),
        schedule=Schedule(num_steps=40, log_every=20),
      ),
      'laptop': Preset(
        # Fewer meta-iterations want larger inner steps, and those a bound.
        config=_CONFIG.replace(
          meta_batch_size=10,
          inner_lr=0.01,
          initial_gamma=0.01,
          clip=2.0,
          validate_every=2000,
        ),
        schedule=Schedule(num_steps=22_000, log_every=1000),
      ),
      'paper': Preset(
        config=_CONFIG,
        schedule=Schedule(
          num_steps=70_000, log_every=1000, evaluate_every=10_000
        ),
      ),
    },
    make=platipus_regression,
    baselines=baselines_of(problem),
    evaluations={
      f'{shots}_shot': _other_shots(shots) for shots in _OTHER_SHOTS
    },
    report=report,
  ),
)
