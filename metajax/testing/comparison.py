"""How two pytrees of arrays are compared, and how a difference is told."""

import jax
import jax.numpy as jnp
import numpy as np

from metajax.core.learner import PyTree

# Leaves far smaller than the largest hold little but rounding.
_SMALL_LEAF = 1e-3


def on_host(tree: PyTree) -> PyTree:
  """Returns the tree with NumPy leaves; typed keys become their bits."""
  return jax.tree.map(_to_numpy, tree)


def assert_equal_bits(what: str, one: PyTree, other: PyTree) -> None:
  """Asserts that two trees have the same structure, types and bits."""
  for path, a, b in _pairs(what, one, other):
    assert a.dtype == b.dtype, f'{what}: {path} is {a.dtype}, then {b.dtype}'
    assert a.tobytes() == b.tobytes(), f'{what}: {path} differs'


def assert_close(
  what: str, one: PyTree, other: PyTree, tolerance: float
) -> None:
  """Asserts that two trees differ by rounding only.

  Args:
    what: begins the message.
    one: pytree of arrays.
    other: pytree of arrays, what is expected.
    tolerance: allowed difference, as a fraction of the largest number of the
      leaf, or of a thousandth of the largest number of all leaves.
  """
  pairs = list(_pairs(what, one, other))
  largest = max((_largest(b) for _, _, b in pairs), default=0.0)
  for path, a, b in pairs:
    difference = _largest(a.astype(float) - b.astype(float))
    allowed = tolerance * max(_largest(b), _SMALL_LEAF * largest)
    assert difference <= allowed, (
      f'{what}: {path} differs by {difference:.3g}, allowed {allowed:.3g}'
    )


def assert_finite(what: str, tree: PyTree) -> None:
  """Asserts that every floating-point number of the tree is finite."""
  for path, leaf in jax.tree.leaves_with_path(on_host(tree)):
    if jnp.issubdtype(leaf.dtype, jnp.inexact):
      assert np.isfinite(leaf.astype(float)).all(), (
        f'{what}: {jax.tree_util.keystr(path)} is not finite'
      )


def _to_numpy(leaf):
  if hasattr(leaf, 'dtype') and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    return np.asarray(jax.random.key_data(leaf))
  return np.asarray(leaf)


def _pairs(what, one, other):
  one, other = on_host(one), on_host(other)
  assert jax.tree.structure(one) == jax.tree.structure(other), (
    f'{what}: the structures differ: {jax.tree.structure(one)} and '
    f'{jax.tree.structure(other)}'
  )
  for (path, a), b in zip(
    jax.tree.leaves_with_path(one), jax.tree.leaves(other), strict=True
  ):
    name = jax.tree_util.keystr(path) or 'it'
    assert a.shape == b.shape, (
      f'{what}: {name} has the shape {a.shape}, then {b.shape}'
    )
    yield name, a, b


def _largest(array) -> float:
  return float(np.max(np.abs(array.astype(float)), initial=0.0))
