"""MAML for reinforcement learning: policies that adapt by policy gradients.

Sources: Finn, Abbeel and Levine (2017), algorithm 3; Finn, "Learning to Learn
with Gradients" (2018), sections 4.2.2 and 4.6.3. Policy gradients inside,
trust-region policy optimisation outside:

  D_tr_i       rollouts of pi_theta in task i
  phi_i(theta) = theta - alpha * grad_theta J(theta; D_tr_i)
  D_test_i     rollouts of pi_{phi_i}
  J(theta)     = - mean_i mean_{D_test_i} [ pi_{phi_i(theta)} / pi_old * A ]
  KL(theta)    = mean over D_test of KL( pi_old || pi_{phi_i(theta)} )
  theta        <- trust-region step on J within KL <= delta

where pi_old is the policy that collected D_test_i. The rollouts, the inner
updates and the outer update are one compiled step. That theta decides what
D_tr_i holds is left out of the gradient, as in the paper. The inner update is
in `policy_adaptation`, the outer in `policy_outer_step`, where PPO stands
beside the trust region; meta-test is in `policy_meta_test`.
"""

from collections.abc import Callable

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp
import optax

from metajax.core.adaptation import learned_step_sizes
from metajax.core.algorithm import Algorithm
from metajax.core.learner import Params
from metajax.core.sharding import map_simulations
from metajax.envs.environment import Env, Task
from metajax.learners.maml_rl_config import MamlRlConfig, check_config
from metajax.learners.policy_adaptation import (
  collect,
  gaussian_policy,
  repeat_task,
  size_of_step,
  step_sizes,
  update_once,
)
from metajax.learners.policy_meta_test import fine_tuning_returns
from metajax.learners.policy_outer_step import (
  Experience,
  outer_optimizer,
  outer_step,
)


@struct.dataclass
class MamlRlState:
  """All that a resume needs.

  The meta-parameters are `{'model': theta}`, with `'inner_lr'` beside it where
  step sizes are learned.
  """

  params: Params  # pytree of arrays, the meta-parameters
  optimizer_state: optax.OptState  # of PPO's Adam; () with the trust region
  best_params: Params  # those of the best return after adaptation so far
  best_return: Array  # [] float32


def maml_rl(env: Env, config: MamlRlConfig) -> Algorithm:
  """Makes MAML-RL with a Gaussian policy on `env`'s tasks.

  Meta-test takes the parameters whose return after adaptation was the best in
  training (Finn 2018, section 4.6.3) and reports `return/step_k`, the mean
  undiscounted return of the rollouts collected after k updates.

  Args:
    env: the environment.
    config: the settings.

  Returns:
    An `Algorithm` whose state is a `MamlRlState`.

  Raises:
    InputError: for a setting out of range.
  """
  check_config(config)
  return policy_meta_training(
    env,
    config,
    sample_tasks=lambda key: repeat_task(
      env.sample_task(key), config.num_rollouts
    ),
    meta_batch_size=config.meta_batch_size,
    num_inner_steps=config.num_inner_steps,
    num_test_steps=config.num_test_steps,
    test_inner_lr=config.test_inner_lr,
  )


def policy_meta_training(
  env: Env,
  config: MamlRlConfig,
  *,
  sample_tasks: Callable[[Array], Task],
  meta_batch_size: int,
  num_inner_steps: int,
  num_test_steps: int,
  test_inner_lr: Array | float,
) -> Algorithm:
  """Makes the algorithm that MAML-RL and what it is compared with share.

  Args:
    env: the environment.
    config: the settings, but for those that follow.
    sample_tasks: `(key) -> tasks`, the task of each rollout of a batch.
    meta_batch_size: batches in a meta-iteration.
    num_inner_steps: inner updates, 0 or more.
    num_test_steps: inner updates at meta-test, 0 or more.
    test_inner_lr: step size of the first of them, where none is learned.

  Returns:
    An `Algorithm` whose state is a `MamlRlState`.
  """
  network = gaussian_policy(env, config)
  optimizer = outer_optimizer(config)

  def init(data, key):
    del data
    observation = jnp.zeros(env.spec.observation_size)
    theta = network.init(key, observation)['params']
    params = {'model': theta}
    if config.learn_inner_lr and num_inner_steps > 0:
      params['inner_lr'] = learned_step_sizes(
        theta, config.inner_lr, num_inner_steps
      )
    return MamlRlState(
      params=params,
      optimizer_state=() if optimizer is None else optimizer.init(params),
      best_params=jax.tree.map(jnp.copy, params),
      best_return=jnp.float32(-jnp.inf),
    )

  def step(data, state, key):
    del data
    keys = jax.random.split(key, (meta_batch_size, 2))
    experience = collect_and_adapt(
      env,
      config,
      state.params,
      jax.vmap(sample_tasks)(keys[:, 0]),
      keys[:, 1],
      num_inner_steps,
    )
    outer = outer_step(
      network, config, state.params, state.optimizer_state, experience
    )
    returns = jnp.mean(experience.returns, axis=0)
    metrics = {
      **{f'return/step_{i}': mean for i, mean in enumerate(returns)},
      **outer.metrics,
      'meta/mean_std': jnp.mean(jnp.exp(outer.params['model']['log_std'])),
    }
    # The return after adaptation is that of the parameters before the step.
    is_best = returns[-1] > state.best_return
    return MamlRlState(
      params=outer.params,
      optimizer_state=outer.optimizer_state,
      best_params=jax.tree.map(
        lambda now, best: jnp.where(is_best, now, best),
        state.params,
        state.best_params,
      ),
      best_return=jnp.where(is_best, returns[-1], state.best_return),
    ), metrics

  def evaluate(data, state, key):
    del data

    def in_task(key):
      task_key, rollout_key = jax.random.split(key)
      returns = fine_tuning_returns(
        env,
        config,
        state.best_params,
        env.sample_task(task_key),
        rollout_key,
        num_updates=num_test_steps,
        inner_lr=test_inner_lr,
      )
      return {f'return/step_{i}': mean for i, mean in enumerate(returns)}

    keys = jax.random.split(key, config.num_test_tasks)
    return map_simulations(in_task, keys, chunk_size=config.task_chunk_size)

  return Algorithm(
    data=(),
    init=init,
    step=step,
    evaluate=evaluate,
    holds_physics=env.holds_physics,
  )


def collect_and_adapt(
  env: Env,
  config: MamlRlConfig,
  params: Params,
  tasks: Task,
  keys: Array,
  num_inner_steps: int,
) -> Experience:
  """Collects D_tr for every inner step, and D_test, in every task.

  All batches are collected by one loop, so that a program holds the simulator
  once, however many inner steps there are.

  Args:
    env: the environment.
    config: the settings.
    params: meta-parameters.
    tasks: pytree with leading axes `[tasks, rollouts]`, the task of each
      rollout.
    keys: [tasks] typed keys of all rollouts.
    num_inner_steps: inner updates, each from fresh rollouts.

  Returns:
    The experience.
  """
  network = gaussian_policy(env, config)
  inner_lr = step_sizes(params, config.inner_lr)

  def in_task(tasks, key):
    def update(phi, batch, index):
      return update_once(network, phi, batch, size_of_step(inner_lr, index))

    def stage(phi, index):
      stage_key = jax.random.fold_in(key, index)
      batch, mean_return = collect(env, config, phi, tasks, stage_key)
      is_support = index < num_inner_steps
      phi = jax.lax.cond(
        is_support, update, lambda phi, *_: phi, phi, batch, index
      )
      return phi, (batch, mean_return)

    phi, (batches, returns) = jax.lax.scan(
      stage, params['model'], jnp.arange(num_inner_steps + 1)
    )
    query = jax.tree.map(lambda x: x[-1], batches)
    return Experience(
      supports=jax.tree.map(lambda x: x[:-1], batches),
      queries=query,
      old=network.distribution(phi, query.observations),
      returns=returns,
    )

  return map_simulations(
    in_task, tasks, keys, chunk_size=config.task_chunk_size
  )
