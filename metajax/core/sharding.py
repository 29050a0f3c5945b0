"""One program over many devices: the task axis is laid across a mesh."""

from collections.abc import Callable, Iterator
import contextlib
import contextvars
import functools
from typing import TypeVar

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from metajax.core.algorithm import Algorithm
from metajax.core.learner import PyTree
from metajax.core.validation import InputError

Tree = TypeVar('Tree', bound=PyTree)

# The mesh that the program being traced is laid over; None outside `shard`.
_mesh: contextvars.ContextVar[Mesh | None] = contextvars.ContextVar(
  'metajax_mesh', default=None
)


def shard(algorithm: Algorithm, mesh: Mesh) -> Algorithm:
  """Returns the same algorithm with its task axis laid across `mesh`.

  The state stays replicated; what is computed for a task is computed on the
  device that holds the task, and the meta-gradient is summed over devices.
  Results agree with one device up to the order of summation. Of a sweep the
  columns are laid out, with their states, and no device waits for another.

  Args:
    algorithm: the algorithm, whose task axes must divide by the mesh's size.
    mesh: a mesh of one axis, as of `jax.make_mesh((8,), ('tasks',))`.

  Returns:
    An algorithm with the same state, data and metrics.

  Raises:
    InputError: if the mesh has more than one axis.
  """
  if len(mesh.axis_names) != 1:
    raise InputError(f'mesh: expected one axis, got the axes {mesh.axis_names}')

  # Where the compiler lays out what follows from the task axis.
  mesh = Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,))

  def over_mesh(function):
    @functools.wraps(function)
    def sharded(*args):
      with laid_over(mesh):
        return function(*args)

    return sharded

  return algorithm._replace(
    init=over_mesh(algorithm.init),
    step=over_mesh(algorithm.step),
    evaluate=over_mesh(algorithm.evaluate),
  )


@contextlib.contextmanager
def laid_over(mesh: Mesh | None) -> Iterator[None]:
  """Lets `lay_tasks` lay tasks across `mesh` inside; None: across nothing."""
  token = _mesh.set(mesh)
  try:
    yield
  finally:
    _mesh.reset(token)


def lay_tasks(tree: Tree) -> Tree:
  """Lays the leading axis of every leaf across the mesh of `shard`, if any.

  Algorithms call it on what they are about to `vmap` over tasks.

  Args:
    tree: pytree of arrays with a leading `[tasks]` axis. An axis of one task
      stays whole.

  Returns:
    The same tree.

  Raises:
    InputError: if the task axis does not divide by the number of devices.
  """
  mesh = _mesh.get()
  if mesh is None or _num_tasks(tree) == 1:
    return tree
  sharding = NamedSharding(mesh, PartitionSpec(mesh.axis_names[0]))
  for leaf in jax.tree.leaves(tree):
    if leaf.shape[0] % mesh.size:
      raise InputError(
        f'tasks: expected a number that divides by the {mesh.size} devices, '
        f'got {leaf.shape[0]}'
      )
  return jax.lax.with_sharding_constraint(tree, sharding)


def map_tasks(
  function: Callable[..., Tree], *trees: PyTree, chunk_size: int | None = None
) -> Tree:
  """Maps a function of one task over the tasks, a chunk at a time.

  Under `shard`, every device works on its own tasks, a chunk at a time.

  Args:
    function: takes one task's slice of every tree.
    *trees: pytrees of arrays with a leading `[tasks]` axis.
    chunk_size: tasks that are worked on at once. None: all on accelerators;
      on CPU one after another, so that what one task needs stays in cache.

  Returns:
    What `function` returns, with a leading `[tasks]` axis.

  Raises:
    InputError: if the task axis does not divide by the number of devices.
  """
  if chunk_size is None and jax.default_backend() != 'cpu':
    return jax.vmap(function)(*lay_tasks(trees))

  def over_chunks(slices):
    # An explicit batch of one would put an axis in front of every product.
    size = None if chunk_size in (None, 1) else chunk_size
    return jax.lax.map(lambda one: function(*one), slices, batch_size=size)

  mesh = _mesh.get()
  if mesh is None or _num_tasks(trees) == 1:
    return over_chunks(trees)
  tasks = PartitionSpec(mesh.axis_names[0])
  # Each device runs loops of its own: nothing waits for another device.
  mapped = jax.shard_map(
    lambda *slices: over_chunks(slices),
    mesh=mesh,
    in_specs=tasks,
    out_specs=tasks,
    check_vma=False,
  )
  return lay_tasks(mapped(*lay_tasks(trees)))


def map_simulations(
  function: Callable[..., Tree], *trees: PyTree, chunk_size: int | None = None
) -> Tree:
  """Maps a function of one task that simulates over the tasks.

  All at once on every backend, where `map_tasks` takes one after another on
  CPU: a simulator's steps are many and small. With a chunk size, in chunks.

  Args:
    function: takes one task's slice of every tree.
    *trees: pytrees of arrays with a leading `[tasks]` axis.
    chunk_size: tasks that are simulated at once; None: all.

  Returns:
    What `function` returns, with a leading `[tasks]` axis.

  Raises:
    InputError: if the task axis does not divide by the number of devices.
  """
  if chunk_size is None or _num_tasks(trees) <= chunk_size:
    return jax.vmap(function)(*lay_tasks(trees))
  return map_tasks(function, *trees, chunk_size=chunk_size)


def _num_tasks(tree: PyTree) -> int:
  return jax.tree.leaves(tree)[0].shape[0]
