"""PLATIPUS: a distribution over initial parameters, and so over models.

Sources: Finn, Xu and Levine, "Probabilistic Model-Agnostic Meta-Learning"
(2018); Finn, "Learning to Learn with Gradients" (2018), algorithms 4 and 5.

  q(theta | D_test) = N(mu - gamma_q * grad L(mu, D_test), diag v_q)
  p(theta | D_tr)   = N(mu - gamma_p * grad L(mu, D_tr), diag sigma^2)
  phi*(theta)       = theta - alpha * grad_theta L(theta, D_tr), several steps
  min  sum_i E_{theta ~ q} L(phi*(theta), D_test_i) + w_KL * KL(q || p)

Training draws theta from q, which has seen the query; meta-test draws it from
p, which has not. Where w_KL is too small p is not fitted to q, and the loss
of training says nothing of meta-test: watch `platipus_samples` on validation
tasks.
"""

from typing import NamedTuple

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp

from metajax.core.adaptation import gradient_adapt
from metajax.core.learner import Examples, Learner, Params
from metajax.core.validation import (
  check_count,
  check_positive,
  check_range,
)
from metajax.learners.sampled_models import sampled_models
from metajax.learners.task_losses import (
  Measures,
  TaskLoss,
  loss_of_network,
  nothing,
  squared_error,
)
from metajax.nets.distributions import DiagonalGaussian

# Beyond these a log standard deviation is cut off, and has no gradient.
LOG_STD_RANGE = (-10.0, 2.0)

_LARGEST_KL_WEIGHT = 1e6


@struct.dataclass
class PlatipusConfig:
  """Settings of PLATIPUS; the defaults are the ambiguous regression's.

  Floats are leaves and may be swept; the rest is static.
  """

  inner_lr: float = 0.001  # alpha of the steps to the MAP estimate
  outer_lr: float = 1e-3  # beta, of Adam
  # With a mean over J query points, 1 / J makes the objective the bound.
  kl_weight: float = 0.1
  initial_log_std: float = -4.0  # of prior and posterior
  initial_gamma: float = 0.001  # of prior and posterior
  clip: float = 10.0  # of each element of the inner gradients
  observation_std: float = 0.3  # of the likelihood 'gaussian'
  gradient_noise_std: float = 1.0  # of the baseline MAML with noise
  num_inner_steps: int = struct.field(pytree_node=False, default=5)
  likelihood: str = struct.field(pytree_node=False, default='squared_error')
  posterior_sees_support: bool = struct.field(pytree_node=False, default=False)
  meta_batch_size: int = struct.field(pytree_node=False, default=25)
  task_chunk_size: int | None = struct.field(pytree_node=False, default=None)
  shots: int = struct.field(pytree_node=False, default=5)
  query_shots: int = struct.field(pytree_node=False, default=10)
  hidden_sizes: tuple[int, ...] = struct.field(
    pytree_node=False, default=(100, 100, 100)
  )
  bias_transformation_size: int = struct.field(pytree_node=False, default=20)
  # Meta-iterations between validations, of which the best state is tested.
  validate_every: int = struct.field(pytree_node=False, default=2000)
  # Meta-test: models drawn, held-out tasks, and the query of each.
  num_samples: int = struct.field(pytree_node=False, default=10)
  num_test_tasks: int = struct.field(pytree_node=False, default=1000)
  test_query_shots: int = struct.field(pytree_node=False, default=100)


class WeightDistribution(NamedTuple):
  """A Gaussian over parameters, each independent of the others.

  Attributes:
    mean: pytree of float arrays.
    log_std: pytree like `mean`, the log of the standard deviations.
  """

  mean: Params
  log_std: Params


class LearnedPrior(NamedTuple):
  """What PLATIPUS knows of a task before it sees the query.

  Attributes:
    prior: p(theta | D_tr).
    support: D_tr, on which the steps to the MAP estimate are taken.
  """

  prior: WeightDistribution
  support: Examples


def kl_divergence(q: WeightDistribution, p: WeightDistribution) -> Array:
  """Returns KL(q || p), summed over all parameters.

    1/2 sum_k [log s_k^2 - log v_k + (v_k + (m_qk - m_pk)^2) / s_k^2 - 1]

  Source: Finn 2018, algorithm 4, line 8, in closed form.

  Args:
    q: N(m_q, diag v).
    p: N(m_p, diag s^2), of the same structure.

  Returns:
    [] float, nats, >= 0.
  """

  def of_leaf(*numbers):
    q_mean, q_log_std, p_mean, p_log_std = map(jnp.ravel, numbers)
    leaf_of_q = DiagonalGaussian(q_mean, q_log_std)
    return leaf_of_q.kl(DiagonalGaussian(p_mean, p_log_std))

  terms = jax.tree.map(of_leaf, q.mean, q.log_std, p.mean, p.log_std)
  return jnp.sum(jnp.stack(jax.tree.leaves(terms)))


def sample_weights(distribution: WeightDistribution, key: Array) -> Params:
  """Draws mean + std * e, e ~ N(0, I), differentiably in both.

  Args:
    distribution: the Gaussian.
    key: typed key.

  Returns:
    A pytree like the mean.
  """
  leaves, structure = jax.tree.flatten(distribution.mean)
  keys = jax.tree.unflatten(structure, list(jax.random.split(key, len(leaves))))
  return jax.tree.map(
    lambda mean, log_std, key: DiagonalGaussian(mean, log_std).sample(key),
    distribution.mean,
    distribution.log_std,
    keys,
  )


def platipus(
  network,
  task_loss: TaskLoss = squared_error,
  *,
  inner_lr: float,
  kl_weight: float,
  initial_log_std: float = -4.0,
  initial_gamma: float = 0.001,
  num_inner_steps: int = 5,
  prior_sees_support: bool = True,
  posterior_sees_support: bool = False,
  clip: float | None = None,
  first_order: bool = False,
  rematerialise: bool = False,
) -> Learner:
  """Returns the learner that meta-training optimises (Finn 2018, algorithm 4).

  Its loss draws one theta from q(theta | D_test), takes the MAP steps on the
  support, and adds the weighted divergence to the loss on the query.

  Args:
    network: a flax module, `apply({'params': theta}, inputs) -> predictions`.
    task_loss: `(predictions, targets) -> scalar`, L: the negative
      log-likelihood up to scale, of the inner and of the outer objective.
    inner_lr: alpha, > 0.
    kl_weight: w_KL, >= 0. Where L is the negative log-likelihood's mean over
      J points, 1 / J makes the objective the variational bound over J.
    initial_log_std: log standard deviation of prior and posterior to begin
      with, in `LOG_STD_RANGE`.
    initial_gamma: gamma_p and gamma_q to begin with, > 0; both are learned,
      one number a parameter, and may change sign.
    num_inner_steps: MAP steps, >= 0.
    prior_sees_support: whether the prior's mean moves by the support's
      gradient; if not, p(theta) = N(mu, sigma^2).
    posterior_sees_support: whether q's mean moves by the support's gradient
      beside the query's (Finn 2018, the structured bound).
    clip: bound on each element of the inner gradients, > 0. None: no bound.
    first_order: stop the outer gradient at all inner gradients.
    rematerialise: trade recomputation for memory in the outer backward pass.

  Returns:
    A `Learner` on `Examples` whose parameters are `{'model': mu,
    'prior_log_std', 'posterior_log_std', 'prior_gamma', 'posterior_gamma'}`,
    all like mu, without `prior_gamma` where the prior does not see the
    support. Its adapted is a `LearnedPrior`, its `predict` is that of the MAP
    estimate from the prior's mean, and its metrics are `query_nll`, L on the
    query, and `kl`, nats, not weighted.

  Raises:
    InputError: for a setting that is out of range.
  """
  check_range('kl_weight', kl_weight, minimum=0.0, maximum=_LARGEST_KL_WEIGHT)
  check_range(
    'initial_log_std',
    initial_log_std,
    minimum=LOG_STD_RANGE[0],
    maximum=LOG_STD_RANGE[1],
  )
  check_positive('initial_gamma', initial_gamma)
  support_loss = loss_of_network(network, task_loss)
  shifted = _shift(support_loss, clip, first_order)
  prior_of = _prior(shifted, prior_sees_support)
  map_estimate = _map_steps(
    support_loss, inner_lr, num_inner_steps, clip, first_order, rematerialise
  )

  def init(key, episode):
    mean = network.init(key, episode.support.inputs)['params']
    params = {
      'model': mean,
      'prior_log_std': _full_like(mean, initial_log_std),
      'posterior_log_std': _full_like(mean, initial_log_std),
      'posterior_gamma': _full_like(mean, initial_gamma),
    }
    if prior_sees_support:
      params['prior_gamma'] = _full_like(mean, initial_gamma)
    return params

  def adapt(params, support, key):
    del key
    return LearnedPrior(prior_of(params, support), support)

  def posterior_of(params, support, query):
    seen = (query, support) if posterior_sees_support else (query,)
    return WeightDistribution(
      shifted(params['model'], params['posterior_gamma'], *seen),
      _clipped(params['posterior_log_std']),
    )

  def loss(params, adapted, query, key):
    posterior = posterior_of(params, adapted.support, query)
    theta = sample_weights(posterior, key)
    query_nll = support_loss(map_estimate(theta, adapted.support), query)
    divergence = kl_divergence(posterior, adapted.prior)
    return query_nll + kl_weight * divergence, {
      'query_nll': query_nll,
      'kl': divergence,
    }

  def predict(adapted, inputs):
    phi = map_estimate(adapted.prior.mean, adapted.support)
    return network.apply({'params': phi}, inputs)

  return Learner(init, adapt, loss, predict)


def platipus_samples(
  network,
  task_loss: TaskLoss = squared_error,
  *,
  inner_lr: float,
  num_samples: int = 10,
  num_inner_steps: int = 5,
  prior_sees_support: bool = True,
  clip: float | None = None,
  measures: Measures = nothing,
) -> Learner:
  """Returns the meta-test learner that draws models (Finn 2018, algorithm 5).

    theta ~ p(theta | D_tr),  phi = theta - alpha * grad L(theta, D_tr), ...

  It takes the parameters that `platipus` trains; of those of q it reads none.

  Args:
    network: as of `platipus`.
    task_loss: as of `platipus`.
    inner_lr: as of `platipus`.
    num_samples: models of a task, >= 1.
    num_inner_steps: as of `platipus`.
    prior_sees_support: as of `platipus`.
    clip: as of `platipus`.
    measures: as of `sampled_models`.

  Returns:
    A `Learner` as `sampled_models` makes it.

  Raises:
    InputError: for a setting that is out of range.
  """
  support_loss = loss_of_network(network, task_loss)
  prior_of = _prior(_shift(support_loss, clip, False), prior_sees_support)
  map_estimate = _map_steps(
    support_loss, inner_lr, num_inner_steps, clip, False, False
  )

  def draw_model(params, support, key):
    return map_estimate(sample_weights(prior_of(params, support), key), support)

  trained = platipus(
    network,
    task_loss,
    inner_lr=inner_lr,
    kl_weight=0.0,
    prior_sees_support=prior_sees_support,
  )
  return sampled_models(
    network,
    task_loss,
    trained.init,
    draw_model,
    num_samples=num_samples,
    measures=measures,
  )


def _shift(loss, clip: float | None, first_order: bool):
  """Returns `(mu, gamma, *data) -> mu - gamma * grad sum of L(mu, data)`."""
  if clip is not None:
    check_positive('clip', clip)

  def shifted(mean, gamma, *data):
    def total(mean):
      return sum((loss(mean, one) for one in data), jnp.float32(0))

    gradient = jax.grad(total)(mean)
    if clip is not None:
      gradient = _bounded(gradient, clip)
    if first_order:
      gradient = jax.lax.stop_gradient(gradient)
    return jax.tree.map(lambda m, s, g: m - s * g, mean, gamma, gradient)

  return shifted


def _prior(shifted, sees_support):
  """Returns `(params, support) -> p(theta | D_tr)`."""

  def prior_of(params, support):
    mean = params['model']
    if sees_support:
      mean = shifted(mean, params['prior_gamma'], support)
    return WeightDistribution(mean, _clipped(params['prior_log_std']))

  return prior_of


def _map_steps(
  loss, inner_lr, num_inner_steps, clip, first_order, rematerialise
):
  """Returns `(theta, support) -> phi*`."""
  check_positive('inner_lr', inner_lr)
  check_count('num_inner_steps', num_inner_steps, minimum=0)

  def map_estimate(theta, support):
    return gradient_adapt(
      loss,
      theta,
      support,
      num_steps=num_inner_steps,
      inner_lr=inner_lr,
      clip=clip,
      first_order=first_order,
      rematerialise=rematerialise,
    ).params

  return map_estimate


def _clipped(log_std):
  return jax.tree.map(lambda leaf: jnp.clip(leaf, *LOG_STD_RANGE), log_std)


def _full_like(tree, value):
  return jax.tree.map(lambda leaf: jnp.full_like(leaf, value), tree)


def _bounded(gradient: Params, bound: float) -> Params:
  return jax.tree.map(lambda g: jnp.clip(g, -bound, bound), gradient)
