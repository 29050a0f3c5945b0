"""Small systems are solved as LAPACK solves them, and nothing stands still."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import jax.scipy.linalg
import numpy as np
import pytest

from metajax.envs.cholesky import cho_factor, cho_solve, unrolled_cholesky


@pytest.mark.parametrize('size', [1, 2, 9, 21])
def test_it_solves_as_lapack_does(size):
  generator = np.random.default_rng(size)
  root = generator.normal(size=(size, size + 2))
  matrix = jnp.asarray(root @ root.T + np.eye(size), jnp.float32)
  vector = jnp.asarray(generator.normal(size=size), jnp.float32)
  factor, is_lower = cho_factor(matrix)
  np.testing.assert_allclose(
    factor, np.linalg.cholesky(np.asarray(matrix, float)).T, atol=1e-4
  )
  assert not is_lower
  np.testing.assert_allclose(
    cho_solve((factor, False), vector),
    np.linalg.solve(np.asarray(matrix, float), vector),
    rtol=1e-3,
    atol=1e-4,
  )


def test_it_stands_in_while_a_program_is_traced():
  own = jax.scipy.linalg.cho_factor
  with unrolled_cholesky():
    if jax.default_backend() == 'cpu':
      assert jax.scipy.linalg.cho_factor is cho_factor
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
