"""MAML-RL's outer step: better policies after adaptation, not before it.

Over what was collected in all tasks (Finn 2018, section 4.2.2, algorithm 3,
last line), either a trust region on

  J(theta)  = - mean_i mean_{D_test_i} [ pi_{phi_i(theta)} / pi_old * A ]
  KL(theta) = mean over D_test of KL( pi_old || pi_{phi_i(theta)} )

or some epochs of Adam on the same ratios clipped (Schulman et al. 2017).
Every theta that is tried is judged by adapting it anew to the stored D_tr.
"""

from collections.abc import Callable
import functools
from typing import NamedTuple

import jax
from jax import Array
import jax.numpy as jnp
import optax

from metajax.core.algorithm import SKIPPED
from metajax.core.learner import Metrics, Params
from metajax.core.sharding import map_tasks
from metajax.learners.maml_rl_config import MamlRlConfig
from metajax.learners.policy_adaptation import (
  adapt_by_policy_gradient,
  step_sizes,
)
from metajax.nets.distributions import DiagonalGaussian
from metajax.nets.policies import GaussianPolicy
from metajax.rl.policy_batch import PolicyBatch
from metajax.rl.policy_gradient import likelihood_ratio_loss
from metajax.rl.ppo import clipped_ratio_loss, ppo_step
from metajax.rl.trust_region import (
  TrustRegionConfig,
  gaussian_fisher_product,
  trust_region_step,
)


class Experience(NamedTuple):
  """What was collected in a meta-batch, each with a leading `[tasks]` axis.

  Attributes:
    supports: D_tr, `[tasks, num_inner_steps, N, ...]`.
    queries: D_test, `[tasks, N, ...]`.
    old: the distributions that the actions of `queries` were drawn from.
    returns: [tasks, num_inner_steps + 1] float32, mean return of the rollouts
      collected after 0, 1, ... inner updates.
  """

  supports: PolicyBatch
  queries: PolicyBatch
  old: DiagonalGaussian
  returns: Array


class OuterStep(NamedTuple):
  """The step taken, and how.

  Attributes:
    params: new meta-parameters; the old ones if there was no good step.
    optimizer_state: of Adam; `()` with the trust region.
    metrics: `meta/surrogate` and `meta/kl` at the new parameters, and more.
  """

  params: Params
  optimizer_state: optax.OptState
  metrics: Metrics


def outer_optimizer(
  config: MamlRlConfig,
) -> optax.GradientTransformation | None:
  """Returns what PPO takes its steps with; None with the trust region."""
  return (
    optax.adam(config.outer_lr) if config.outer_optimizer == 'ppo' else None
  )


def outer_step(
  network: GaussianPolicy,
  config: MamlRlConfig,
  params: Params,
  optimizer_state: optax.OptState,
  experience: Experience,
) -> OuterStep:
  """Takes the outer step over all tasks.

  Args:
    network: the policy network.
    config: the settings; `outer_optimizer` says which step.
    params: theta, and learned step sizes if there are any.
    optimizer_state: of `outer_optimizer`; `()` with the trust region.
    experience: what was collected with `params`.

  Returns:
    The step.
  """
  optimizer = outer_optimizer(config)
  if optimizer is None:
    return _trust_region_step(network, config, params, experience)
  clipped = functools.partial(clipped_ratio_loss, clip=config.ppo_clip)
  gradient, surrogate_and_kl = _meta_objective(
    network, config, experience, clipped
  )
  step = ppo_step(
    params,
    optimizer_state,
    gradient,
    surrogate_and_kl,
    optimizer,
    num_epochs=config.ppo_epochs,
  )
  metrics = {
    'meta/surrogate': step.surrogate,
    'meta/kl': step.kl,
    'meta/gradient_norm': step.gradient_norm,
    SKIPPED: (~step.finite).astype(jnp.float32),
  }
  return OuterStep(step.params, step.optimizer_state, metrics)


def _trust_region_step(network, config, params, experience) -> OuterStep:
  gradient, surrogate_and_kl = _meta_objective(
    network, config, experience, likelihood_ratio_loss
  )
  meta_gradient = gradient(params)
  step = trust_region_step(
    params,
    meta_gradient,
    _fisher_product(network, config, params, experience),
    surrogate_and_kl,
    TrustRegionConfig(
      max_kl=config.max_kl,
      damping=config.damping,
      backtrack_ratio=config.backtrack_ratio,
      conjugate_gradient_steps=config.conjugate_gradient_steps,
      max_backtracks=config.max_backtracks,
    ),
  )
  metrics = {
    'meta/surrogate': step.surrogate,
    'meta/kl': step.kl,
    'meta/accepted': step.accepted.astype(jnp.float32),
    'meta/backtracks': step.backtracks.astype(jnp.float32),
    'meta/gradient_norm': optax.tree.norm(meta_gradient),
    SKIPPED: (~step.finite).astype(jnp.float32),
  }
  return OuterStep(step.params, (), metrics)


def _adapted(network, config, params, support, query) -> DiagonalGaussian:
  """Returns pi_{phi_i(theta)} where D_test_i was collected, for one task."""
  phi = adapt_by_policy_gradient(
    network,
    params['model'],
    support,
    inner_lr=step_sizes(params, config.inner_lr),
    num_steps=jax.tree.leaves(support)[0].shape[0],
    first_order=config.first_order,
  )
  return network.distribution(phi, query.observations)


def _meta_objective(
  network: GaussianPolicy,
  config: MamlRlConfig,
  experience: Experience,
  ratio_loss: Callable[[Array, Array, Array, Array], Array],
) -> tuple[Callable[[Params], Params], Callable[[Params], tuple[Array, Array]]]:
  """Returns the meta-gradient, and J and KL, as functions of theta.

  `ratio_loss` takes log-probabilities, the old ones, advantages and which of
  them count, of one task.
  """
  supports, queries, old, _ = experience
  num_valid = _num_valid(queries)

  def surrogate(theta, support, query, old):
    new = _adapted(network, config, theta, support, query)
    return ratio_loss(
      new.log_prob(query.actions),
      old.log_prob(query.actions),
      query.advantages,
      query.valid,
    )

  def over_tasks(function):
    return map_tasks(
      function, supports, queries, old, chunk_size=config.task_chunk_size
    )

  def gradient(theta):
    of_tasks = over_tasks(
      lambda support, query, old: jax.grad(surrogate)(
        theta, support, query, old
      )
    )
    return jax.tree.map(lambda g: jnp.mean(g, axis=0), of_tasks)

  def surrogate_and_kl(theta):
    def of_task(support, query, old):
      new = _adapted(network, config, theta, support, query)
      kl = jnp.sum(jnp.where(query.valid, old.kl(new), 0.0)) / num_valid
      return surrogate(theta, support, query, old), kl

    losses, kls = over_tasks(of_task)
    return jnp.mean(losses), jnp.sum(kls)

  return gradient, surrogate_and_kl


def _fisher_product(
  network: GaussianPolicy,
  config: MamlRlConfig,
  params: Params,
  experience: Experience,
) -> Callable[[Params], Params]:
  """Returns `v -> F v`, F the Hessian of KL(theta) where it is zero."""
  num_valid = _num_valid(experience.queries)

  def product(vector):
    def of_task(support, query):
      return gaussian_fisher_product(
        lambda theta: _adapted(network, config, theta, support, query),
        params,
        vector,
        weights=query.valid / num_valid,
      )

    products = map_tasks(
      of_task,
      experience.supports,
      experience.queries,
      chunk_size=config.task_chunk_size,
    )
    return jax.tree.map(lambda x: jnp.sum(x, axis=0), products)

  return product


def _num_valid(queries: PolicyBatch) -> Array:
  return jnp.maximum(jnp.sum(queries.valid), 1)
