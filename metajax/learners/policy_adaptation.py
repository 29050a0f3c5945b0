"""Adapting a policy to one task by policy gradients, from its own rollouts.

The inner loop of MAML-RL (Finn 2018, section 4.2.2, algorithm 3, lines 5 to
7), which is also how every policy here is fine-tuned at meta-test.
"""

import jax
from jax import Array
import jax.numpy as jnp

from metajax.core.adaptation import gradient_adapt
from metajax.core.learner import Params, PyTree
from metajax.envs.environment import Env, Task
from metajax.envs.rollout import (
  Trajectory,
  episode_return,
  is_last_step,
  rollout,
  whole_episodes,
)
from metajax.learners.maml_rl_config import MamlRlConfig
from metajax.nets.context import context_alone
from metajax.nets.policies import GaussianPolicy
from metajax.rl.policy_batch import PolicyBatch, policy_batch
from metajax.rl.policy_gradient import reinforce_loss


def gaussian_policy(env: Env, config: MamlRlConfig) -> GaussianPolicy:
  """Returns the policy network that the algorithms here train."""
  return GaussianPolicy(
    env.spec.action_size,
    config.hidden_sizes,
    context_size=config.context_size if config.adapts == 'context' else 0,
  )


def sample_rollouts(
  env: Env,
  network: GaussianPolicy,
  params: Params,
  tasks: Task,
  key: Array,
  budget: str = 'episodes',
) -> Trajectory:
  """Rolls the policy out for one horizon in each of several tasks.

  With the budget 'steps' a fresh episode begins wherever one ends early, so
  that policies that reach their goal are not left with little data; an
  episode that the last row cuts short is not valid.

  Args:
    env: the environment.
    network: the policy network.
    params: its parameters.
    tasks: pytree with a leading `[rollouts]` axis, the task of each.
    key: key of all rollouts.
    budget: one of `BUDGETS`.

  Returns:
    Trajectories with axes `[rollouts, horizon]`.
  """

  def policy(observation, memory, key):
    distribution = network.distribution(params, observation)
    return distribution.sample(key), memory

  def one(task, key):
    return rollout(env, policy, task, key, auto_reset=budget == 'steps')

  keys = jax.random.split(key, jax.tree.leaves(tasks)[0].shape[0])
  trajectories = jax.vmap(one)(tasks, keys)
  if budget == 'steps':
    return whole_episodes(trajectories, env.spec.horizon)
  return trajectories


def to_batch(
  trajectories: Trajectory, discount: Array | float, gae_lambda: Array | float
) -> tuple[PolicyBatch, Array]:
  """Turns the rollouts of one batch into advantages and the mean return.

  Args:
    trajectories: axes `[rollouts, time]`.
    discount: gamma.
    gae_lambda: lambda.

  Returns:
    The flat batch, and the mean undiscounted return of the first episode of
    each rollout.
  """
  batch = policy_batch(
    observations=trajectories.observations,
    actions=trajectories.actions,
    rewards=trajectories.rewards,
    times=trajectories.times,
    valid=trajectories.valid,
    is_last=is_last_step(trajectories),
    discount=discount,
    gae_lambda=gae_lambda,
  )
  return batch, jnp.mean(episode_return(trajectories))


def collect(
  env: Env, config: MamlRlConfig, params: Params, tasks: Task, key: Array
) -> tuple[PolicyBatch, Array]:
  """Collects one batch with the policy, one rollout in each of `tasks`.

  Args:
    env: the environment.
    config: the settings.
    params: the policy's parameters.
    tasks: pytree with a leading `[rollouts]` axis.
    key: key of all rollouts.

  Returns:
    The batch and the mean return.
  """
  trajectories = sample_rollouts(
    env, gaussian_policy(env, config), params, tasks, key, config.budget
  )
  return to_batch(trajectories, config.discount, config.gae_lambda)


def adapt_by_policy_gradient(
  network: GaussianPolicy,
  params: Params,
  batches: PolicyBatch,
  *,
  inner_lr: PyTree,
  num_steps: int = 1,
  first_order: bool = False,
) -> Params:
  """Takes inner policy-gradient steps, differentiably in `params`.

    phi = theta - alpha * grad_theta J(theta; D_tr)

  with J the REINFORCE surrogate. The log-probabilities are taken anew at the
  parameters, so that phi is a function of theta wherever theta moves to. A
  policy with a context adapts its context alone.

  Args:
    network: the policy network.
    params: theta.
    batches: D_tr, with a leading `[num_steps]` axis: fresh data for each step.
    inner_lr: alpha, as of `gradient_adapt`.
    num_steps: inner steps.
    first_order: stop the outer gradient at the inner gradients.

  Returns:
    phi.
  """

  def loss(phi, batch):
    distribution = network.distribution(phi, batch.observations)
    log_probs = distribution.log_prob(batch.actions)
    return reinforce_loss(log_probs, batch.advantages, batch.valid)

  return gradient_adapt(
    loss,
    params,
    batches,
    num_steps=num_steps,
    inner_lr=inner_lr,
    adapts=context_alone(params) if network.context_size else None,
    first_order=first_order,
    data_axis=0,
  ).params


def update_once(
  network: GaussianPolicy,
  params: Params,
  batch: PolicyBatch,
  inner_lr: PyTree,
) -> Params:
  """Takes one policy-gradient step on one batch, without a step axis."""
  batches = jax.tree.map(lambda x: x[None], batch)
  return adapt_by_policy_gradient(network, params, batches, inner_lr=inner_lr)


def step_sizes(params: Params, inner_lr: Array | float) -> PyTree:
  """Returns the inner loop's alpha: what was learned, or else `inner_lr`.

  Args:
    params: meta-parameters, theta under `model`, and under `inner_lr`, where
      they are learned, a pytree like theta of `[num_inner_steps]` arrays.
    inner_lr: alpha where none is learned.
  """
  return params.get('inner_lr', inner_lr)


def size_of_step(sizes: PyTree, index: Array | int) -> PyTree:
  """Returns the alpha of one inner step, of what `step_sizes` returns."""
  return jax.tree.map(
    lambda size: size[index] if jnp.ndim(size) == 1 else size, sizes
  )


def repeat_task(task: Task, num_rollouts: int) -> Task:
  """Returns the task with a leading `[num_rollouts]` axis, the same in each."""
  return jax.tree.map(
    lambda x: jnp.broadcast_to(x, (num_rollouts,) + x.shape), task
  )
