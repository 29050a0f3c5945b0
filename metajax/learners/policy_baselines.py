"""What MAML-RL is compared with (Finn 2018, section 4.6.3).

Each returns an algorithm with the state and the metrics of `maml_rl`, so that
it is meta-tested alike. All but the context vector are trained by the same
outer step without any adaptation, on one batch whose every rollout has a task
of its own.
"""

import dataclasses

import jax

from metajax.core.algorithm import Algorithm
from metajax.envs.environment import Env
from metajax.learners.maml_rl import maml_rl, policy_meta_training
from metajax.learners.maml_rl_config import MamlRlConfig, check_config


def context_vector(env: Env, config: MamlRlConfig) -> Algorithm:
  """Makes a policy that sees free parameters z and adapts them alone.

    z_i = z - alpha * grad_z J(theta, z; D_tr_i)

  The outer step learns theta and the z to start from, and all else is as in
  `maml_rl` (Finn 2018, section 4.6.3, after Rei 2015). Of the policy's first
  layer z moves the bias, and nothing else can change with the task.

  Raises:
    InputError: for a setting out of range.
  """
  return maml_rl(env, dataclasses.replace(config, adapts='context'))


def pretrained(env: Env, config: MamlRlConfig) -> Algorithm:
  """Makes one policy for all tasks at once, to be fine-tuned at meta-test.

  Raises:
    InputError: for a setting out of range.
  """
  return _without_adaptation(
    env, config, config.num_test_steps, config.pretrained_inner_lr
  )


def random_start(env: Env, config: MamlRlConfig) -> Algorithm:
  """Makes a policy that is fine-tuned from where it starts; do not train it.

  Raises:
    InputError: for a setting out of range.
  """
  return _without_adaptation(
    env, config, config.num_test_steps, config.random_inner_lr
  )


def oracle(env: Env, config: MamlRlConfig) -> Algorithm:
  """Makes the upper bound: a policy that observes its task and never adapts.

  Args:
    env: an environment whose observation reveals the task, as of
      `metajax.envs.environment.reveal_task`.
    config: the settings.

  Returns:
    The algorithm; of its returns there is only `return/step_0`.

  Raises:
    InputError: for a setting out of range.
  """
  return _without_adaptation(env, config, 0, config.test_inner_lr)


def _without_adaptation(env, config, num_test_steps, test_inner_lr):
  check_config(config)
  config = dataclasses.replace(config, adapts='all')

  def sample_tasks(key):
    keys = jax.random.split(key, config.num_pretraining_rollouts)
    return jax.vmap(env.sample_task)(keys)

  return policy_meta_training(
    env,
    config,
    sample_tasks=sample_tasks,
    meta_batch_size=1,
    num_inner_steps=0,
    num_test_steps=num_test_steps,
    test_inner_lr=test_inner_lr,
  )
