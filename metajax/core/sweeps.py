"""Sweeps: many settings and seeds as one program."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp

from metajax.core.algorithm import (
  Algorithm,
  evaluation_key,
  init_key,
  step_key,
)
from metajax.core.learner import PyTree
from metajax.core.sharding import laid_over, map_tasks
from metajax.core.validation import InputError, check_count

Config = TypeVar('Config')


@struct.dataclass
class SweepState:
  """The states of all columns, side by side."""

  columns: PyTree  # each leaf [columns, ...]
  run_keys: Array  # [columns] typed keys
  step: Array  # [] int32, meta-iterations done


def sweep(
  make: Callable[[Config], Algorithm],
  configs: Sequence[Config],
  seeds: Sequence[int],
  *,
  column_chunk_size: int | None = None,
) -> Algorithm:
  """Makes one algorithm that runs every config with every seed at once.

  Column `c * len(seeds) + s` computes what `make(configs[c])` run alone with
  `seeds[s]` computes: the same draws, the same updates.

  Args:
    make: makes the algorithm of one config. It is called under `vmap`, where
      the config's float leaves are traced.
    configs: configs that differ in their float leaves only.
    seeds: seeds of the runs, as of `jax.random.key(seed)`.
    column_chunk_size: columns that are worked on at once, >= 1. None: all on
      accelerators; on CPU one after another, inside the one program: matrix
      products with one more batch axis are slower there than in turn.

  Returns:
    An algorithm whose state, metrics and evaluations have a leading
    `[len(configs) * len(seeds)]` axis. The seed of the run that it is given to
    is not used: the columns have their own.

  Raises:
    InputError: if there is no config or seed, or if a static field differs.
  """
  if column_chunk_size is not None:
    check_count('column_chunk_size', column_chunk_size)
  if not configs or not seeds:
    raise InputError('configs, seeds: expected at least one of each, got none')
  structure = jax.tree.structure(configs[0])
  for config in configs:
    if jax.tree.structure(config) != structure:
      raise InputError(
        'configs: expected to differ in float fields only, got different '
        'static fields; start one run for each value of a static field'
      )
  # Built once in the open, so that what is wrong with a config is said here.
  algorithms = [make(config) for config in configs]
  stacked = jax.tree.map(
    lambda *leaves: jnp.repeat(
      jnp.asarray(leaves, jnp.float32), len(seeds), axis=0
    ),
    *configs,
  )

  def over_columns(function, *columns):
    """Maps over the columns, which under `shard` are what is laid out."""

    def whole(*args):
      with laid_over(None):
        return function(*args)

    return map_tasks(whole, stacked, *columns, chunk_size=column_chunk_size)

  def init(data, key):
    del key
    # Made here and not outside: nothing touches a device before it must.
    run_keys = jnp.stack(
      [jax.random.key(seed) for _ in configs for seed in seeds]
    )

    def one(config, run_key):
      return make(config).init(data, init_key(run_key))

    return SweepState(
      columns=over_columns(one, run_keys), run_keys=run_keys, step=jnp.int32(0)
    )

  def step(data, state, key):
    del key

    def one(config, column, run_key):
      return make(config).step(data, column, step_key(run_key, state.step))

    columns, metrics = over_columns(one, state.columns, state.run_keys)
    return state.replace(columns=columns, step=state.step + 1), metrics

  def evaluate(data, state, key):
    del key

    def one(config, column, run_key):
      return make(config).evaluate(data, column, evaluation_key(run_key))

    return over_columns(one, state.columns, state.run_keys)

  return algorithms[0]._replace(init=init, step=step, evaluate=evaluate)
