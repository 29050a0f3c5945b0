"""What MAML-RL is compared with, on a task whose optimum is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.core.algorithm import evaluation_key, init_key, step_key
from metajax.envs.environment import reveal_task
from metajax.learners.maml_rl_config import MamlRlConfig
from metajax.learners.policy_baselines import (
  context_vector,
  oracle,
  pretrained,
  random_start,
)
from metajax.testing.probes import lever

CONFIG = MamlRlConfig(
  hidden_sizes=(8,),
  meta_batch_size=10,
  num_rollouts=10,
  num_test_rollouts=10,
  num_test_steps=1,
  num_pretraining_rollouts=40,
  max_kl=0.1,
)


def trained(algorithm, num_steps):
  """Returns the states at both ends and the mean returns at meta-test."""
  key = jax.random.key(0)

  @jax.jit
  def whole():
    start = algorithm.init((), init_key(key))
    end, _ = jax.lax.scan(
      lambda state, i: algorithm.step((), state, step_key(key, i)),
      start,
      jnp.arange(num_steps),
    )
    return start, end, algorithm.evaluate((), end, evaluation_key(key))

  start, end, evaluation = whole()
  return start, end, {k: float(v.mean()) / 5 for k, v in evaluation.items()}


def test_a_context_vector_tells_tasks_apart():
  start, end, returns = trained(context_vector(lever(), CONFIG), 60)
  assert abs(returns['return/step_0']) < 0.35
  assert returns['return/step_1'] > 0.6
  # The outer step learns all: the network, and the context to start from.
  moved = jax.tree.map(
    lambda new, old: bool(np.any(new != old)), end.params, start.params
  )
  assert all(jax.tree.leaves(moved)), moved
  assert end.params['model']['context'].shape == (CONFIG.context_size,)


def test_the_oracle_needs_no_adaptation():
  _, _, returns = trained(oracle(reveal_task(lever()), CONFIG), 60)
  assert set(returns) == {'return/step_0'}
  assert returns['return/step_0'] > 0.8


@pytest.mark.parametrize('make', [pretrained, random_start])
def test_only_the_context_vector_has_a_context(make):
  settings = CONFIG.replace(adapts='context', learn_inner_lr=True)
  state = make(lever(), settings).init((), jax.random.key(0))
  assert set(state.params) == {'model'}
  assert set(state.params['model']) == {'mean', 'log_std'}
