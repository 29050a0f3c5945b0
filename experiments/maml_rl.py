"""MAML for reinforcement learning (Finn 2018, section 4.6.3)."""

from collections.abc import Callable, Mapping
import functools

import jax
import jax.numpy as jnp

from metajax.core.algorithm import evaluation_key
from metajax.core.compilation import compile_hot
from metajax.envs.environment import Env, reveal_task
from metajax.envs.locomotion.goals import ant, half_cheetah
from metajax.envs.motion import motion_of_positions
from metajax.envs.navigation import navigation
from metajax.envs.rollout import record_episode
from metajax.learners import policy_baselines
from metajax.learners.maml_rl import maml_rl
from metajax.learners.maml_rl_config import MamlRlConfig
from metajax.learners.policy_adaptation import (
  gaussian_policy,
  repeat_task,
  sample_rollouts,
)
from metajax.learners.policy_meta_test import adapt_to_task
from metajax.run.figures.adaptation_curves import Curve, adaptation_curve
from metajax.run.figures.learning_curves import learning_curve
from metajax.run.figures.paths import PathFit, paths
from metajax.run.launch import Baseline, Experiment, Preset, Report, launch
from metajax.run.schedule import Schedule
from metajax.run.tables import print_table
from metajax.run.videos import write_motion_page

# Average return after 0, 1, 2, ... updates: Tables 12 and 13 of the thesis for
# MAML and the context vector in navigation and the half-cheetah's direction,
# the released result files for the rest.
_PAPER = {
  'navigation': {
    'MAML': (-40.41, -11.68, -3.33, -3.23),
    'context vector': (-42.42, -13.90, -5.17, -3.18),
    'pretrained': (-40.8, -19.7, -11.7, -8.5),
    'random': (-82.7, -58.0, -53.8, -46.8),
    'oracle': (-2.29,),
  },
  'cheetah_direction': {
    'MAML': (-50.69, 293.19, 313.48, 315.65),
    'context vector': (-40.49, -44.08, -38.27, -42.50),
    'pretrained': (-43.0, -24.8, -12.9, 19.6),
    'random': (-35.7, 21.8, 62.3, 86.2),
    'oracle': (442.7,),
  },
  'cheetah_velocity': {
    'MAML': (-129.5, -78.6, -66.6, -60.8),
    'pretrained': (-158.0, -135.4, -128.5, -133.6),
    'random': (-254.8, -254.3, -246.8, -230.8),
    'oracle': (-54.5,),
  },
  'ant_velocity': {
    'MAML': (30.6, 96.7, 100.1, 101.4),
    'pretrained': (-1.8, 6.1, 8.5, 9.5),
    'random': (-78.6, -62.8, -48.6, -35.6),
    'oracle': (107.9,),
  },
  'ant_direction': {
    'MAML': (8.7, 499.2, 500.7, 499.1),
    'pretrained': (3.2, 1.3, 6.5, 6.9),
    'random': (3.1, 9.3, 16.0, 26.1),
    'oracle': (524.8,),
  },
}
# What stands in front of a method's metrics.
_METHODS = {
  'MAML': '',
  'context vector': 'context_vector/',
  'pretrained': 'pretrained/',
  'random': 'random/',
  'oracle': 'oracle/',
}
_DRAWN_TASKS = 4
_DRAWN_EPISODES = 5


def report(
  report: Report,
  *,
  make_env: Callable[[str], Env],
  draw: Callable[[Report, Env], None],
) -> None:
  """Prints the returns beside the thesis's and draws the figures."""
  env = make_env(report.config.physics)
  metrics, reference = report.metrics, _PAPER.get(report.experiment.name, {})
  curves = {
    label: _curve(metrics, prefix)
    for label, prefix in _METHODS.items()
    if f'{prefix}return/step_0' in metrics
  }
  print_table(
    [
      (
        f'{label}, {step} updates',
        metrics[f'{_METHODS[label]}return/step_{step}'],
      )
      for label, curve in curves.items()
      for step in range(len(curve.mean))
    ],
    {
      f'{label}, {step} updates': value
      for label, values in reference.items()
      for step, value in enumerate(values)
    },
    title=f'Return on held-out tasks of {env.spec.name}'
    + ('. Paper: Finn 2018' if reference else ''),
  )
  figures = report.workdir / 'figures'
  learning_curve(
    figures / 'learning_curve.png',
    {
      label: [
        {'step': row['step'], 'return': row[f'return/step_{step}']}
        for row in report.results[''].history
        if f'return/step_{step}' in row
      ]
      for label, step in (('before', 0), ('after one update', 1))
    },
    'return',
    title=f'MAML on {env.spec.name}, in meta-training',
    ylabel='return of an episode',
  )
  adaptation_curve(
    figures / 'adaptation.png',
    curves,
    reference={
      label: dict(enumerate(values))
      for label, values in reference.items()
      if label in curves
    },
    title=f'Held-out tasks of {env.spec.name}',
    ylabel='return of an episode',
    xlabel='policy-gradient updates',
  )
  draw(report, env)


def _curve(metrics: Mapping, prefix: str) -> Curve:
  cells = []
  while f'{prefix}return/step_{len(cells)}' in metrics:
    cells.append(metrics[f'{prefix}return/step_{len(cells)}'])
  return Curve(
    mean=[cell['mean'] for cell in cells],
    ci95=[cell['ci95'] for cell in cells],
  )


def _adapted_in_held_out_tasks(report: Report, env: Env):
  """Adapts to the first held-out tasks by one update.

  Returns:
    The policy before, the tasks, and the policies after, one a task.
  """
  config = report.config
  params = report.results[''].state.best_params
  key = evaluation_key(jax.random.key(report.seeds[0]))

  def adapt(key):
    task_key, rollout_key = jax.random.split(key)
    task = env.sample_task(task_key)
    return task, adapt_to_task(env, config, params, task, rollout_key)

  adapt_all = compile_hot(jax.vmap(adapt), holds_physics=env.holds_physics)
  return params['model'], *adapt_all(jax.random.split(key, _DRAWN_TASKS))


def draw_paths(report: Report, env: Env) -> None:
  """Draws navigation's paths before and after one update."""
  params, tasks, adapted = _adapted_in_held_out_tasks(report, env)
  network = gaussian_policy(env, report.config)

  def positions(params, task, key):
    rollouts = sample_rollouts(
      env, network, params, repeat_task(task, _DRAWN_EPISODES), key
    )
    return jnp.where(rollouts.valid[..., None], rollouts.observations, jnp.nan)

  keys = jax.random.split(jax.random.key(report.seeds[0]), _DRAWN_TASKS)
  before = jax.vmap(positions, in_axes=(None, 0, 0))(params, tasks, keys)
  after = jax.vmap(positions)(adapted, tasks, keys)
  goals, before, after = jax.device_get((tasks.goal, before, after))
  paths(
    report.workdir / 'figures' / 'paths.png',
    [PathFit(*task) for task in zip(goals, before, after, strict=True)],
    title='Held-out goals, before and after one update',
  )


def draw_motions(report: Report, env: Env) -> None:
  """Writes a page that plays the robot before and after one update."""
  params, tasks, adapted = _adapted_in_held_out_tasks(report, env)
  network = gaussian_policy(env, report.config)

  def positions(params, task, key):
    def policy(observation, memory, key):
      del key
      return network.distribution(params, observation).mean, memory

    return record_episode(env, policy, task, key).physics.qpos

  keys = jax.random.split(jax.random.key(report.seeds[0]), _DRAWN_TASKS)
  record = compile_hot(jax.vmap(positions), holds_physics=env.holds_physics)
  repeated = jax.tree.map(
    lambda x: jnp.broadcast_to(x, (_DRAWN_TASKS,) + x.shape), params
  )
  goals, before, after = jax.device_get(
    (tasks.goal, record(repeated, tasks, keys), record(adapted, tasks, keys))
  )
  motions = {}
  numbers = goals.reshape(_DRAWN_TASKS, -1)
  for index in (numbers[:, 0].argmin(), numbers[:, 0].argmax()):
    goal = ', '.join(f'{number:+.2g}' for number in numbers[index])
    for when, qpos in (('before', before), ('after one update', after)):
      motions[f'goal {goal}, {when}'] = motion_of_positions(
        env.model, qpos[index], env.spec.control_period_s
      )
  write_motion_page(
    report.workdir / 'videos' / 'adaptation.html',
    motions,
    title=f'{env.spec.name}: held-out tasks, before and after one update',
  )


def _experiment(
  name: str,
  source: str,
  *,
  make_env: Callable[[str], Env],
  config: MamlRlConfig,
  laptop: Preset,
  draw: Callable[[Report, Env], None],
) -> Experiment:
  """Returns an experiment; its robot is built when it is first needed.

  `make_env` takes the name of a physics engine.
  """
  make_env = functools.cache(make_env)

  def on_env(make, change=lambda env: env):
    return lambda config: make(change(make_env(config.physics)), config)

  paper = Preset(config=config, schedule=Schedule(num_steps=500, log_every=1))
  smoke = Preset(
    config=config.replace(
      meta_batch_size=4,
      num_rollouts=4,
      num_test_tasks=4,
      num_test_rollouts=4,
      num_pretraining_rollouts=8,
      hidden_sizes=(32, 32),
      # MuJoCo in C compiles in no time: on two cores MJX alone would take
      # longer than all the rest.
      physics='c',
    ),
    schedule=Schedule(num_steps=3, log_every=1),
  )
  return Experiment(
    name=name,
    source=source,
    presets={'smoke': smoke, 'laptop': laptop, 'paper': paper},
    make=on_env(maml_rl),
    baselines={
      'context_vector': Baseline(on_env(policy_baselines.context_vector)),
      'pretrained': Baseline(on_env(policy_baselines.pretrained)),
      'random': Baseline(on_env(policy_baselines.random_start), trained=False),
      'oracle': Baseline(on_env(policy_baselines.oracle, reveal_task)),
    },
    report=functools.partial(report, make_env=make_env, draw=draw),
  )


_NAVIGATION = MamlRlConfig()
_CHEETAH = MamlRlConfig(
  meta_batch_size=40, num_test_rollouts=20, budget='episodes'
)
# The trust region of direction is that of the parameters the thesis reports.
_CHEETAH_DIRECTION = _CHEETAH.replace(
  max_kl=0.02, pretrained_inner_lr=0.2, random_inner_lr=0.5
)
_CHEETAH_VELOCITY = _CHEETAH.replace(
  pretrained_inner_lr=0.02, random_inner_lr=0.1
)
# An ant may fall, which ends its episode.
_ANT = MamlRlConfig(
  meta_batch_size=40,
  num_test_rollouts=20,
  budget='steps',
  pretrained_inner_lr=0.2,
  random_inner_lr=1.0,
)
_ANT_DIRECTION = _ANT.replace(num_rollouts=40, num_test_rollouts=40)
# Mendonca et al. (2019), whose sweep of alpha begins with the thesis's.
_ANT_POSITION = _ANT.replace(
  num_rollouts=50, num_test_rollouts=50, num_test_tasks=20
)


def _laptop(config: MamlRlConfig) -> Preset:
  return Preset(
    config.replace(meta_batch_size=20, num_rollouts=20),
    Schedule(num_steps=200, log_every=1),
  )


EXPERIMENTS = (
  _experiment(
    'navigation',
    'Finn 2018, Table 12 and Figure 5: 2-D navigation',
    make_env=lambda physics: navigation(),
    config=_NAVIGATION,
    laptop=Preset(_NAVIGATION, Schedule(num_steps=100, log_every=1)),
    draw=draw_paths,
  ),
  _experiment(
    'cheetah_direction',
    'Finn 2018, Table 13 and Figure 6: half-cheetah, goal direction',
    make_env=lambda physics: half_cheetah('direction', physics=physics),
    config=_CHEETAH_DIRECTION,
    laptop=_laptop(_CHEETAH_DIRECTION),
    draw=draw_motions,
  ),
  _experiment(
    'cheetah_velocity',
    'Finn 2018, Figure 6: half-cheetah, goal velocity',
    make_env=lambda physics: half_cheetah('velocity', physics=physics),
    config=_CHEETAH_VELOCITY,
    laptop=_laptop(_CHEETAH_VELOCITY),
    draw=draw_motions,
  ),
  _experiment(
    'cheetah_position',
    'half-cheetah, goal position: that of ant_position on a line',
    make_env=lambda physics: half_cheetah('position', physics=physics),
    config=_CHEETAH_VELOCITY,
    laptop=_laptop(_CHEETAH_VELOCITY),
    draw=draw_motions,
  ),
  _experiment(
    'ant_direction',
    'Finn 2018, section 4.6.3: ant, goal direction',
    make_env=lambda physics: ant('direction', physics=physics),
    config=_ANT_DIRECTION,
    laptop=_laptop(_ANT_DIRECTION),
    draw=draw_motions,
  ),
  _experiment(
    'ant_velocity',
    'Finn 2018, section 4.6.3: ant, goal velocity',
    make_env=lambda physics: ant('velocity', physics=physics),
    config=_ANT,
    laptop=_laptop(_ANT),
    draw=draw_motions,
  ),
  _experiment(
    'ant_position',
    'Mendonca et al. 2019: ant, goal position, dense reward',
    make_env=lambda physics: ant('position', physics=physics),
    config=_ANT_POSITION,
    laptop=_laptop(_ANT_POSITION),
    draw=draw_motions,
  ),
)

if __name__ == '__main__':
  launch(EXPERIMENTS)
