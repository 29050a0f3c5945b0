"""A state as named arrays in host memory, and back: what files can hold."""

from collections.abc import Sequence
import hashlib
from typing import Any, NamedTuple

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from metajax.core.validation import InputError

PyTree = Any


class LeafSpec(NamedTuple):
  """What identifies a leaf of a state.

  Attributes:
    path: where it stands in the state, as 'params/Dense_0/kernel'.
    shape: its shape; of a typed key, the shape of the array of keys.
    dtype: name of its dtype; 'key<fry>' and the like for typed keys.
    key_impl: name of the generator if the leaf holds typed keys, else ''.
  """

  path: str
  shape: tuple[int, ...]
  dtype: str
  key_impl: str = ''

  def __str__(self) -> str:
    return f'{self.dtype}[{",".join(map(str, self.shape))}]'


def leaf_specs(tree: PyTree) -> list[LeafSpec]:
  """Returns the specs of a tree of arrays or of `jax.ShapeDtypeStruct`."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  return [_leaf_spec(path, leaf) for path, leaf in leaves]


def _leaf_spec(path, leaf) -> LeafSpec:
  name = jax.tree_util.keystr(path, simple=True, separator='/')
  key_impl = _key_impl(leaf) if _holds_keys(leaf) else ''
  return LeafSpec(name, tuple(leaf.shape), str(leaf.dtype), key_impl)


def _holds_keys(leaf) -> bool:
  return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _key_impl(leaf) -> str:
  """Returns the name of the generator of typed keys, abstract or not."""
  names = []

  def note(keys):
    names.append(str(jax.random.key_impl(keys)))
    return ()

  # Only inside a trace does JAX name the generator of an abstract key.
  jax.eval_shape(note, leaf)
  return names[0]


def host_leaves(tree: PyTree) -> list[np.ndarray]:
  """Copies the leaves of a tree into host memory, keys as their raw data.

  The copies are real ones: on CPU a view would share the device's buffer,
  which the next donated chunk overwrites.
  """
  return [
    np.array(raw(leaf), copy=True, order='C') for leaf in jax.tree.leaves(tree)
  ]


def raw(leaf: Array) -> Array:
  """Returns a leaf itself, or the raw data of typed keys."""
  return jax.random.key_data(leaf) if _holds_keys(leaf) else leaf


def place_leaves(leaves: Sequence[np.ndarray], like: PyTree) -> PyTree:
  """Puts host arrays on the device, as a tree like `like`.

  Args:
    leaves: arrays in the order of `like`'s leaves, keys as their raw data.
    like: tree of arrays or `jax.ShapeDtypeStruct` with the structure wanted;
      a leaf with a sharding hands it on.

  Returns:
    The tree of device arrays.
  """
  targets, structure = jax.tree.flatten(like)
  placed = [_place(*pair) for pair in zip(leaves, targets, strict=True)]
  return jax.tree.unflatten(structure, placed)


def _place(leaf: np.ndarray, target) -> Array:
  if _holds_keys(target):
    impl = _key_impl(target)
    value = jax.random.wrap_key_data(jnp.array(leaf), impl=impl)
  else:
    # A copy: the device must own what a chunk is going to overwrite.
    value = jnp.array(leaf)
  sharding = getattr(target, 'sharding', None)
  return value if sharding is None else jax.device_put(value, sharding)


def digest(leaf: np.ndarray) -> str:
  """Returns the SHA-256 of a host array's bytes."""
  flat = np.ascontiguousarray(leaf).reshape(-1)
  return hashlib.sha256(flat.view(np.uint8).data).hexdigest()


def check_leaves(
  name: str, got: Sequence[LeafSpec], expected: Sequence[LeafSpec]
) -> None:
  """Checks that stored leaves are those a state has: nothing is ever cast.

  Args:
    name: what holds the leaves, for the message.
    got: the leaves that are stored.
    expected: the leaves that are wanted.

  Raises:
    InputError: naming the first leaf that is missing, extra, or of another
      shape, dtype or key generator.
  """
  stored = {spec.path: spec for spec in got}
  for spec in expected:
    if spec.path not in stored:
      raise InputError(f'{name}: leaf {spec.path}: expected {spec}, got none')
    other = stored.pop(spec.path)
    if other != spec:
      raise InputError(
        f'{name}: leaf {spec.path}: expected {spec}, got {other}'
      )
  for path, spec in stored.items():
    raise InputError(f'{name}: leaf {path}: expected none, got {spec}')
  if [spec.path for spec in got] != [spec.path for spec in expected]:
    raise InputError(f'{name}: expected the leaves in the order of the state')
