"""The compiled programs of a run: init, a chunk of steps, evaluate."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from metajax.core import algorithm as algorithms
from metajax.core.algorithm import SKIPPED, Algorithm
from metajax.core.compilation import compile_hot
from metajax.core.validation import InputError, check_choice
from metajax.run.memory import bytes_to_allocate, check_fits
from metajax.run.state_leaves import check_leaves, leaf_specs

PyTree = Any


class ChunkResult(NamedTuple):
  """What a chunk returns.

  Attributes:
    state: the state after the chunk.
    bad_steps: int32 of `meta/skipped`'s shape, consecutive steps skipped up
      to the end of the chunk.
    metrics: means over the chunk; `meta/skipped` summed.
    streaks: `[steps, ...]` int32, the same counts after each step.
  """

  state: PyTree
  bad_steps: Array
  metrics: dict[str, Array]
  streaks: Array


class Programs:
  """Compiles what a run needs of an algorithm, when it needs it."""

  def __init__(self, algorithm: Algorithm, seed: int):
    self._algorithm = algorithm
    self._run_key = jax.random.key(seed)
    # Once and for all: host arrays would cross over at every call.
    self._data = jax.device_put(algorithm.data)
    # Executables, and where they want the state if they move it elsewhere.
    self._chunks: dict[int, tuple[Any, Any]] = {}
    self._evaluate = None
    self._columns: tuple[int, ...] = ()  # of `meta/skipped`; a sweep's axis

  def initial_state(self) -> PyTree:
    """Returns the state that the run starts from; its buffers are its own."""

    def init(data, key):
      # Copies, since a leaf may be the data itself or stand in two places,
      # and neither can be donated. Strong types, as a restored state has.
      state = self._algorithm.init(data, key)
      return jax.tree.map(_own, state)

    key = algorithms.init_key(self._run_key)
    return self._compile(init)(self._data, key)

  def check(self, state: PyTree, best_metric: str) -> None:
    """Checks, before anything long is compiled, that the parts fit together.

    Args:
      state: the initial state.
      best_metric: metric that the evaluation must have; '' asks for none.

    Raises:
      InputError: naming the leaf that changes, or the metric that is missing.
    """
    args = (self._data, state, self._run_key)
    after, metrics = jax.eval_shape(self._algorithm.step, *args)
    check_leaves('algorithm.step', leaf_specs(after), leaf_specs(state))
    if not isinstance(metrics, Mapping) or SKIPPED not in metrics:
      raise InputError(f'algorithm.step: expected the metric {SKIPPED}')
    evaluated = jax.eval_shape(self._algorithm.evaluate, *args)
    if best_metric:
      check_choice('best_metric', best_metric, sorted(evaluated))
    self._columns = metrics[SKIPPED].shape

  def no_bad_steps(self) -> Array:
    """Returns counters of bad steps at zero, once the state was checked."""
    return jnp.zeros(self._columns, jnp.int32)

  def has_chunk(self, num_steps: int) -> bool:
    """Says whether the chunk of `num_steps` is compiled."""
    return num_steps in self._chunks

  def compile_chunk(
    self, num_steps: int, state: PyTree, bad_steps: Array
  ) -> None:
    """Compiles the chunk of `num_steps` for states like `state`, once."""
    if num_steps not in self._chunks:
      self._chunks[num_steps] = self._compiled(num_steps, state, bad_steps)

  def needs_of_chunk(self, num_steps: int) -> str:
    """Returns what memory a compiled chunk needs, in words; '' if unknown.

    Raises:
      MemoryLimitError: if its devices have less left.
    """
    return check_fits(self._chunks[num_steps][0])

  def bytes_of_chunk(self, num_steps: int) -> int:
    """Compiles a chunk and returns what it would allocate, 0 if unknown."""
    state = jax.eval_shape(
      self._algorithm.init, self._data, algorithms.init_key(self._run_key)
    )
    self.check(state, best_metric='')
    program, _ = self._compiled(num_steps, state, self.no_bad_steps())
    return bytes_to_allocate(program) or 0

  def run_chunk(
    self, num_steps: int, state: PyTree, bad_steps: Array, step: int
  ) -> ChunkResult:
    """Starts a compiled chunk at `step`; returns before it is done.

    The buffers of `state` and `bad_steps` are given up.
    """
    program, shardings = self._chunks[num_steps]
    if shardings is not None:
      state, bad_steps = jax.device_put((state, bad_steps), shardings)
    return program(self._data, state, bad_steps, self._run_key, np.int32(step))

  def evaluate(self, state: PyTree) -> dict[str, Array]:
    """Returns the metrics of the held-out tasks, on the device."""
    key = algorithms.evaluation_key(self._run_key)
    if self._evaluate is None:
      self._evaluate = self._compile(self._algorithm.evaluate)
    return self._evaluate(self._data, state, key)

  def step_key(self, step: int) -> Array:
    """Returns the key of one meta-iteration."""
    return algorithms.step_key(self._run_key, step)

  def _compile(self, function, donate_argnums=()):
    return compile_hot(
      function,
      holds_physics=self._algorithm.holds_physics,
      donate_argnums=donate_argnums,
    )

  def _compiled(self, num_steps, state, bad_steps) -> tuple[Any, Any]:
    def chunk(data, state, bad_steps, run_key, first_step):
      def body(state, step):
        key = algorithms.step_key(run_key, step)
        return self._algorithm.step(data, state, key)

      steps = first_step + jnp.arange(num_steps, dtype=jnp.int32)
      state, metrics = jax.lax.scan(body, state, steps)
      streaks = streaks_of(metrics[SKIPPED] > 0, bad_steps)
      return ChunkResult(state, streaks[-1], chunk_metrics(metrics), streaks)

    program = (
      self._compile(chunk, donate_argnums=(1, 2))
      .lower(self._data, state, bad_steps, self._run_key, jnp.int32(0))
      .compile()
    )
    wanted = tuple(program.input_shardings[0][1:3])
    given = tuple(program.output_shardings[:2])
    stays = all(
      want.is_equivalent_to(give, leaf.ndim)
      for want, give, leaf in zip(
        jax.tree.leaves(wanted),
        jax.tree.leaves(given),
        jax.tree.leaves((state, bad_steps)),
        strict=True,
      )
    )
    return program, None if stays else wanted


def streaks_of(skipped: Array, before: Array) -> Array:
  """Returns how many steps in a row were skipped, up to each step.

  Args:
    skipped: `[steps, ...]` bool.
    before: `[...]` int32, the count before the first of them.

  Returns:
    `[steps, ...]` int32.
  """
  counts = jnp.arange(1, skipped.shape[0] + 1, dtype=jnp.int32)
  counts = counts.reshape((-1,) + (1,) * before.ndim)
  last_good = jax.lax.cummax(jnp.where(skipped, 0, counts), axis=0)
  return counts - last_good + jnp.where(last_good == 0, before[None], 0)


def chunk_metrics(metrics: dict[str, Array]) -> dict[str, Array]:
  """Reduces metrics over the steps of a chunk, their first axis.

  `meta/skipped` is summed. The others are averaged over the steps that were
  not skipped, whose numbers mean something; with none left, over them all, so
  that what was not finite shows.

  Args:
    metrics: name to `[steps, ...]` array.

  Returns:
    Name to `[...]` array.
  """
  used = metrics[SKIPPED] <= 0
  reduced = {}
  for name, values in metrics.items():
    values = jnp.asarray(values, jnp.result_type(values, jnp.float32))
    if name == SKIPPED:
      reduced[name] = jnp.sum(values, axis=0)
      continue
    if values.ndim < used.ndim:
      reduced[name] = jnp.mean(values, axis=0)
      continue
    mask = used.reshape(used.shape + (1,) * (values.ndim - used.ndim))
    mask = mask | ~jnp.any(mask, axis=0, keepdims=True)
    mask = jnp.broadcast_to(mask, values.shape)
    reduced[name] = jnp.mean(values, axis=0, where=mask)
  return reduced


def _own(leaf: Array) -> Array:
  copied = jnp.copy(leaf)
  if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    return copied
  return jax.lax.convert_element_type(copied, leaf.dtype)
