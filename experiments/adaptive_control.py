"""Online adaptive control: GBAC, RBAC and what they are compared with.

Finn 2018, chapter 5; Nagabandi, Clavera et al. 2019.
"""

from collections.abc import Callable, Mapping
import dataclasses
import functools
from typing import Any

import jax

from metajax.core.algorithm import evaluation_key
from metajax.core.compilation import compile_hot
from metajax.envs.environment import Env, held_out
from metajax.envs.locomotion.damage import (
  ant_crippled_leg,
  half_cheetah_disabled_joint,
)
from metajax.envs.locomotion.pier import half_cheetah_pier
from metajax.envs.locomotion.slope import half_cheetah_slope
from metajax.envs.motion import motion_of_states
from metajax.envs.rollout import record_episode
from metajax.envs.torque_arms.arm_forces import arm_forces
from metajax.learners.adaptive_control import (
  adaptive_control,
  rollout_errors,
  run_controller,
)
from metajax.learners.adaptive_control_config import AdaptiveControlConfig
from metajax.learners.control_baselines import (
  model_free_control,
  oracle_of_each,
)
from metajax.learners.dynamics import DynamicsModel, gradient_dynamics
from metajax.learners.dynamics_baselines import (
  evaluated_dynamics,
  fixed_dynamics,
)
from metajax.learners.predictive_control import predictive_controller
from metajax.learners.recurrent_dynamics import recurrent_dynamics
from metajax.run.figures.bars import bars
from metajax.run.figures.histograms import histograms
from metajax.run.figures.learning_curves import learning_curve
from metajax.run.launch import Baseline, Experiment, Preset, Report, launch
from metajax.run.schedule import Schedule
from metajax.run.tables import print_table
from metajax.run.videos import write_motion_page

# (config) -> the environment to train in, and the conditions to be tested in.
Scenario = Callable[[AdaptiveControlConfig], tuple[Env, Mapping[str, Env]]]

# A method's name to what stands in front of its metrics.
_METHODS = {
  'GBAC': '',
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


def disabled_joint(
  config: AdaptiveControlConfig,
) -> tuple[Env, Mapping[str, Env]]:
  """Tests a, b and c: a joint that is dead, or another every half episode."""
  horizon, physics = config.horizon, config.physics
  env = half_cheetah_disabled_joint(horizon, physics=physics)
  switching = half_cheetah_disabled_joint(
    horizon, max(1, horizon // 2), physics=physics
  )
  return env, {
    'seen joint': env,
    'unseen joint': held_out(env),
    'switching joint': switching,
  }


def slope(config: AdaptiveControlConfig) -> tuple[Env, Mapping[str, Env]]:
  """Tests d, e and f: gentle and steep slopes, a hill, a basin."""
  env = half_cheetah_slope(config.horizon, physics=config.physics)
  return env, {
    name: held_out(
      half_cheetah_slope(config.horizon, (name,), physics=config.physics)
    )
    for name in ('gentle', 'hill', 'basin', 'steep')
  }


def pier(config: AdaptiveControlConfig) -> tuple[Env, Mapping[str, Env]]:
  """Test g: floating blocks, one configuration of them."""
  env = half_cheetah_pier(config.horizon, physics=config.physics)
  return env, {'one pier': held_out(env)}


def crippled_leg(
  config: AdaptiveControlConfig,
) -> tuple[Env, Mapping[str, Env]]:
  """Tests h, i and j: a leg that is crippled, or becomes so."""
  horizon, physics = config.horizon, config.physics
  env = ant_crippled_leg(horizon, physics=physics)
  fails = ant_crippled_leg(horizon, max(1, horizon // 2), physics=physics)
  return env, {
    'seen leg': env,
    'unseen leg': held_out(env),
    'leg fails': fails,
  }


def forces(config: AdaptiveControlConfig) -> tuple[Env, Mapping[str, Env]]:
  """Tests k, l and m: a low force, a strong one, one that changes."""
  make = functools.partial(
    arm_forces, horizon=config.horizon, physics=config.physics
  )
  env = make()
  return env, {
    'low force': make((1.0, 1.0)),
    'strong force': held_out(env),
    'changing force': make(redraw_pulls=True),
  }


def gbac(env: Env, config: AdaptiveControlConfig) -> DynamicsModel:
  """Returns the model of GBAC."""
  return gradient_dynamics(
    **_sizes(env),
    hidden_sizes=config.hidden_sizes,
    inner_lr=config.inner_lr,
    window=config.past,
  )


def rbac(env: Env, config: AdaptiveControlConfig) -> DynamicsModel:
  """Returns the model of RBAC."""
  return recurrent_dynamics(**_sizes(env), hidden_sizes=config.recurrent_sizes)


def mb(env: Env, config: AdaptiveControlConfig) -> DynamicsModel:
  """Returns the model that does not adapt."""
  return fixed_dynamics(**_sizes(env), hidden_sizes=config.hidden_sizes)


def mb_evaluated(
  env: Env, config: AdaptiveControlConfig
) -> Mapping[str, DynamicsModel]:
  """Returns what MB is tested as: as it is, and by dynamic evaluation."""
  evaluated = functools.partial(
    evaluated_dynamics,
    **_sizes(env),
    hidden_sizes=config.hidden_sizes,
    inner_lr=config.inner_lr,
    window=config.past,
  )
  return {
    '': mb(env, config),
    'restarted': evaluated(restart=True),
    'carried': evaluated(restart=False),
  }


def _sizes(env: Env) -> dict[str, Any]:
  """Returns what every dynamics model takes from its environment."""
  return {
    'observation_size': env.spec.observation_size,
    'action_size': env.spec.action_size,
    'invariant': env.spec.invariant,
  }


def report(report: Report, *, scenario: Scenario) -> None:
  """Prints returns and errors, and draws the figures of chapter 5."""
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
      for when in ('unadapted', 'adapted')
      if f'{prefix}error/{name}/{when}' in metrics
    ],
    title='Mean squared error of standardised changes, before and after',
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
  _draw_errors(report, conditions)
  _draw_motions(report, conditions)


def _print_normalised(
  metrics: Mapping[str, Any],
  conditions: Mapping[str, Env],
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


def _draw_errors(report: Report, conditions: Mapping[str, Env]) -> None:
  """Draws the distribution of the model's errors before and after it adapts."""
  config, params = report.config, report.results[''].state.params
  key = evaluation_key(jax.random.key(report.seeds[0]))
  panels = {}
  for name, env in conditions.items():
    model = gbac(env, config)

    def errors(params, key, env=env, model=model):
      rollouts = run_controller(
        env,
        model,
        params,
        config.test_planning,
        jax.random.split(key, config.num_test_tasks),
        chunk_size=config.task_chunk_size,
      )
      return rollout_errors(model, params, config, rollouts)

    program = compile_hot(errors, holds_physics=env.holds_physics)
    found = jax.device_get(program(params, key))
    panels[name] = {'before': found['unadapted'], 'after': found['adapted']}
  histograms(
    report.workdir / 'figures' / 'errors.png',
    panels,
    title='Errors of the model before and after it adapts',
    xlabel='mean squared error',
  )


def _draw_motions(report: Report, conditions: Mapping[str, Env]) -> None:
  """Writes a page that plays the adaptive controller in every condition."""
  config, params = report.config, report.results[''].state.params
  key = evaluation_key(jax.random.key(report.seeds[0]))
  motions = {}
  for name, env in conditions.items():
    assert env.observed_reward is not None

    def episode(params, key, env=env):
      policy, memory = predictive_controller(
        env.spec,
        env.observed_reward,
        gbac(env, config),
        params,
        config.test_planning,
      )
      task_key, episode_key = jax.random.split(key)
      task = env.sample_task(task_key)
      return record_episode(env, policy, task, episode_key, memory=memory)

    program = compile_hot(episode, holds_physics=env.holds_physics)
    motions[name] = motion_of_states(env, jax.device_get(program(params, key)))
  write_motion_page(
    report.workdir / 'videos' / 'adaptive_control.html',
    motions,
    title='GBAC: adapting at every control step',
  )


def _experiment(
  name: str,
  source: str,
  *,
  scenario: Scenario,
  paper: AdaptiveControlConfig,
  num_iterations: int,
  oracle_updates: int,
) -> Experiment:
  """Returns an experiment; its robots are built when they are first needed.

  Args:
    name: of the experiment.
    source: of the paper.
    scenario: what is trained and tested in.
    paper: the paper's settings.
    num_iterations: of the paper's budget of data.
    oracle_updates: batches of the model-free oracle in an iteration.
  """

  def scene(config: AdaptiveControlConfig) -> tuple[Env, Mapping[str, Env]]:
    return _built(scenario, config.horizon, config.physics)

  def on_scene(make_model, testers=lambda env, config: None):
    def make(config):
      env, conditions = scene(config)
      return adaptive_control(
        env,
        make_model(env, config),
        config,
        conditions,
        testers=testers(env, config),
      )

    return make

  def trpo(config):
    env, conditions = scene(config)
    return model_free_control(env, config, conditions)

  def mb_oracle(config):
    return oracle_of_each(
      lambda env, only: adaptive_control(env, mb(env, config), config, only),
      scene(config)[1],
    )

  def mf_oracle(config):
    return oracle_of_each(
      lambda env, only: model_free_control(
        env, config, only, num_updates=oracle_updates
      ),
      scene(config)[1],
    )

  laptop = paper.replace(
    hidden_sizes=(128, 128, 128),
    recurrent_sizes=(64, 64),
    horizon=min(paper.horizon, 250),
    num_rollouts=32,
    max_rollouts=320,
    num_epochs=20,
    num_sequences=200,
    num_test_sequences=400,
    num_test_tasks=16,
    physics='c',
  )
  smoke = laptop.replace(
    hidden_sizes=(16,),
    recurrent_sizes=(8,),
    past=4,
    future=4,
    horizon=20,
    num_rollouts=4,
    max_rollouts=8,
    num_epochs=1,
    num_sequences=8,
    plan_horizon=3,
    num_test_sequences=8,
    test_plan_horizon=3,
    num_test_tasks=2,
  )
  return Experiment(
    name=name,
    source=source,
    presets={
      'smoke': Preset(smoke, Schedule(num_steps=2, log_every=1)),
      'laptop': Preset(laptop, Schedule(num_steps=10, log_every=1)),
      'paper': Preset(paper, Schedule(num_steps=num_iterations, log_every=1)),
    },
    make=on_scene(gbac),
    baselines={
      'rbac': Baseline(on_scene(rbac)),
      'mb': Baseline(on_scene(mb, mb_evaluated)),
      'trpo': Baseline(trpo),
      'mb_oracle': Baseline(mb_oracle),
      'mf_oracle': Baseline(mf_oracle),
    },
    report=functools.partial(report, scenario=scene),
  )


@functools.cache
def _built(
  scenario: Scenario, horizon: int, physics: str
) -> tuple[Env, Mapping[str, Env]]:
  return scenario(AdaptiveControlConfig(horizon=horizon, physics=physics))


_CHEETAH = AdaptiveControlConfig()
_ANT = dataclasses.replace(
  _CHEETAH,
  inner_lr=0.001,
  past=16,
  future=10,
  meta_batch_size=50,
  horizon=500,
  num_rollouts=48,
  plan_horizon=15,
  num_test_sequences=1000,
)
_ARM = dataclasses.replace(_ANT, future=32, meta_batch_size=47)

EXPERIMENTS = (
  _experiment(
    'cheetah_disabled_joint',
    'Finn 2018, figures 18 to 20, tests a, b, c: a dead joint',
    scenario=disabled_joint,
    paper=_CHEETAH,
    num_iterations=12,
    oracle_updates=12,
  ),
  _experiment(
    'cheetah_slope',
    'Finn 2018, figures 18 and 20, tests d, e, f: slopes',
    scenario=slope,
    paper=_CHEETAH,
    num_iterations=12,
    oracle_updates=12,
  ),
  _experiment(
    'cheetah_pier',
    'Finn 2018, figure 19, test g: floating blocks',
    scenario=pier,
    paper=_CHEETAH,
    num_iterations=12,
    oracle_updates=12,
  ),
  _experiment(
    'ant_crippled_leg',
    'Finn 2018, figures 18 to 20, tests h, i, j: a crippled leg',
    scenario=crippled_leg,
    paper=_ANT,
    num_iterations=16,
    oracle_updates=12,
  ),
  _experiment(
    'arm_forces',
    'Finn 2018, figures 18 to 20, tests k, l, m: forces on an arm',
    scenario=forces,
    paper=_ARM,
    num_iterations=16,
    oracle_updates=12,
  ),
)

if __name__ == '__main__':
  launch(EXPERIMENTS)
