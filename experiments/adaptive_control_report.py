"""What the experiments of adaptive control print and draw.

Finn 2018, figures 17 to 21; Nagabandi, Clavera et al. 2019.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from metajax.core.algorithm import evaluation_key
from metajax.core.compilation import compile_hot
from metajax.envs.environment import Env
from metajax.envs.motion import motion_of_states
from metajax.envs.rollout import record_episode
from metajax.learners.adaptive_control import (
  Conditions,
  rollout_errors,
  run_controller,
  sample_conditions,
)
from metajax.learners.adaptive_control_config import AdaptiveControlConfig
from metajax.learners.dynamics import DynamicsModel
from metajax.learners.predictive_control import predictive_controller
from metajax.run.figures.adaptation_curves import Curve, adaptation_curve
from metajax.run.figures.bars import bars
from metajax.run.figures.histograms import histograms
from metajax.run.figures.learning_curves import learning_curve
from metajax.run.figures.time_courses import time_courses
from metajax.run.launch import Report
from metajax.run.tables import print_table
from metajax.run.videos import write_motion_page

# (config) -> the environment, and the conditions to be tested in.
Scenario = Callable[[AdaptiveControlConfig], tuple[Env, Conditions]]
MakeModel = Callable[[Env, AdaptiveControlConfig], DynamicsModel]

# A method's name to what stands in front of its metrics.
_METHODS = {
  'GBAC': '',
  'GBAC, learned steps': 'learned/',
  'RBAC': 'rbac/',
  'MB': 'mb/',
  'MB+DE, restarted': 'mb/restarted/',
  'MB+DE, carried over': 'mb/carried/',
  'TRPO': 'trpo/',
  'MB oracle': 'mb_oracle/',
  'MF oracle': 'mf_oracle/',
}
# Return of the model-free oracle where the low-data TRPO is 0 and the
# model-based oracle 1 (Finn 2018, figures 18 to 20).
_PAPER_MF_ORACLE = {
  'seen joint': 2.9,
  'unseen joint': 2.8,
  'switching joint': 5.2,
  'gentle': 3.4,
  'hill': 1.3,
  'steep': 4.3,
  'one pier': 0.8,
  'seen leg': 3.8,
  'unseen leg': 1.1,
  'leg fails': 1.4,
  'strong force': 1.5,
  'changing force': 1.2,
}


def report_methods(
  report: Report, *, scenario: Scenario, model: MakeModel
) -> None:
  """Prints returns and errors of all methods, and draws the figures.

  Args:
    report: what was run.
    scenario: what it was tested in.
    model: makes the dynamics model of the main run.
  """
  config, metrics = report.config, report.metrics
  env, conditions = scenario(config)
  methods = {
    label: prefix
    for label, prefix in _METHODS.items()
    if any(f'{prefix}return/{name}' in metrics for name in conditions)
  }
  print_table(
    [
      (f'{label}, {name}', metrics[f'{prefix}return/{name}'])
      for name in conditions
      for label, prefix in methods.items()
    ],
    title=f'Return of {env.spec.name}. Finn 2018, figures 18 to 20',
  )
  _print_normalised(metrics, conditions, methods)
  print_table(
    [
      (f'{label}, {name}, {when}', metrics[f'{prefix}error/{name}/{when}'])
      for label, prefix in methods.items()
      for name in conditions
      for when in ('unadapted', 'adapted', 'log_ratio')
      if f'{prefix}error/{name}/{when}' in metrics
    ],
    title='Mean squared error of standardised changes, before and after;'
    ' mean logarithm of their ratio',
  )
  figures = report.workdir / 'figures'
  bars(
    figures / 'returns.png',
    {
      name: {
        label: (
          metrics[f'{prefix}return/{name}']['mean'],
          metrics[f'{prefix}return/{name}']['ci95'],
        )
        for label, prefix in methods.items()
      }
      for name in conditions
    },
    title=f'{env.spec.name}: return by condition',
    ylabel='return of an episode',
  )
  learning_curve(
    figures / 'learning_curve.png',
    {
      label: report.results[result].history
      for label, result in (
        ('GBAC', ''),
        ('GBAC, learned steps', 'learned'),
        ('RBAC', 'rbac'),
        ('MB', 'mb'),
        ('TRPO', 'trpo'),
      )
      if result in report.results
    },
    'return',
    title=f'{env.spec.name}, in meta-training',
    ylabel='return of an episode',
  )
  own_model = model(env, config)
  _draw_errors(report, env, own_model, conditions)
  _draw_motions(report, env, own_model, conditions)


def _print_normalised(
  metrics: Mapping[str, Any],
  conditions: Conditions,
  methods: Mapping[str, str],
) -> None:
  """Prints `(R - R_TRPO) / (R_MB oracle - R_TRPO)`, where both were run."""
  if not {'TRPO', 'MB oracle'} <= set(methods):
    return
  print('\nNormalised return: TRPO on the same data 0, model-based oracle 1')
  for name in conditions:
    low, high = (
      metrics[f'{prefix}return/{name}']['mean']
      for prefix in ('trpo/', 'mb_oracle/')
    )
    cells = [
      f'{label} {(metrics[f"{prefix}return/{name}"]["mean"] - low) / scale:.2f}'
      for label, prefix in methods.items()
      if (scale := high - low)
    ]
    paper = _PAPER_MF_ORACLE.get(name)
    known = '' if paper is None else f' (paper: MF oracle {paper})'
    print(f'  {name}: {", ".join(cells)}{known}')


def _draw_errors(
  report: Report, env: Env, model: DynamicsModel, conditions: Conditions
) -> None:
  """Draws the model's errors before and after it adapts: all, and over time."""
  config, params = report.config, report.results[''].state.params
  number = config.num_test_tasks

  def errors(params, key):
    task_key, episode_key = jax.random.split(key)
    rollouts = run_controller(
      env,
      model,
      params,
      config.test_planning,
      sample_conditions(conditions, number, task_key),
      jax.random.split(episode_key, number * len(conditions)),
      chunk_size=config.task_chunk_size,
    )
    return rollout_errors(model, params, config, rollouts)

  program = compile_hot(errors, holds_physics=env.holds_physics)
  key = evaluation_key(jax.random.key(report.seeds[0]))
  found = jax.device_get(program(params, key))
  panels = {}
  for place, name in enumerate(conditions):
    own = slice(place * number, (place + 1) * number)
    panels[name] = {
      'before': found['unadapted'][own],
      'after': found['adapted'][own],
    }
  histograms(
    report.workdir / 'figures' / 'errors.png',
    panels,
    title='Errors of the model before and after it adapts',
    xlabel='mean squared error',
  )
  windows = np.arange(found['adapted'].shape[1])
  first_steps = config.past + config.future * windows
  time_courses(
    report.workdir / 'figures' / 'errors_over_time.png',
    first_steps * env.spec.control_period_s,
    panels,
    title='Errors of the model in the course of an episode',
    ylabel='mean squared error',
  )


def _draw_motions(
  report: Report, env: Env, model: DynamicsModel, conditions: Conditions
) -> None:
  """Writes a page that plays the adaptive controller in every condition."""
  config, params = report.config, report.results[''].state.params
  assert env.observed_reward is not None
  reward = env.observed_reward

  def episodes(params, key):
    policy, memory = predictive_controller(
      env.spec, reward, model, params, config.test_planning
    )
    task_key, episode_key = jax.random.split(key)
    tasks = sample_conditions(conditions, 1, task_key)
    keys = jax.random.split(episode_key, len(conditions))
    return jax.vmap(
      lambda task, key: record_episode(env, policy, task, key, memory=memory)
    )(tasks, keys)

  program = compile_hot(episodes, holds_physics=env.holds_physics)
  key = evaluation_key(jax.random.key(report.seeds[0]))
  states = jax.device_get(program(params, key))
  write_motion_page(
    report.workdir / 'videos' / 'adaptive_control.html',
    {
      name: motion_of_states(env, jax.tree.map(lambda x, i=i: x[i], states))
      for i, name in enumerate(conditions)
    },
    title='GBAC: adapting at every control step',
  )


def report_ranges(
  report: Report,
  *,
  forces: Mapping[str, float],
  ranges: Mapping[str, str],
) -> None:
  """Prints and draws what each range of training does under each force.

  Args:
    report: what was run.
    forces: a condition to the force per mass in it, m/s^2.
    ranges: a range's label to what stands in front of its metrics.
  """
  metrics = report.metrics
  kept = {
    label: prefix
    for label, prefix in ranges.items()
    if f'{prefix}return/{next(iter(forces))}' in metrics
  }
  figures = report.workdir / 'figures'
  for metric, ylabel, picture in (
    ('return/{}', 'return of an episode', 'returns.png'),
    ('error/{}/adapted', 'error after adapting', 'errors.png'),
  ):
    print_table(
      [
        (f'trained on {label}, {name}', metrics[prefix + metric.format(name)])
        for name in forces
        for label, prefix in kept.items()
      ],
      title=f'{ylabel} by what it was trained on. Finn 2018, figure 21',
    )
    curves = {}
    for label, prefix in kept.items():
      cells = [metrics[prefix + metric.format(name)] for name in forces]
      curves[label] = Curve(
        mean=[cell['mean'] for cell in cells],
        ci95=[cell['ci95'] for cell in cells],
        steps=list(forces.values()),
      )
    adaptation_curve(
      figures / picture,
      curves,
      title='What the meta-training distribution does',
      ylabel=ylabel,
      xlabel='constant force per mass at test (m/s$^2$)',
    )
