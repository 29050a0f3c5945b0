"""PLATIPUS on circles from one positive (Finn 2018, 2-D classification)."""

from collections.abc import Mapping

import jax
from jax import Array
import jax.numpy as jnp

from experiments.platipus_methods import (
  METHODS,
  Evaluation,
  Problem,
  baselines_of,
  maml_sampler,
  platipus_sampler,
  train_platipus,
)
from metajax.core.algorithm import Algorithm, evaluation_key
from metajax.core.learner import Learner, Metrics
from metajax.core.sharding import lay_tasks
from metajax.learners.likelihoods import bernoulli, mixture
from metajax.learners.platipus import PlatipusConfig
from metajax.learners.task_losses import binary_cross_entropy
from metajax.nets.perceptrons import Perceptron
from metajax.run.figures.decision_boundaries import (
  DecisionBoundaries,
  decision_boundaries,
)
from metajax.run.figures.learning_curves import learning_curve
from metajax.run.launch import Experiment, Preset, Report
from metajax.run.schedule import Schedule
from metajax.run.tables import print_table
from metajax.tasks.circles import SIDE, circles, is_inside

_GRID_POINTS = 41  # along each side, where areas are counted
_NUM_VALIDATION_TASKS = 300
_TASKS_AT_ONCE = 20
_NUM_DRAWN_TASKS = 4
_MEASURES = {
  'joint_mixture_nll': 'negative log-likelihood of all points together, nats',
  'mixture_nll': 'negative log-likelihood of each point by itself, nats',
  'accuracy': 'share of points that a sample gets right',
  'best_accuracy': 'share of points that the best sample gets right',
  'area_spread': 'deviation of the positive area over samples',
  'area_covered': 'tasks whose true area lies between those of the samples',
  'area_error': 'distance of the true area to the nearest of the samples',
  'contains_support': 'samples that hold the given point',
}


def problem(config: PlatipusConfig) -> Problem:
  """Returns the circles."""
  return Problem(
    network=Perceptron(
      config.hidden_sizes,
      output_size=1,
      bias_transformation_size=config.bias_transformation_size,
    ),
    task_loss=binary_cross_entropy,
    tasks=circles(shots=config.shots, query_shots=config.query_shots),
    test=lambda samplers: _evaluation(config, samplers, config.num_test_tasks),
    validate=lambda samplers: _evaluation(
      config, samplers, _NUM_VALIDATION_TASKS
    ),
    selected_by='joint_mixture_nll',
  )


def platipus_circles(config: PlatipusConfig) -> Algorithm:
  """Makes PLATIPUS."""
  return train_platipus(config, problem(config))


def boundary_measures(
  query_logits: Array,
  labels: Array,
  grid_logits: Array,
  true_area: Array,
  support_logits: Array,
) -> Metrics:
  """Measures sampled classifiers of the plane on one task.

  Args:
    query_logits: [samples, points, 1] float32.
    labels: [points, 1] float32, 0 or 1.
    grid_logits: [samples, grid points] float32, on a grid over the square.
    true_area: [] float32, what is positive of the grid, in units of area.
    support_logits: [samples, shots, 1] float32, where all are positive.

  Returns:
    [] float32 each, as the tables name them; areas in units of area, the
    square's being 25.
  """
  areas = SIDE**2 * _share(grid_logits > 0, axis=1)
  hits = _share((query_logits > 0) == (labels[None] > 0.5), axis=(1, 2))
  log_likelihoods = jax.vmap(lambda logits: bernoulli(logits, labels))(
    query_logits
  )
  covers = (jnp.min(areas) <= true_area) & (true_area <= jnp.max(areas))
  return {
    **mixture(log_likelihoods),
    'accuracy': jnp.mean(hits),
    'best_accuracy': jnp.max(hits),
    'area': jnp.mean(areas),
    'area_spread': jnp.std(areas),
    'area_covered': covers.astype(jnp.float32),
    'area_error': jnp.min(jnp.abs(areas - true_area)),
    'contains_support': _share(support_logits > 0, axis=None),
  }


def grid() -> Array:
  """Returns the points over the square, `[41 * 41, 2]`, row by row."""
  axis = jnp.linspace(0.0, SIDE, _GRID_POINTS)
  first, second = jnp.meshgrid(axis, axis)
  return jnp.stack([first.ravel(), second.ravel()], axis=-1)


def _share(flags: Array, *, axis) -> Array:
  return jnp.mean(flags.astype(jnp.float32), axis=axis)


def _evaluation(
  config: PlatipusConfig, samplers: Mapping[str, Learner], num_tasks: int
) -> Evaluation:
  """Returns the meta-test of several samplers on the same tasks."""
  tasks = circles(
    shots=config.shots, query_shots=max(config.test_query_shots // 2, 1)
  )

  def evaluate(data, params, key):
    del data
    keys = lay_tasks(jax.random.split(key, num_tasks))

    def measure(key, learner):
      sample_key, adapt_key = jax.random.split(key)
      task, support, query = tasks.sample((), sample_key)
      phis = learner.adapt(params, support, adapt_key)
      points = grid()
      truth = is_inside(task, points)
      return boundary_measures(
        learner.predict(phis, query.inputs),
        query.targets,
        learner.predict(phis, points)[..., 0],
        SIDE**2 * _share(truth, axis=None),
        learner.predict(phis, support.inputs),
      )

    found = {}
    for prefix, learner in samplers.items():
      # One after another: the grids of many tasks would fill the memory.
      measured = jax.lax.map(
        lambda key, learner=learner: measure(key, learner),
        jax.random.clone(keys),
        batch_size=_TASKS_AT_ONCE,
      )
      found |= {f'{prefix}{name}': values for name, values in measured.items()}
    return found

  return evaluate


def report(report: Report) -> None:
  """Prints the tables and draws the figures."""
  config, metrics = report.config, report.metrics
  for measure, what in _MEASURES.items():
    print_table(
      [
        (label, metrics[prefix + measure])
        for label, prefix in METHODS.items()
        if prefix + measure in metrics
      ],
      title=f'Circles from {config.shots} positive point: {what}',
    )
  figures = report.workdir / 'figures'
  learning_curve(
    figures / 'learning_curve.png',
    {'PLATIPUS': report.results[''].history},
    'query_nll',
    title='Query loss of a sample from q, in meta-training',
    ylabel='negative log-likelihood, nats a point',
  )
  if 'maml' in report.results:
    _draw_boundaries(report)


def _draw_boundaries(report) -> None:
  """Draws the first held-out circles and what is made of one point of each."""
  config = report.config
  solved, points = problem(config), grid()
  sampler = platipus_sampler(config, solved)
  alone = maml_sampler(config, solved)
  params = report.results[''].state.selected.params
  maml_params = report.results['maml'].state.selected.params
  shape = (_GRID_POINTS, _GRID_POINTS)

  @jax.jit
  @jax.vmap
  def fit(key):
    sample_key, adapt_key, alone_key = jax.random.split(key, 3)
    task, support, _ = solved.tasks.sample((), sample_key)
    phis = sampler.adapt(params, support, adapt_key)
    single = alone.adapt(maml_params, support, alone_key)
    return DecisionBoundaries(
      axis=jnp.linspace(0.0, SIDE, _GRID_POINTS),
      truth=is_inside(task, points).reshape(shape),
      support=support.inputs,
      samples=sampler.predict(phis, points).reshape(-1, *shape),
      single=alone.predict(single, points).reshape(shape),
    )

  key = evaluation_key(jax.random.key(report.seeds[0]))
  drawn = jax.device_get(fit(jax.random.split(key, _NUM_DRAWN_TASKS)))
  decision_boundaries(
    report.workdir / 'figures' / 'boundaries.png',
    [
      DecisionBoundaries(*(leaf[task] for leaf in drawn))
      for task in range(_NUM_DRAWN_TASKS)
    ],
    title='Held-out circles (grey) from one positive point',
    samples_label=f'{config.num_samples} samples of PLATIPUS',
  )


_CONFIG = PlatipusConfig(
  inner_lr=0.01,
  initial_gamma=0.01,
  kl_weight=0.01,
  likelihood='bernoulli',
  shots=1,
)

EXPERIMENTS = (
  Experiment(
    name='circles',
    source='Finn 2018, Figure 13: a circle from one positive point',
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
        config=_CONFIG.replace(
          hidden_sizes=(40, 40, 40), meta_batch_size=10, validate_every=1000
        ),
        schedule=Schedule(num_steps=8000, log_every=1000),
      ),
      'paper': Preset(
        config=_CONFIG,
        schedule=Schedule(
          num_steps=70_000, log_every=1000, evaluate_every=10_000
        ),
      ),
    },
    make=platipus_circles,
    baselines=baselines_of(problem),
    report=report,
  ),
)
