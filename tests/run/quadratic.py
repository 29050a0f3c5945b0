"""A binary with tiny experiments, launched by the tests of `launch`.

Not a test itself: each task is a random target, and what is learned is their
mean by gradient descent.
"""

import json

from flax import struct
import jax
import jax.numpy as jnp

from metajax.core.algorithm import Algorithm
from metajax.core.validation import check_positive
from metajax.run.figures.learning_curves import learning_curve
from metajax.run.launch import Baseline, Experiment, Preset, launch
from metajax.run.schedule import Schedule
from metajax.run.tables import print_table


@struct.dataclass
class Config:
  lr: float = 0.1
  target: float = 2.0
  num_tasks: int = struct.field(pytree_node=False, default=4)


def make(config: Config) -> Algorithm:
  """Learns the mean of the tasks' targets."""
  check_positive('lr', config.lr)

  def init(data, key):
    del data
    return {'x': jax.random.normal(key, ())}

  def losses(x, key):
    noise = jax.random.normal(key, (config.num_tasks,))
    return jnp.square(x - config.target - 0.01 * noise)

  def step(data, state, key):
    del data
    loss, gradient = jax.value_and_grad(lambda x: losses(x, key).mean())(
      state['x']
    )
    metrics = {'meta/loss': loss, 'meta/skipped': jnp.float32(0)}
    return {'x': state['x'] - config.lr * gradient}, metrics

  def evaluate(data, state, key):
    del data
    return {'loss': losses(state['x'], key)}

  return Algorithm((), init, step, evaluate)


def make_unlike(config: Config) -> Algorithm:
  """Evaluates something that the experiment does not."""
  algorithm = make(config)

  def evaluate(data, state, key):
    return {'distance': jnp.sqrt(algorithm.evaluate(data, state, key)['loss'])}

  return algorithm._replace(evaluate=evaluate)


def make_broken(config: Config) -> Algorithm:
  """Fails in a way that nobody foresaw."""
  del config
  raise RuntimeError('two lines\nof a bug')


def report(report) -> None:
  """Prints and draws, and leaves what it was given for the tests to see."""
  print_table(list(report.metrics.items()), {'loss': 0.0}, title='quadratic')
  learning_curve(
    report.workdir / 'figures' / 'learning.png',
    {name or 'ours': r.history for name, r in report.results.items()},
    'meta/loss',
  )
  shapes = {
    name: {
      'x': list(jnp.shape(result.state['x'])),
      'evaluation': {
        key: list(values.shape) for key, values in result.evaluation.items()
      },
    }
    for name, result in report.results.items()
  }
  (report.workdir / 'report.json').write_text(json.dumps(shapes))


_PRESETS = {
  'smoke': Preset(
    Config(), Schedule(num_steps=20, log_every=10, best_metric='loss')
  ),
  'laptop': Preset(Config(), Schedule(num_steps=60, log_every=10)),
}

EXPERIMENTS = (
  Experiment(
    name='quadratic',
    source='Nobody 1900, Table 1: distance to the mean',
    presets=_PRESETS,
    make=make,
    baselines={
      'slow': Baseline(lambda config: make(config.replace(lr=config.lr / 10))),
      'untrained': Baseline(make, trained=False),
      'unlike': Baseline(make_unlike),
    },
    report=report,
    evaluations={
      '8_tasks': lambda config: make(config.replace(num_tasks=8)),
    },
  ),
  Experiment(
    name='broken',
    source='Nobody 1900, Table 2: a bug',
    presets=_PRESETS,
    make=make_broken,
    baselines={},
    report=report,
  ),
)

if __name__ == '__main__':
  launch(EXPERIMENTS)
