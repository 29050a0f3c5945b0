"""Polynomials against NumPy's, and their moments."""

import jax
import numpy as np

from metajax.tasks.polynomials import cubic_polynomials

TASKS = cubic_polynomials(shots=3, query_shots=4)


def test_targets_are_numpys_polynomials():
  task, support, query = TASKS.sample((), jax.random.key(0))
  coefficients = [float(leaf) for leaf in task]
  for examples, shots in ((support, 3), (query, 4)):
    assert examples.inputs.shape == examples.targets.shape == (shots, 1)
    np.testing.assert_allclose(
      examples.targets,
      np.polynomial.polynomial.polyval(
        np.asarray(examples.inputs, np.float64), coefficients
      ),
      rtol=1e-4,
      atol=1e-5,
    )


def test_moments():
  keys = jax.random.split(jax.random.key(0), 20_000)
  task, support, _ = jax.vmap(TASKS.sample, in_axes=(None, 0))((), keys)
  for coefficient in task:
    assert np.abs(coefficient).max() <= 1.0
    assert abs(float(coefficient.mean())) < 0.02
    np.testing.assert_allclose(coefficient.var(), 1 / 3, rtol=0.03)
  assert np.abs(support.inputs).max() <= 3.0
  # The mean square of the targets, sum_i E[x^(2 i)] / 3.
  np.testing.assert_allclose(
    np.mean(np.square(support.targets)), 41.448, rtol=0.05
  )
