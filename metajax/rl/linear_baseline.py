"""The linear feature baseline of Duan et al. 2016.

  V_t = psi_t . w,   psi_t = [o, o^2, tau, tau^2, tau^3, 1],   tau = t / 100
  w   = (Psi^T Psi + lambda I)^{-1} Psi^T R

with observations clipped to [-10, 10]. It is fitted anew to every batch of
episodes and then subtracted from the returns of the same batch.
"""

import math

import chex
import jax
from jax import Array
import jax.numpy as jnp

_RIDGE = 1e-5  # lambda


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

  Psi is nearly collinear along a straight path, and normal equations would
  square its condition; in float32 that costs up to a tenth of the advantages.

  Args:
    observations: [N, O] float32.
    times: [N] int32.
    returns: [N] float32, discounted returns.
    valid: [N] bool; steps that are not valid have no weight.

  Returns:
    [N] float32, V; 0 where not valid.
  """
  chex.assert_rank([returns, valid], 1)
  psi = features(observations, times) * valid[:, None]
  targets = jnp.where(valid, returns, 0.0)
  # Scaled columns, as rows; lambda I is below Psi, and 0 below the targets.
  length = jnp.maximum(jnp.sqrt(jnp.sum(jnp.square(psi), axis=0)), 1e-8)
  ridge = jnp.diag(math.sqrt(_RIDGE) / length)
  columns = jnp.concatenate([(psi / length[None]).T, ridge], axis=1)
  residual = _residual(columns, jnp.pad(targets, (0, ridge.shape[0])))
  return valid * (targets - residual[: targets.shape[0]])


def _residual(columns: Array, target: Array) -> Array:
  """Returns what a least-squares fit of columns leaves of the target.

  By modified Gram-Schmidt with the target as the last column, which is as
  stable as Householder's QR (Bjorck 1967). LAPACK's QR is quicker, but its
  batched calls occupy the threads of XLA:CPU while they wait for others: on
  several devices they wait for ever.

  Args:
    columns: [d, N] float32, of full rank.
    target: [N] float32.

  Returns:
    [N] float32.
  """
  size = columns.shape[0]

  def orthogonalise(k, rows):
    row = rows[k]
    shares = (rows @ row) / jnp.vdot(row, row)
    shares = jnp.where(jnp.arange(size + 1) > k, shares, 0.0)
    return rows - shares[:, None] * row[None]

  rows = jnp.concatenate([columns, target[None]])
  return jax.lax.fori_loop(0, size, orthogonalise, rows)[-1]
