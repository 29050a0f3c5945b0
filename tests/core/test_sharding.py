"""Over devices: the same numbers, and clear words where they do not divide."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax.core.meta_training import meta_train
from metajax.core.sharding import lay_tasks, map_tasks, shard
from metajax.core.validation import InputError
from metajax.envs.navigation import navigation
from metajax.learners.maml import maml
from metajax.learners.maml_rl import MamlRlConfig
from metajax.learners.policy_baselines import pretrained
from metajax.nets.perceptrons import Perceptron
from metajax.tasks.regression import sinusoids
from metajax.testing.comparison import assert_close

PROGRAM = pathlib.Path(__file__).parent / 'sharded_runs.py'
ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize(
  'names',
  [
    ['meta_train', 'sweep'],
    pytest.param(['maml_rl'], marks=pytest.mark.slow),
  ],
)
def test_two_and_eight_devices_agree_with_one(names):
  answer = subprocess.run(
    [sys.executable, str(PROGRAM), *names],
    env={
      **os.environ,
      'JAX_NUM_CPU_DEVICES': '8',
      'JAX_DISABLE_MOST_OPTIMIZATIONS': '1',
      'PYTHONPATH': str(ROOT),
    },
    capture_output=True,
    text=True,
    check=False,
  )
  assert answer.returncode == 0, answer.stderr
  differences = json.loads(answer.stdout)
  assert differences.pop('devices') == 8
  assert set(differences) == set(names)
  for by_size in differences.values():
    assert set(by_size) == {'2', '8'}
    assert max(by_size.values()) <= 1e-5


def two_devices():
  return jax.make_mesh((2,), ('tasks',), devices=jax.devices()[:2])


def odd():
  return meta_train(
    maml(Perceptron((4,), 1), inner_lr=0.1),
    sinusoids(shots=2, query_shots=2),
    optax.sgd(0.1),
    meta_batch_size=3,
  )


def test_tasks_that_do_not_divide_by_the_devices_are_refused():
  algorithm = shard(odd(), two_devices())
  state = algorithm.init(algorithm.data, jax.random.key(0))
  with pytest.raises(InputError, match='divides by the 2 devices, got 3'):
    algorithm.step(algorithm.data, state, jax.random.key(1))


def test_the_mesh_is_forgotten_after_an_error():
  algorithm = shard(odd(), two_devices())
  state = algorithm.init(algorithm.data, jax.random.key(0))
  with pytest.raises(InputError):
    algorithm.step(algorithm.data, state, jax.random.key(1))
  assert lay_tasks(jnp.ones(3)).shape == (3,)


def test_tasks_lie_on_both_devices():
  def step(data, state, key):
    del data, key
    return lay_tasks(state), {}

  algorithm = shard(odd()._replace(step=step), two_devices())
  laid, _ = jax.jit(algorithm.step)((), jnp.arange(4.0), jax.random.key(0))
  assert {s.data.shape for s in laid.addressable_shards} == {(2,)}
  assert len(laid.sharding.device_set) == 2


@pytest.mark.parametrize('chunk_size', [None, 1, 2, 4])
def test_mapped_tasks_equal_a_loop(chunk_size):
  xs = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
  ys = np.arange(4, dtype=np.float32)

  def mapped(xs, ys):
    return map_tasks(
      lambda x, y: {'sum': jnp.sum(x) * y, 'x': 2 * x},
      xs,
      ys,
      chunk_size=chunk_size,
    )

  expected = {'sum': xs.sum(axis=1) * ys, 'x': 2 * xs}
  assert_close('one device', jax.jit(mapped)(xs, ys), expected, 1e-6)
  algorithm = shard(
    odd()._replace(step=lambda data, state, key: mapped(*state)), two_devices()
  )
  sharded = jax.jit(algorithm.step)((), (xs, ys), jax.random.key(0))
  assert_close('two devices', sharded, expected, 1e-6)


def test_an_algorithm_of_one_task_is_not_spread():
  config = MamlRlConfig(
    num_pretraining_rollouts=4, hidden_sizes=(4,), num_test_rollouts=2
  )
  algorithm = pretrained(navigation(horizon=4), config)
  state = algorithm.init((), jax.random.key(0))
  alone, _ = jax.jit(algorithm.step)((), state, jax.random.key(1))
  spread, _ = jax.jit(shard(algorithm, two_devices()).step)(
    (), state, jax.random.key(1)
  )
  assert_close('parameters', spread.params, alone.params, 1e-4)


TWO_COLUMNS = """
import jax
from metajax.core.sharding import shard
from metajax.core.sweeps import sweep
from metajax.envs.navigation import navigation
from metajax.learners.maml_rl import MamlRlConfig, maml_rl

algorithm = sweep(
  lambda config: maml_rl(navigation(), config), [MamlRlConfig()], seeds=[0, 1]
)
algorithm = shard(algorithm, jax.make_mesh((2,), ('tasks',)))
state = jax.jit(algorithm.init)((), jax.random.key(0))
state, _ = jax.jit(algorithm.step)((), state, jax.random.key(0))
jax.block_until_ready(state)
"""


@pytest.mark.slow
def test_devices_that_share_a_processor_do_not_wait_for_each_other():
  """They did, for ever, with a QR of LAPACK's in each of them."""
  done = subprocess.run(
    [sys.executable, '-c', TWO_COLUMNS],
    env={
      **os.environ,
      'JAX_NUM_CPU_DEVICES': '2',
      'JAX_DISABLE_MOST_OPTIMIZATIONS': '1',
      'PYTHONPATH': str(ROOT),
    },
    capture_output=True,
    text=True,
    check=False,
    timeout=300,
  )
  assert done.returncode == 0, done.stderr
