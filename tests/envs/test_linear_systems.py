"""Small systems are solved as LAPACK solves them, and nothing stands still."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import jax.scipy.linalg
import numpy as np
import pytest

from metajax.envs.linear_systems import (
  lapack_avoided,
  solve_positive_definite,
)


def systems(size: int, number: int = 1):
  generator = np.random.default_rng(size)
  root = generator.normal(size=(number, size, size + 2))
  matrices = root @ root.swapaxes(1, 2) + np.eye(size)
  vectors = generator.normal(size=(number, size))
  solutions = np.linalg.solve(matrices, vectors[..., None])[..., 0]
  return jnp.float32(matrices), jnp.float32(vectors), solutions


@pytest.mark.parametrize('size', [1, 2, 5, 9, 21])
def test_it_solves_as_lapack_does(size):
  matrices, vectors, solutions = systems(size)
  np.testing.assert_allclose(
    solve_positive_definite(matrices[0], vectors[0]),
    solutions[0],
    rtol=1e-4,
    atol=1e-5,
  )


def test_every_batch_is_solved_alike():
  matrices, vectors, solutions = systems(7, number=6)
  close = dict(rtol=1e-4, atol=1e-5)
  solve = solve_positive_definite
  np.testing.assert_allclose(
    jax.vmap(solve)(matrices, vectors), solutions, **close
  )
  np.testing.assert_allclose(
    jax.jit(jax.vmap(jax.vmap(solve)))(
      matrices.reshape(2, 3, 7, 7), vectors.reshape(2, 3, 7)
    ).reshape(6, 7),
    solutions,
    **close,
  )
  np.testing.assert_allclose(
    jax.vmap(solve, in_axes=(None, 0))(matrices[0], vectors),
    np.linalg.solve(np.asarray(matrices[0], float), np.asarray(vectors).T).T,
    **close,
  )


def test_its_derivatives_are_those_of_the_inverse():
  (matrix, _), (vector, _), (solution, _) = systems(4, number=2)
  tangent = jnp.outer(vector, vector)
  _, moved = jax.jvp(
    solve_positive_definite, (matrix, vector), (tangent, 0 * vector)
  )
  np.testing.assert_allclose(
    moved, -np.linalg.solve(matrix, tangent @ solution), rtol=1e-3, atol=1e-5
  )
  gradients = jax.vmap(
    jax.grad(lambda a, b: solve_positive_definite(a, b).sum(), argnums=1)
  )(matrix[None], vector[None])
  np.testing.assert_allclose(
    gradients[0], np.linalg.solve(matrix, np.ones(4)), rtol=1e-3, atol=1e-5
  )


def test_a_singular_system_spoils_no_other():
  matrices, vectors, solutions = systems(5, number=3)
  found = jax.vmap(solve_positive_definite)(matrices.at[1].set(0.0), vectors)
  assert not np.isfinite(found[1]).all()
  np.testing.assert_allclose(found[::2], solutions[::2], rtol=1e-4, atol=1e-5)


def test_it_stands_in_while_a_program_is_traced():
  own = jax.scipy.linalg.cho_factor
  with lapack_avoided():
    if jax.default_backend() == 'cpu':
      assert jax.scipy.linalg.cho_factor is not own
  assert jax.scipy.linalg.cho_factor is own


_THOUSAND_HALF_CHEETAHS = """
import jax, jax.numpy as jnp
from metajax.core.compilation import compile_hot
from metajax.envs.engines import load_model, make_physics
model = load_model('half_cheetah.xml')
physics = make_physics(model)
states = jax.vmap(lambda x: physics.reset(x * jnp.ones(9)))(jnp.zeros(1024))
def run(states):
  step = lambda s, _: (jax.vmap(
    lambda s: physics.step(s, jnp.zeros(6))[0])(s), None)
  return jax.lax.scan(step, states, length=50)[0]
states = compile_hot(run, holds_physics=True)(states)
print(bool(jnp.isfinite(states.qpos).all()))
"""


@pytest.mark.slow
def test_a_thousand_half_cheetahs_do_not_stand_still():
  """With LAPACK's own batches they do, on two cores and more."""
  done = subprocess.run(
    [sys.executable, '-c', _THOUSAND_HALF_CHEETAHS],
    capture_output=True,
    text=True,
    timeout=240,
    check=False,
  )
  assert done.stdout.strip().endswith('True'), done.stderr
