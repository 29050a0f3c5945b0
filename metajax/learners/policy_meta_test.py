"""How a policy is meta-tested: fine-tuned in a task it has not met.

Finn 2018, section 4.6.3: rollouts, one policy-gradient step on them, rollouts
of what came of it, and so on; the return at step k is that of the rollouts
collected after k updates.
"""

import jax
from jax import Array
import jax.numpy as jnp

from metajax.core.learner import Params, PyTree
from metajax.envs.environment import Env, Task
from metajax.learners.maml_rl_config import MamlRlConfig
from metajax.learners.policy_adaptation import (
  collect,
  gaussian_policy,
  repeat_task,
  size_of_step,
  update_once,
)


def fine_tuning_returns(
  env: Env,
  config: MamlRlConfig,
  params: Params,
  task: Task,
  key: Array,
  *,
  num_updates: int,
  inner_lr: Array | float,
) -> Array:
  """Fine-tunes in one task, each update on fresh rollouts.

  Args:
    env: the environment.
    config: the settings.
    params: meta-parameters.
    task: the task, one.
    key: key of all rollouts.
    num_updates: inner updates, >= 0.
    inner_lr: alpha of the first of them, where none is learned.

  Returns:
    [num_updates + 1] float32, the mean return after 0, 1, ... updates.
  """
  network = gaussian_policy(env, config)
  tasks = repeat_task(task, config.num_test_rollouts)

  def update(phi, inputs):
    index, inner_lr = inputs
    batch_key = jax.random.fold_in(key, index)
    batch, mean_return = collect(env, config, phi, tasks, batch_key)
    return update_once(network, phi, batch, inner_lr), mean_return

  # The last update is taken and not looked at: one loop collects all batches.
  steps = jnp.arange(num_updates + 1)
  inner_lrs = meta_test_step_sizes(config, params, num_updates + 1, inner_lr)
  return jax.lax.scan(update, params['model'], (steps, inner_lrs))[1]


def adapt_to_task(
  env: Env, config: MamlRlConfig, params: Params, task: Task, key: Array
) -> Params:
  """Adapts to one task as at meta-test: rollouts, then one inner update.

  Args:
    env: the environment.
    config: the settings.
    params: meta-parameters.
    task: the task, one.
    key: key of the rollouts.

  Returns:
    phi.
  """
  tasks = repeat_task(task, config.num_test_rollouts)
  theta = params['model']
  batch, _ = collect(env, config, theta, tasks, key)
  inner_lrs = meta_test_step_sizes(config, params, 1, config.test_inner_lr)
  return update_once(
    gaussian_policy(env, config), theta, batch, size_of_step(inner_lrs, 0)
  )


def meta_test_step_sizes(
  config: MamlRlConfig,
  params: Params,
  num_updates: int,
  inner_lr: Array | float,
) -> PyTree:
  """Returns alpha of every update at meta-test.

  A fixed alpha is scaled by `test_inner_lr_decay` from the second update on.
  Learned ones serve the updates that they were learned for; beyond, the last
  of them is scaled.

  Args:
    config: the settings.
    params: meta-parameters.
    num_updates: updates, >= 1.
    inner_lr: alpha of the first, where none is learned.

  Returns:
    A `[num_updates]` array, or a pytree of them like theta.
  """

  def decays(num_learned):
    rest = num_updates - num_learned
    return jnp.array([1.0] * num_learned + [config.test_inner_lr_decay] * rest)

  def extended(sizes):
    num_learned = min(sizes.shape[0], num_updates)
    index = jnp.minimum(jnp.arange(num_updates), sizes.shape[0] - 1)
    return sizes[index] * decays(num_learned)

  if 'inner_lr' in params:
    return jax.tree.map(extended, params['inner_lr'])
  return inner_lr * decays(1)
