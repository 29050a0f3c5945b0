"""Small positive definite systems, without LAPACK."""

from collections.abc import Iterator
import contextlib

import jax
from jax import Array
import jax.numpy as jnp
import jax.scipy.linalg


@contextlib.contextmanager
def unrolled_cholesky() -> Iterator[None]:
  """Replaces JAX's Cholesky while a program for a CPU is traced.

  XLA:CPU hands it to LAPACK, whose batched calls wait for threads of the very
  pool that they block: on two cores a thousand half-cheetahs, or a hundred
  Jacos, stand still for ever. MuJoCo XLA knows no other way, so it is given
  this one where it is called. Accelerators keep their own.
  """
  if jax.default_backend() != 'cpu':
    yield
    return
  linalg = jax.scipy.linalg
  own = linalg.cho_factor, linalg.cho_solve
  linalg.cho_factor, linalg.cho_solve = cho_factor, cho_solve
  try:
    yield
  finally:
    linalg.cho_factor, linalg.cho_solve = own


def cho_factor(matrix: Array) -> tuple[Array, bool]:
  """Factors `A = U^T U`, row by row of `U`; every row is its own operation.

  Args:
    matrix: [n, n] float, positive definite.

  Returns:
    `U` [n, n], upper triangular, and False, as `jax.scipy.linalg.cho_factor`
    does for upper triangles.
  """
  size, rest, rows = len(matrix), matrix, []
  for k in range(size):
    row = rest[0] * jax.lax.rsqrt(rest[0, 0])
    rows.append(jnp.pad(row, (k, 0)))
    below = row[1:]
    rest = rest[1:, 1:] - below[:, None] * below[None, :]
  return jnp.stack(rows), False


def cho_solve(factor: tuple[Array, bool], vector: Array) -> Array:
  """Solves `U^T U x = b` by substitution, forward and back.

  Args:
    factor: what `cho_factor` returned.
    vector: [n] float.

  Returns:
    [n] float, `x`.
  """
  upper, _ = factor
  size = len(upper)
  inverse_pivots = 1.0 / jnp.diagonal(upper)
  rest, forward = vector, []
  for k in range(size):
    value = rest[0] * inverse_pivots[k]
    forward.append(value)
    rest = rest[1:] - value * upper[k, k + 1 :]
  rest, backward = jnp.stack(forward), []
  for k in reversed(range(size)):
    value = rest[k] * inverse_pivots[k]
    backward.append(value)
    rest = rest[:k] - value * upper[:k, k]
  return jnp.stack(backward[::-1])
