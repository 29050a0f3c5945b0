"""Trust-region policy optimisation (Schulman et al. 2015)."""

from collections.abc import Callable
from typing import NamedTuple

from flax import struct
import jax
from jax import Array
from jax.flatten_util import ravel_pytree
import jax.numpy as jnp
import optax

from metajax.core.learner import Params
from metajax.nets.distributions import DiagonalGaussian


@struct.dataclass
class TrustRegionConfig:
  """Settings of the trust-region step; the defaults are MAML's own.

  Floats are leaves and may be swept; the rest is static.
  """

  max_kl: float = 0.01  # delta, nats
  damping: float = 1e-5  # added to the diagonal of the Fisher matrix
  backtrack_ratio: float = 0.8
  conjugate_gradient_steps: int = struct.field(pytree_node=False, default=10)
  max_backtracks: int = struct.field(pytree_node=False, default=15)


class TrustRegionStep(NamedTuple):
  """The step taken, and how.

  Attributes:
    params: new parameters; the old ones if no candidate was accepted.
    accepted: [] bool.
    finite: [] bool, whether the gradient and the full step were finite.
    surrogate: [] float32, surrogate at the new parameters.
    kl: [] float32, nats, of the new policy from the old.
    backtracks: [] int32, candidates that were refused.
  """

  params: Params
  accepted: Array
  finite: Array
  surrogate: Array
  kl: Array
  backtracks: Array


def trust_region_step(
  params: Params,
  gradient: Params,
  fisher_product: Callable[[Params], Params],
  surrogate_and_kl: Callable[[Params], tuple[Array, Array]],
  config: TrustRegionConfig,
) -> TrustRegionStep:
  """Takes one natural-gradient step inside the trust region.

    solve (F + damping I) x = g by conjugate gradients
    full step = sqrt(2 delta / x^T (F + damping I) x) x
    theta' = theta - ratio^j full step,  the first j = 0, 1, ... with
             J(theta') < J(theta) and KL(theta') <= delta

  The iterate x of conjugate gradients from zero is orthogonal to its
  residual, so x^T (F + damping I) x = x^T g costs no further product.

  Args:
    params: pytree of arrays, theta.
    gradient: pytree like `params`, g of the surrogate at theta.
    fisher_product: `v -> F v`, F the Hessian of the mean KL at theta.
    surrogate_and_kl: `theta' -> (J, mean KL)`.
    config: delta, damping and the searches' settings.

  Returns:
    The new parameters and how they were found.
  """

  def damped_product(vector):
    return jax.tree.map(
      lambda f, v: f + config.damping * v, fisher_product(vector), vector
    )

  direction, _ = jax.scipy.sparse.linalg.cg(
    damped_product,
    gradient,
    maxiter=config.conjugate_gradient_steps,
    tol=0.0,
    atol=1e-5,
  )
  curvature = jnp.vdot(ravel_pytree(direction)[0], ravel_pytree(gradient)[0])
  scale = jnp.sqrt(2.0 * config.max_kl / (jnp.maximum(curvature, 0.0) + 1e-8))
  finite = jnp.isfinite(scale) & jnp.isfinite(optax.tree.norm(direction))
  old_surrogate, _ = surrogate_and_kl(params)

  def candidate(index):
    fraction = config.backtrack_ratio ** index.astype(jnp.float32)
    new = jax.tree.map(lambda p, d: p - fraction * scale * d, params, direction)
    surrogate, kl = surrogate_and_kl(new)
    accepted = (surrogate < old_surrogate) & (kl <= config.max_kl)
    return new, surrogate, kl, accepted

  def is_searching(carry):
    index, (_, _, _, accepted) = carry
    return ~accepted & (index < config.max_backtracks)

  def search(carry):
    index, _ = carry
    return index + 1, candidate(index)

  nowhere = (params, old_surrogate, jnp.zeros(()), jnp.zeros((), bool))
  tried, (new, surrogate, kl, accepted) = jax.lax.while_loop(
    is_searching, search, (jnp.int32(0), nowhere)
  )
  return TrustRegionStep(
    params=jax.tree.map(lambda n, o: jnp.where(accepted, n, o), new, params),
    accepted=accepted,
    finite=finite,
    surrogate=jnp.where(accepted, surrogate, old_surrogate),
    kl=jnp.where(accepted, kl, 0.0),
    backtracks=tried - accepted,
  )


def gaussian_fisher_product(
  distribution: Callable[[Params], DiagonalGaussian],
  params: Params,
  vector: Params,
  weights: Array,
) -> Params:
  """Returns the product of the mean KL's Hessian with a vector.

  The KL and its gradient vanish where the two policies agree, so that the
  Hessian there is exactly J^T M J: J is the Jacobian of the distribution's
  numbers in the parameters, whatever lies between (an inner update, say), and
  M the Fisher matrix of the Gaussian, 1/std^2 for a mean and 2 for a log-std.
  It takes one derivative less than differentiating the KL twice.

  Args:
    distribution: `params -> DiagonalGaussian` with mean `[N, size]` and a
      log-std of `[size]` that all N share.
    params: pytree of arrays.
    vector: pytree like `params`.
    weights: [N] float32, the weight of each of the N in the mean.

  Returns:
    A pytree like `params`.
  """
  outputs, push_forward = jax.linearize(distribution, params)
  tangents = push_forward(vector)
  log_std = jnp.broadcast_to(outputs.log_std, outputs.mean.shape)
  metric = DiagonalGaussian(
    mean=weights[:, None] * jnp.exp(-2.0 * log_std) * tangents.mean,
    log_std=2.0 * jnp.sum(weights) * tangents.log_std,
  )
  return jax.linear_transpose(push_forward, params)(metric)[0]
