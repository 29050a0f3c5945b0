"""Pytrees as named arrays and back: what files can hold of them."""

from collections.abc import Mapping

import jax
from jax import Array

from metajax.core.learner import PyTree
from metajax.core.validation import InputError


def named_leaves(prefix: str, tree: PyTree) -> dict[str, Array]:
  """Returns the leaves of a tree by their paths.

  >>> import jax.numpy as jnp
  >>> sorted(named_leaves('task', {'goal': jnp.zeros(2), 'mass': jnp.ones(())}))
  ['task/goal', 'task/mass']

  Args:
    prefix: what stands before the first slash; the whole name of a tree that
      is one array.
    tree: the tree of arrays.

  Returns:
    Name to array.
  """
  return {
    _name(prefix, path): leaf
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
  }


def tree_of(prefix: str, arrays: Mapping[str, Array], like: PyTree) -> PyTree:
  """Puts named arrays back into a tree.

  Args:
    prefix: as it was given to `named_leaves`.
    arrays: name to array, with any axes in front.
    like: a tree of that structure, of arrays or `jax.ShapeDtypeStruct`.

  Returns:
    The tree.

  Raises:
    InputError: naming an array that is missing.
  """
  paths, structure = jax.tree_util.tree_flatten_with_path(like)
  leaves = []
  for path, _ in paths:
    name = _name(prefix, path)
    if name not in arrays:
      raise InputError(f'arrays: expected {name}, got {sorted(arrays)}')
    leaves.append(arrays[name])
  return jax.tree.unflatten(structure, leaves)


def _name(prefix: str, path: tuple) -> str:
  inside = jax.tree_util.keystr(path, simple=True, separator='/')
  return f'{prefix}/{inside}' if inside else prefix
