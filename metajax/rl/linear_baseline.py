"""The linear feature baseline of Duan et al. 2016.

  V_t = psi_t . w,   psi_t = [o, o^2, tau, tau^2, tau^3, 1],   tau = t / 100
  w   = (Psi^T Psi + lambda I)^{-1} Psi^T R

with observations clipped to [-10, 10]. It is fitted anew to every batch of
episodes and then subtracted from the returns of the same batch.
"""

import chex
import jax
from jax import Array
import jax.numpy as jnp

_RIDGE = 1e-5
_RETRIES = 5


def features(observations: Array, times: Array) -> Array:
  """Returns psi of every step.

  Args:
    observations: [N, O] float32.
    times: [N] int32, step inside the episode, from 0.

  Returns:
    [N, 2 O + 4] float32.
  """
  chex.assert_rank([observations, times], [2, 1])
  clipped = jnp.clip(observations, -10.0, 10.0)
  tau = times[:, None].astype(jnp.float32) / 100.0
  return jnp.concatenate(
    [clipped, clipped**2, tau, tau**2, tau**3, jnp.ones_like(tau)], axis=-1
  )


def fit_predict(
  observations: Array, times: Array, returns: Array, valid: Array
) -> Array:
  """Fits the baseline to returns and returns its value at every step.

  The columns of Psi differ by orders of magnitude, which float32 normal
  equations do not survive; so they are brought to unit length first. If the
  system is still singular, lambda grows tenfold, up to five times; after
  that the baseline is zero.

  Args:
    observations: [N, O] float32.
    times: [N] int32.
    returns: [N] float32, discounted returns.
    valid: [N] bool; steps that are not valid have no weight.

  Returns:
    [N] float32, V.
  """
  chex.assert_rank([returns, valid], 1)
  psi = features(observations, times) * valid[:, None]
  length = jnp.sqrt(jnp.sum(jnp.square(psi), axis=0, keepdims=True))
  psi = psi / jnp.maximum(length, 1e-8)
  gram = psi.T @ psi
  moment = psi.T @ jnp.where(valid, returns, 0.0)
  identity = jnp.eye(gram.shape[0], dtype=gram.dtype)

  def solve(ridge):
    factor = jax.scipy.linalg.cho_factor(gram + ridge * identity)
    return jax.scipy.linalg.cho_solve(factor, moment)

  def is_singular(carry):
    weights, retry = carry
    return ~jnp.all(jnp.isfinite(weights)) & (retry <= _RETRIES)

  def retry_solve(carry):
    _, retry = carry
    return solve(_RIDGE * 10.0 ** retry.astype(jnp.float32)), retry + 1

  weights, _ = jax.lax.while_loop(
    is_singular, retry_solve, (solve(jnp.float32(_RIDGE)), jnp.int32(1))
  )
  weights = jnp.where(jnp.all(jnp.isfinite(weights)), weights, 0.0)
  return psi @ weights
