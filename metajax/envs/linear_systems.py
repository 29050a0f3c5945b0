"""Small positive definite systems in large batches, without LAPACK."""

from collections.abc import Iterator
import contextlib

import jax
from jax import Array
from jax.custom_batching import custom_vmap
import jax.numpy as jnp
import jax.scipy.linalg

# The columns that a segment of the elimination clears. A finished segment is
# cut off what the next ones still touch; more segments take longer to compile.
_SEGMENT = 5


@contextlib.contextmanager
def lapack_avoided() -> Iterator[None]:
  """Replaces JAX's Cholesky while a program for a CPU is traced.

  XLA:CPU hands it to LAPACK, whose batched calls wait for threads of the very
  pool that they block: on two cores a thousand half-cheetahs, or a hundred
  Jacos, stand still for ever. MuJoCo XLA knows no other way, so it is given
  `solve_positive_definite` where it is called. Accelerators keep their own.
  """
  if jax.default_backend() != 'cpu':
    yield
    return
  linalg = jax.scipy.linalg
  own = linalg.cho_factor, linalg.cho_solve
  # Nothing is gained by a factor that is used once.
  linalg.cho_factor = lambda matrix: (matrix, False)
  linalg.cho_solve = lambda factor, vector: solve_positive_definite(
    factor[0], vector
  )
  try:
    yield
  finally:
    linalg.cho_factor, linalg.cho_solve = own


def solve_positive_definite(matrix: Array, vector: Array) -> Array:
  """Solves `A x = b`; differentiable in both.

  On a CPU by elimination with the batch as the last axis, whatever `vmap`s
  stand around it: up to some thirty unknowns that is faster than LAPACK, for
  a processor clears the same entry of many matrices at once.

  Args:
    matrix: [n, n] float, symmetric and positive definite.
    vector: [n] float.

  Returns:
    [n] float, `x`; not finite where the matrix is singular.
  """
  if jax.default_backend() != 'cpu':
    return jax.scipy.linalg.cho_solve(
      jax.scipy.linalg.cho_factor(matrix), vector
    )
  return jax.lax.custom_linear_solve(
    lambda x: matrix @ x,
    vector,
    lambda _, b: _solve_lanes(matrix, b),
    symmetric=True,
  )


@custom_vmap
def _solve_lanes(matrix: Array, vector: Array) -> Array:
  """Solves [n, n, *lanes] for [n, *lanes], every lane a system of its own."""
  size = len(vector)
  lanes = vector.reshape(size, -1)
  return _eliminate(matrix.reshape(size, size, -1), lanes).reshape(vector.shape)


@_solve_lanes.def_vmap
def _(axis_size, is_batched, matrix, vector):
  # A new batch axis becomes the first of the lanes: their order in memory, and
  # with it how they lie on several devices, stays as it was.
  def as_lanes(array: Array, is_batched: bool, axis: int) -> Array:
    if is_batched:
      return jnp.moveaxis(array, 0, axis)
    shape = (*array.shape[:axis], axis_size, *array.shape[axis:])
    return jnp.broadcast_to(jnp.expand_dims(array, axis), shape)

  solution = _solve_lanes(
    as_lanes(matrix, is_batched[0], 2), as_lanes(vector, is_batched[1], 1)
  )
  return jnp.moveaxis(solution, 1, 0), True


def _eliminate(matrix: Array, vector: Array) -> Array:
  """Gauss and Jordan's elimination of [n, n, b] and [n, b].

  Without pivoting, which positive definite matrices do not need.
  """
  size = len(vector)
  row_numbers = jnp.arange(size)[:, None, None]
  # The right-hand side is the last column; columns leave as they are cleared.
  rest = jnp.concatenate([matrix, vector[:, None]], axis=1)
  for start in range(0, size, _SEGMENT):
    width = min(_SEGMENT, size - start)

    def clear(k: Array, rest: Array, start: int = start) -> Array:
      row, column = rest[start + k], rest[:, k]
      row = (row / row[k][None])[None]
      return jnp.where(
        row_numbers == start + k, row, rest - column[:, None] * row
      )

    rest = jax.lax.fori_loop(0, width, clear, rest)[:, width:]
  return rest[:, 0]
