"""Ten meta-steps of several algorithms on one device, and over 2 and 8.

A program of its own, since the number of devices is set before JAX starts. It
is told the algorithms' names and prints, for each of them, the largest
difference that a mesh makes.
"""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metajax.core.algorithm import init_key, step_key
from metajax.core.meta_training import meta_train
from metajax.core.sharding import shard
from metajax.core.sweeps import sweep
from metajax.envs.navigation import navigation
from metajax.learners.maml import MamlConfig, maml
from metajax.learners.maml_rl import MamlRlConfig, maml_rl
from metajax.nets.perceptrons import Perceptron
from metajax.tasks.regression import sinusoids
from metajax.testing.comparison import on_host

NUM_STEPS = 10


def supervised(config):
  network = Perceptron(config.hidden_sizes, 1, activation=jnp.tanh)
  return meta_train(
    maml(network, inner_lr=config.inner_lr),
    sinusoids(shots=5, query_shots=5),
    optax.adam(config.outer_lr),
    meta_batch_size=config.meta_batch_size,
    task_chunk_size=config.task_chunk_size,
  )


def algorithms():
  config = MamlConfig(hidden_sizes=(8,), meta_batch_size=16)
  # Five tasks do not divide by the devices; eight columns do.
  columns = [
    config.replace(inner_lr=inner_lr, meta_batch_size=5)
    for inner_lr in (0.01, 0.02, 0.05, 0.1)
  ]
  reinforced = maml_rl(
    navigation(horizon=8),
    MamlRlConfig(
      meta_batch_size=16,
      num_rollouts=4,
      hidden_sizes=(8,),
      # So few steps leave the Fisher matrix singular; without damping its
      # inverse makes a difference of one bit a hundred thousand times larger.
      damping=1.0,
      # Fewer than it takes to end at a residual that rounding decides on.
      conjugate_gradient_steps=3,
    ),
  )
  return {
    'meta_train': supervised(config.replace(task_chunk_size=8)),
    'sweep': sweep(supervised, columns, seeds=[0, 1]),
    'maml_rl': reinforced,
  }


def run(algorithm):
  """Takes the steps one after another: what a run ends with."""
  run_key = jax.random.key(0)

  def body(state, i):
    state, metrics = algorithm.step(algorithm.data, state, step_key(run_key, i))
    return state, (state, metrics)

  @jax.jit
  def whole():
    state = algorithm.init(algorithm.data, init_key(run_key))
    end, (states, metrics) = jax.lax.scan(body, state, jnp.arange(NUM_STEPS))
    return (end, metrics), states

  return whole()


def steps_from(algorithm, states):
  """Takes one step from each of several states."""

  def one(inputs):
    state, i = inputs
    key = step_key(jax.random.key(0), i)
    return algorithm.step(algorithm.data, state, key)

  indices = NUM_STEPS + jnp.arange(NUM_STEPS)
  return jax.jit(lambda: jax.lax.map(one, (states, indices)))()


def difference(one, other):
  worst = 0.0
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
    scale = max(float(np.max(np.abs(b))), 1.0)
    worst = max(worst, float(np.max(np.abs(a.astype(float) - b))) / scale)
  return worst


def main():
  differences = {'devices': jax.device_count()}
  for name in sys.argv[1:]:
    algorithm = algorithms()[name]
    alone, states = run(algorithm)
    differences[name] = {}
    for size in (2, 8):
      mesh = jax.make_mesh((size,), ('tasks',), devices=jax.devices()[:size])
      sharded = shard(algorithm, mesh)
      if name == 'maml_rl':
        # What a policy does next depends on all that it did before, so that
        # two runs part from one bit on; single steps from equal states do not.
        one, other = (
          steps_from(either, states)[0] for either in (sharded, algorithm)
        )
      else:
        one, other = run(sharded)[0], alone
      differences[name][size] = difference(on_host(one), on_host(other))
  print(json.dumps(differences))


if __name__ == '__main__':
  main()
