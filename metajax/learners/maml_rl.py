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
D_tr_i holds is left out of the gradient, as in the paper.
"""

from collections.abc import Callable
from typing import NamedTuple

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp
import optax

from metajax.core.algorithm import SKIPPED, Algorithm
from metajax.core.learner import Params
from metajax.core.sharding import lay_tasks, map_tasks
from metajax.core.validation import (
  check_choice,
  check_count,
  check_positive,
  check_range,
)
from metajax.envs.engines import ENGINES
from metajax.envs.environment import Env, Task
from metajax.learners.policy_adaptation import (
  BUDGETS,
  adapt_by_policy_gradient,
  repeat_task,
  sample_rollouts,
  to_batch,
  update_once,
)
from metajax.nets.distributions import DiagonalGaussian
from metajax.nets.policies import GaussianPolicy
from metajax.rl.policy_batch import PolicyBatch
from metajax.rl.policy_gradient import likelihood_ratio_loss
from metajax.rl.trust_region import (
  TrustRegionConfig,
  TrustRegionStep,
  gaussian_fisher_product,
  trust_region_step,
)


@struct.dataclass
class MamlRlConfig:
  """Settings of MAML-RL; the defaults are those of 2-D navigation.

  Floats are leaves and may be swept; the rest is static.
  """

  inner_lr: float = 0.1  # alpha
  max_kl: float = 0.01  # delta of the outer step, nats
  damping: float = 1e-5
  backtrack_ratio: float = 0.8
  conjugate_gradient_steps: int = struct.field(pytree_node=False, default=10)
  max_backtracks: int = struct.field(pytree_node=False, default=15)
  discount: float = 0.99
  gae_lambda: float = 1.0
  meta_batch_size: int = struct.field(pytree_node=False, default=20)
  num_rollouts: int = struct.field(pytree_node=False, default=20)
  num_inner_steps: int = struct.field(pytree_node=False, default=1)
  first_order: bool = struct.field(pytree_node=False, default=False)
  # 'episodes': num_rollouts episodes. 'steps': num_rollouts * horizon steps,
  # with a fresh episode wherever one ends early.
  budget: str = struct.field(pytree_node=False, default='steps')
  task_chunk_size: int | None = struct.field(pytree_node=False, default=None)
  hidden_sizes: tuple[int, ...] = struct.field(
    pytree_node=False, default=(100, 100)
  )
  # Engine of environments that simulate a body (`metajax.envs.engines`).
  physics: str = struct.field(pytree_node=False, default='mjx')
  # Meta-test: the step size is scaled from the second update on.
  test_inner_lr: float = 0.1
  test_inner_lr_decay: float = 0.5
  num_test_steps: int = struct.field(pytree_node=False, default=3)
  num_test_tasks: int = struct.field(pytree_node=False, default=40)
  num_test_rollouts: int = struct.field(pytree_node=False, default=40)
  # The baselines: rollouts of a pretraining iteration, each of another task,
  # and the step sizes that the baselines are fine-tuned with.
  num_pretraining_rollouts: int = struct.field(pytree_node=False, default=100)
  pretrained_inner_lr: float = 0.2
  random_inner_lr: float = 0.5


@struct.dataclass
class MamlRlState:
  """All that a resume needs."""

  params: Params  # pytree of arrays, theta
  best_params: Params  # theta of the best return after adaptation so far
  best_return: Array  # [] float32


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
  return trust_region_algorithm(
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


def gaussian_policy(env: Env, config: MamlRlConfig) -> GaussianPolicy:
  """Returns the policy network that the algorithms here train."""
  return GaussianPolicy(env.spec.action_size, config.hidden_sizes)


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
    params: theta.
    tasks: pytree with leading axes `[tasks, rollouts]`, the task of each
      rollout.
    keys: [tasks] typed keys of all rollouts.
    num_inner_steps: inner updates, each from fresh rollouts.

  Returns:
    The experience.
  """
  network = gaussian_policy(env, config)

  def collect_in(phi, tasks, key):
    return collect(env, config, phi, tasks, key)

  def update(phi, batches):
    return jax.vmap(
      lambda phi, batch: update_once(network, phi, batch, config.inner_lr)
    )(phi, batches)

  def stage(phi, index):
    stage_keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, index)
    batches, returns = jax.vmap(collect_in)(phi, tasks, stage_keys)
    is_support = index < num_inner_steps
    phi = jax.lax.cond(is_support, update, lambda phi, _: phi, phi, batches)
    return phi, (batches, returns)

  start = jax.tree.map(
    lambda x: jnp.broadcast_to(x, (keys.shape[0],) + x.shape), params
  )
  phi, (batches, returns) = jax.lax.scan(
    stage, start, jnp.arange(num_inner_steps + 1)
  )
  queries = jax.tree.map(lambda x: x[-1], batches)
  return Experience(
    supports=jax.tree.map(lambda x: jnp.moveaxis(x[:-1], 0, 1), batches),
    queries=queries,
    old=jax.vmap(network.distribution)(phi, queries.observations),
    returns=returns.T,
  )


def outer_step(
  network: GaussianPolicy,
  config: MamlRlConfig,
  params: Params,
  experience: Experience,
) -> tuple[TrustRegionStep, Array]:
  """Takes the trust-region step over all tasks (algorithm 3, last line).

  Every candidate theta is judged by adapting it anew to the stored D_tr.

  Args:
    network: the policy network.
    config: the settings.
    params: theta.
    experience: what was collected with it.

  Returns:
    The step, and the norm of the meta-gradient.
  """
  supports, queries, old, _ = experience
  num_inner_steps = jax.tree.leaves(supports)[0].shape[1]
  num_valid = jnp.maximum(jnp.sum(queries.valid), 1)

  def adapted(theta, support, query):
    phi = adapt_by_policy_gradient(
      network,
      theta,
      support,
      inner_lr=config.inner_lr,
      num_steps=num_inner_steps,
      first_order=config.first_order,
    )
    return network.distribution(phi, query.observations)

  def surrogate(theta, support, query, old):
    new = adapted(theta, support, query)
    return likelihood_ratio_loss(
      new.log_prob(query.actions),
      old.log_prob(query.actions),
      query.advantages,
      query.valid,
    )

  def over_tasks(function):
    return map_tasks(
      function, supports, queries, old, chunk_size=config.task_chunk_size
    )

  def fisher_product(vector):
    def of_task(support, query, old):
      del old
      return gaussian_fisher_product(
        lambda theta: adapted(theta, support, query),
        params,
        vector,
        weights=query.valid / num_valid,
      )

    return jax.tree.map(lambda x: jnp.sum(x, axis=0), over_tasks(of_task))

  def surrogate_and_kl(theta):
    def of_task(support, query, old):
      new = adapted(theta, support, query)
      kl = jnp.sum(jnp.where(query.valid, old.kl(new), 0.0)) / num_valid
      return surrogate(theta, support, query, old), kl

    losses, kls = over_tasks(of_task)
    return jnp.mean(losses), jnp.sum(kls)

  gradients = over_tasks(
    lambda support, query, old: jax.grad(surrogate)(params, support, query, old)
  )
  gradient = jax.tree.map(lambda g: jnp.mean(g, axis=0), gradients)
  step = trust_region_step(
    params,
    gradient,
    fisher_product,
    surrogate_and_kl,
    TrustRegionConfig(
      max_kl=config.max_kl,
      damping=config.damping,
      backtrack_ratio=config.backtrack_ratio,
      conjugate_gradient_steps=config.conjugate_gradient_steps,
      max_backtracks=config.max_backtracks,
    ),
  )
  return step, optax.tree.norm(gradient)


def adapt_to_task(
  env: Env, config: MamlRlConfig, params: Params, task: Task, key: Array
) -> Params:
  """Adapts to one task as at meta-test: rollouts, then one inner update.

  Args:
    env: the environment.
    config: the settings.
    params: theta.
    task: the task, one.
    key: key of the rollouts.

  Returns:
    phi.
  """
  tasks = repeat_task(task, config.num_test_rollouts)
  batch, _ = collect(env, config, params, tasks, key)
  network = gaussian_policy(env, config)
  return update_once(network, params, batch, config.test_inner_lr)


def check_config(config: MamlRlConfig) -> None:
  """Checks every setting.

  Raises:
    InputError: for the first that is out of range.
  """
  for name in (
    'inner_lr',
    'max_kl',
    'damping',
    'test_inner_lr',
    'test_inner_lr_decay',
    'pretrained_inner_lr',
    'random_inner_lr',
  ):
    check_positive(name, getattr(config, name))
  for name in ('discount', 'gae_lambda', 'backtrack_ratio'):
    check_range(name, getattr(config, name), minimum=0.0, maximum=1.0)
  for name in (
    'meta_batch_size',
    'num_rollouts',
    'num_inner_steps',
    'num_test_rollouts',
    'conjugate_gradient_steps',
    'max_backtracks',
    'num_pretraining_rollouts',
  ):
    check_count(name, getattr(config, name))
  check_count('num_test_tasks', config.num_test_tasks, minimum=2)
  check_count('num_test_steps', config.num_test_steps, minimum=0)
  check_choice('budget', config.budget, BUDGETS)
  check_choice('physics', config.physics, tuple(ENGINES))
  for size in config.hidden_sizes:
    check_count('hidden_sizes', size)
  if config.task_chunk_size is not None:
    check_count('task_chunk_size', config.task_chunk_size)


def trust_region_algorithm(
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
    test_inner_lr: step size of the first of them.

  Returns:
    An `Algorithm` whose state is a `MamlRlState`.
  """
  network = gaussian_policy(env, config)

  def init(data, key):
    del data
    observation = jnp.zeros(env.spec.observation_size)
    params = network.init(key, observation)['params']
    return MamlRlState(
      params=params,
      best_params=jax.tree.map(jnp.copy, params),
      best_return=jnp.float32(-jnp.inf),
    )

  def step(data, state, key):
    del data
    keys = jax.random.split(key, (meta_batch_size, 2))
    tasks, rollout_keys = lay_tasks(
      (jax.vmap(sample_tasks)(keys[:, 0]), keys[:, 1])
    )
    experience = collect_and_adapt(
      env, config, state.params, tasks, rollout_keys, num_inner_steps
    )
    outer, gradient_norm = outer_step(network, config, state.params, experience)
    returns = jnp.mean(experience.returns, axis=0)
    metrics = {
      **{f'return/step_{i}': mean for i, mean in enumerate(returns)},
      'meta/surrogate': outer.surrogate,
      'meta/kl': outer.kl,
      'meta/accepted': outer.accepted.astype(jnp.float32),
      'meta/backtracks': outer.backtracks.astype(jnp.float32),
      'meta/gradient_norm': gradient_norm,
      'meta/mean_std': jnp.mean(jnp.exp(outer.params['log_std'])),
      SKIPPED: (~outer.finite).astype(jnp.float32),
    }
    return _next_state(state, outer.params, returns[-1]), metrics

  def evaluate(data, state, key):
    del data
    decays = jnp.array([1.0] + [config.test_inner_lr_decay] * num_test_steps)

    def in_task(key):
      task_key, rollout_key = jax.random.split(key)
      task = env.sample_task(task_key)
      returns = _fine_tuning_returns(
        env,
        config,
        state.best_params,
        task,
        rollout_key,
        test_inner_lr * decays,
      )
      return {f'return/step_{i}': mean for i, mean in enumerate(returns)}

    keys = jax.random.split(key, config.num_test_tasks)
    return jax.vmap(in_task)(lay_tasks(keys))

  return Algorithm(
    data=(),
    init=init,
    step=step,
    evaluate=evaluate,
    holds_physics=env.holds_physics,
  )


def _next_state(
  state: MamlRlState, params: Params, adapted_return: Array
) -> MamlRlState:
  """Takes the new parameters, and keeps the old ones if they are the best.

  `adapted_return` is that of the parameters before the outer step.
  """
  is_best = adapted_return > state.best_return
  return MamlRlState(
    params=params,
    best_params=jax.tree.map(
      lambda now, best: jnp.where(is_best, now, best),
      state.params,
      state.best_params,
    ),
    best_return=jnp.where(is_best, adapted_return, state.best_return),
  )


def _fine_tuning_returns(env, config, params, task, key, inner_lrs) -> Array:
  """Returns the mean return before each of the updates, `inner_lrs` long."""
  network = gaussian_policy(env, config)
  tasks = repeat_task(task, config.num_test_rollouts)

  def update(phi, inputs):
    index, inner_lr = inputs
    batch_key = jax.random.fold_in(key, index)
    batch, mean_return = collect(env, config, phi, tasks, batch_key)
    return update_once(network, phi, batch, inner_lr), mean_return

  steps = jnp.arange(inner_lrs.shape[0])
  return jax.lax.scan(update, params, (steps, inner_lrs))[1]
