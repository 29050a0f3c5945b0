"""Meta-test of policies: the step sizes of its updates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.learners.maml_rl_config import MamlRlConfig
from metajax.learners.policy_adaptation import gaussian_policy
from metajax.learners.policy_meta_test import (
  adapt_to_task,
  fine_tuning_returns,
  meta_test_step_sizes,
)
from metajax.testing.comparison import assert_equal_bits
from metajax.testing.probes import lever

CONFIG = MamlRlConfig(
  hidden_sizes=(4,), num_test_rollouts=6, test_inner_lr_decay=0.5
)


def test_a_fixed_step_size_is_halved_from_the_second_update_on():
  sizes = meta_test_step_sizes(CONFIG, {'model': {}}, 4, 0.2)
  np.testing.assert_allclose(sizes, [0.2, 0.1, 0.1, 0.1])


@pytest.mark.parametrize(
  ('num_updates', 'expected'),
  [(1, [0.3]), (2, [0.3, -0.2]), (4, [0.3, -0.2, -0.1, -0.1])],
)
def test_learned_step_sizes_serve_what_they_were_learned_for(
  num_updates, expected
):
  params = {'model': {}, 'inner_lr': {'a': jnp.array([0.3, -0.2])}}
  sizes = meta_test_step_sizes(CONFIG, params, num_updates, 9.0)
  np.testing.assert_allclose(sizes['a'], expected)


@pytest.mark.slow
def test_learned_step_sizes_decide_the_updates():
  env = lever()
  network = gaussian_policy(env, CONFIG)
  theta = network.init(jax.random.key(0), jnp.ones(1))['params']
  task = env.sample_task(jax.random.key(1))
  still = jax.tree.map(lambda _: jnp.zeros(1), theta)
  moving = still | {'log_std': jnp.array([0.1])}

  def adapted(params):
    return adapt_to_task(env, CONFIG, params, task, jax.random.key(2))

  assert_equal_bits('phi', adapted({'model': theta, 'inner_lr': still}), theta)
  phi = adapted({'model': theta, 'inner_lr': moving})
  assert_equal_bits('mean', phi['mean'], theta['mean'])
  assert phi['log_std'] != theta['log_std']


@pytest.mark.parametrize('num_updates', [0, 2])
def test_a_return_before_every_update_and_after_the_last(num_updates):
  env = lever()
  theta = gaussian_policy(env, CONFIG).init(jax.random.key(0), jnp.ones(1))
  returns = fine_tuning_returns(
    env,
    CONFIG,
    {'model': theta['params']},
    env.sample_task(jax.random.key(1)),
    jax.random.key(2),
    num_updates=num_updates,
    inner_lr=1.0,
  )
  assert returns.shape == (num_updates + 1,)
  if num_updates:
    assert returns[-1] > returns[0]
