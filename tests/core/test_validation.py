"""Wrong inputs: one line that names the argument, before anything compiles."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax.core.adaptation import gradient_adapt, learned_step_sizes
from metajax.core.meta_training import meta_train
from metajax.core.sharding import shard
from metajax.core.validation import (
  InputError,
  check_choice,
  check_count,
  check_positive,
  check_range,
  check_same_structure,
)
from metajax.envs.navigation import navigation
from metajax.learners.maml import fine_tuning_curve, maml
from metajax.learners.maml_rl import MamlRlConfig, maml_rl
from metajax.learners.policy_baselines import (
  oracle,
  pretrained,
  random_start,
)
from metajax.nets.perceptrons import Perceptron
from metajax.tasks.regression import reveal_task, sinusoids
from metajax.testing.probes import lever, linear_regressions

NAN = float('nan')
NETWORK = Perceptron((4,), 1)
PARAMS = {'a': np.ones(2, np.float32), 'b': np.ones(3, np.float32)}


def adapt(**arguments):
  arguments = {'num_steps': 3, 'inner_lr': 0.1, **arguments}
  return gradient_adapt(
    lambda params, data: jnp.sum(params['a']) + jnp.sum(params['b']),
    PARAMS,
    arguments.pop('data', np.zeros(3, np.float32)),
    **arguments,
  )


def tasks(**arguments):
  return sinusoids(**{'shots': 5, 'query_shots': 5, **arguments})


def train(**arguments):
  return meta_train(
    maml(NETWORK, inner_lr=0.1),
    tasks(),
    optax.sgd(0.1),
    **{'meta_batch_size': 4, **arguments},
  )


def reinforce(make=maml_rl, **fields):
  return make(navigation(horizon=5), MamlRlConfig(**fields))


CATALOGUE = [
  ('num_steps', lambda: adapt(num_steps=-1)),
  ('num_steps', lambda: adapt(num_steps=1.0)),
  ('num_steps', lambda: adapt(num_steps=True)),
  ('num_steps', lambda: adapt(num_steps=None)),
  ('num_steps', lambda: adapt(num_steps=np.ones((2, 2)))),
  ('inner_lr', lambda: adapt(inner_lr=-0.1)),
  ('inner_lr', lambda: adapt(inner_lr=0.0)),
  ('inner_lr', lambda: adapt(inner_lr=NAN)),
  ('inner_lr', lambda: adapt(inner_lr=float('inf'))),
  ('inner_lr', lambda: adapt(inner_lr='0.1')),
  ('inner_lr', lambda: adapt(inner_lr=True)),
  ('inner_lr', lambda: adapt(inner_lr=np.array([0.1, -0.1, 0.1]))),
  ('inner_lr', lambda: adapt(inner_lr=np.full(2, 0.1))),
  ('inner_lr', lambda: adapt(inner_lr=jnp.full((3, 1), 0.1))),
  ('inner_lr', lambda: adapt(inner_lr={'a': 0.1})),
  ('inner_lr', lambda: adapt(inner_lr={'a': 0.1, 'b': np.full(2, 0.1)})),
  ('inner_lr, optimizer', lambda: adapt(optimizer=optax.sgd(0.1))),
  ('inner_lr, optimizer', lambda: adapt(inner_lr=None)),
  ('adapts', lambda: adapt(adapts={'a': True})),
  ('clip', lambda: adapt(clip=0.0)),
  ('clip', lambda: adapt(clip=-1.0)),
  ('data_axis', lambda: adapt(data_axis=1)),
  ('data', lambda: adapt(data_axis=0, data=np.zeros((2, 5)))),
  ('data', lambda: adapt(data_axis=0, data=np.zeros(()))),
  ('inner_lr', lambda: learned_step_sizes(PARAMS, -0.1, 2)),
  ('num_steps', lambda: learned_step_sizes(PARAMS, 0.1, 0)),
  ('inner_lr', lambda: maml(NETWORK, inner_lr=-0.1)),
  ('inner_lr', lambda: maml(NETWORK, inner_lr=NAN)),
  ('num_inner_steps', lambda: maml(NETWORK, inner_lr=0.1, num_inner_steps=-1)),
  ('num_inner_steps', lambda: maml(NETWORK, inner_lr=0.1, num_inner_steps=1.0)),
  ('num_steps', lambda: fine_tuning_curve(NETWORK, inner_lr=0.1, num_steps=-1)),
  ('inner_lr', lambda: fine_tuning_curve(NETWORK, inner_lr=0, num_steps=1)),
  ('shots', lambda: tasks(shots=0)),
  ('shots', lambda: tasks(shots=True)),
  ('query_shots', lambda: tasks(query_shots=0)),
  ('query_shots', lambda: tasks(query_shots=2.0)),
  ('amplitude_range', lambda: tasks(amplitude_range=(5.0, 0.1))),
  ('amplitude_range', lambda: tasks(amplitude_range=(NAN, 1.0))),
  ('amplitude_range', lambda: tasks(amplitude_range=3.0)),
  ('phase_range', lambda: tasks(phase_range=(0.0,))),
  ('input_range', lambda: tasks(input_range=(0.0, float('inf')))),
  ('input_range', lambda: tasks(input_range=('0', '1'))),
  (
    'tasks',
    lambda: reveal_task(
      linear_regressions().tasks._replace(
        sample=lambda data, key: (
          tasks().sample((), key)._replace(task=jnp.zeros((2, 2)))
        )
      )
    ).sample((), jax.random.key(0)),
  ),
  ('meta_batch_size', lambda: train(meta_batch_size=0)),
  ('meta_batch_size', lambda: train(meta_batch_size=True)),
  ('task_chunk_size', lambda: train(task_chunk_size=3)),
  ('task_chunk_size', lambda: train(task_chunk_size=0)),
  ('num_test_tasks', lambda: train(num_test_tasks=1)),
  ('inner_lr', lambda: reinforce(inner_lr=-0.1)),
  ('max_kl', lambda: reinforce(max_kl=0.0)),
  ('damping', lambda: reinforce(damping=-1e-5)),
  ('discount', lambda: reinforce(discount=1.5)),
  ('discount', lambda: reinforce(discount=NAN)),
  ('gae_lambda', lambda: reinforce(gae_lambda=-0.1)),
  ('backtrack_ratio', lambda: reinforce(backtrack_ratio=2.0)),
  ('meta_batch_size', lambda: reinforce(meta_batch_size=0)),
  ('num_rollouts', lambda: reinforce(num_rollouts=0)),
  ('num_inner_steps', lambda: reinforce(num_inner_steps=0)),
  ('num_test_tasks', lambda: reinforce(num_test_tasks=1)),
  ('num_test_steps', lambda: reinforce(num_test_steps=-1)),
  ('budget', lambda: reinforce(budget='rollouts')),
  ('task_chunk_size', lambda: reinforce(task_chunk_size=0)),
  ('hidden_sizes', lambda: reinforce(hidden_sizes=(0,))),
  ('pretrained_inner_lr', lambda: reinforce(pretrained, pretrained_inner_lr=0)),
  ('random_inner_lr', lambda: reinforce(random_start, random_inner_lr=NAN)),
  ('discount', lambda: reinforce(oracle, discount=1.5)),
  ('mesh', lambda: shard(train(), jax.make_mesh((1, 1), ('tasks', 'model')))),
  ('num_tasks', lambda: linear_regressions(num_tasks=1)),
  ('horizon', lambda: lever(horizon=0)),
  ('rate', lambda: check_positive('rate', 1j)),
  ('rate', lambda: check_positive('rate', [[1], [1, 2]])),
  ('rate', lambda: check_positive('rate', np.zeros((99, 9)))),
  ('rate', lambda: check_range('rate', None, minimum=0.0, maximum=1.0)),
  ('kind', lambda: check_choice('kind', 'c', ('a', 'b'))),
  ('kind', lambda: check_choice('kind', ['a'], ('a', 'b'))),
  ('tree', lambda: check_same_structure('tree', [1], {'a': 1})),
]


@pytest.mark.parametrize(
  ('named', 'call'),
  CATALOGUE,
  ids=[f'{i}-{named}' for i, (named, _) in enumerate(CATALOGUE)],
)
def test_a_wrong_input_is_one_line_that_names_it(named, call):
  with pytest.raises(InputError) as error:
    call()
  message = str(error.value)
  assert message.startswith(f'{named}:')
  assert '\n' not in message
  assert len(message) < 400


def test_examples_of_unlike_shape_are_not_broadcast():
  learner = maml(NETWORK, inner_lr=0.1)
  episode = tasks().sample((), jax.random.key(0))
  params = learner.init(jax.random.key(1), episode)
  flat = episode.support._replace(targets=episode.support.targets[:, 0])
  with pytest.raises(AssertionError):
    learner.adapt(params, flat, jax.random.key(2))


@pytest.mark.parametrize('number', [1, 3, np.int32(2)])
def test_counts(number):
  check_count('count', number)


@pytest.mark.parametrize(
  'value', [1, 0.1, np.float32(2), np.ones(3), [1, 2], jnp.bfloat16(1)]
)
def test_positive_numbers(value):
  check_positive('rate', value)


def test_a_traced_value_passes():
  @jax.jit
  def traced(rate):
    check_positive('rate', rate)
    check_range('rate', rate, minimum=0.0, maximum=0.1)
    return rate

  assert traced(-1.0) == -1.0
