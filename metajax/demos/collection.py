"""Collecting demonstrations: simulated in batches, drawn, kept by a rule.

All numbers of an episode follow from (seed, split, task, demonstration,
attempt), whatever was shown before it: a collection that is taken up again ends
with the same bits. Equal seeds draw the tasks of two families with equal keys,
so that a demonstrator's hand and a robot can be shown the same tasks.
"""

from collections.abc import Callable, Generator, Iterator
import dataclasses
import functools
from pathlib import Path
import time
from typing import Any, NamedTuple

import jax
from jax import Array
import jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec
import numpy as np

from metajax.core.compilation import compile_hot
from metajax.core.errors import package_versions
from metajax.core.learner import PyTree
from metajax.core.validation import InputError
from metajax.demos.named_leaves import named_leaves
from metajax.demos.recipe import Recipe, View, check_recipe
from metajax.demos.set_index import SPLITS, FieldSpec, Index
from metajax.demos.set_writer import SetWriter, open_writer
from metajax.demos.teachers.teacher import Demonstration, Teacher, run_teacher
from metajax.envs.environment import Env, EnvState, Task, held_out
from metajax.envs.views import camera_view

# Frames that an accelerator draws at once; a CPU draws one by one anyway.
_FRAMES_AT_ONCE = 32


class Episodes(NamedTuple):
  """A shard's episodes, shown.

  Attributes:
    arrays: field to `[rows, ...]`, in the order of the episodes' numbers.
    rejected: [episodes] how many attempts at each came to nothing.
    given_up: numbers of the episodes that have no row.
    simulating_s: seconds that simulating took.
    drawing_s: seconds that the pictures took.
  """

  arrays: dict[str, np.ndarray]
  rejected: tuple[int, ...]
  given_up: tuple[int, ...]
  simulating_s: float
  drawing_s: float


class Collected(NamedTuple):
  """One more shard of a set, on disk.

  Attributes:
    index: what the set holds by now.
    simulating_s: seconds that the shard took to simulate.
    drawing_s: seconds to draw.
    writing_s: seconds to write, durably.
  """

  index: Index
  simulating_s: float
  drawing_s: float
  writing_s: float


class _Shown(NamedTuple):
  """One episode as its program returns it."""

  fields: dict[str, Array]
  task: Task
  states: PyTree  # EnvState without its task; () if none are drawn
  is_success: Array  # [] bool


class Collector:
  """The compiled programs that show one recipe's episodes.

  Attributes:
    fields: name to what an episode has of it (`collect_set`).

  Args:
    env: the environment.
    teacher: its teacher.
    recipe: what is wanted.

  Raises:
    InputError: if the recipe cannot be used with the environment.
  """

  def __init__(self, env: Env, teacher: Teacher, recipe: Recipe):
    check_recipe(recipe)
    if recipe.views and env.model is None and env.picture is None:
      raise InputError(
        f'camera: expected none, since {env.spec.name} is not drawn, got'
        f' {recipe.views[0].camera}'
      )
    self._recipe = recipe
    self._draw, self._draw_held_out = (
      compile_hot(
        jax.vmap(
          functools.partial(_draw, source, recipe.seed),
          in_axes=(None, 0, 0, 0),
        ),
        holds_physics=env.holds_physics,
      )
      for source in (env, held_out(env))
    )
    show = functools.partial(_show, env, teacher, recipe)
    self._show = compile_hot(jax.vmap(show), holds_physics=env.holds_physics)
    like = jax.eval_shape(
      lambda n: show(*_draw(env, recipe.seed, n, n, n, n)),
      jax.ShapeDtypeStruct((), jnp.int32),
    )
    if recipe.keep == 'successes' and 'success' not in like.fields:
      raise InputError(
        f'keep: expected all, since {env.spec.name} tells no success, got'
        ' successes'
      )
    self._pictures = {
      f'frames/{view.camera}': _film_program(env, view) for view in recipe.views
    }
    self.fields = {
      name: FieldSpec(leaf.dtype.name, leaf.shape)
      for name, leaf in like.fields.items()
    }
    for view in recipe.views:
      shape = (env.spec.horizon + 1, view.height, view.width, 3)
      self.fields[f'frames/{view.camera}'] = FieldSpec('uint8', shape)

  def collect(self, split: str, first: int, num_episodes: int) -> Episodes:
    """Shows consecutive episodes of a split.

    Args:
      split: the split.
      first: number of the first episode.
      num_episodes: how many, at most the recipe's shard size.
    """
    start_s = time.perf_counter()
    numbers = list(range(first, first + num_episodes))
    rejected = dict.fromkeys(numbers, 0)
    kept: dict[int, _Shown] = {}
    while pending := [
      n
      for n in numbers
      if n not in kept and rejected[n] < self._recipe.max_attempts
    ]:
      attempts = self._attempts(pending, rejected)
      for (number, _), shown in zip(
        attempts, self._try(split, attempts), strict=True
      ):
        if number in kept:
          continue
        if self._recipe.keep == 'all' or shown.is_success:
          kept[number] = shown
        else:
          rejected[number] += 1
    simulated_s = time.perf_counter()
    rows = [kept[number] for number in numbers if number in kept]
    arrays = self._stack(rows)
    return Episodes(
      arrays=arrays,
      rejected=tuple(rejected.values()),
      given_up=tuple(n for n in numbers if n not in kept),
      simulating_s=simulated_s - start_s,
      drawing_s=time.perf_counter() - simulated_s,
    )

  def _attempts(
    self, pending: list[int], rejected: dict[int, int]
  ) -> list[tuple[int, int]]:
    """Returns (episode, attempt) to fill a batch, earlier attempts first.

    An episode's attempts fail in the order of their numbers, whichever batch
    they are in, so that filling up changes no result.
    """
    rounds = max(1, self._recipe.shard_size // len(pending))
    return [
      (number, rejected[number] + more)
      for more in range(rounds)
      for number in pending
      if rejected[number] + more < self._recipe.max_attempts
    ]

  def _try(
    self, split: str, attempts: list[tuple[int, int]]
  ) -> Iterator[_Shown]:
    """Shows some attempts, as many at once as the program takes."""
    size = self._recipe.shard_size
    # One size of batch is one program; what fills it up is thrown away.
    filled = attempts + [attempts[-1]] * (size - len(attempts))
    numbers, tries = np.asarray(filled, np.int32).T
    tasks, demos = np.divmod(numbers, np.int32(self._recipe.demos_per_task))
    draw = self._draw_held_out if split == 'held_out' else self._draw
    drawn = draw(np.int32(SPLITS.index(split)), tasks, demos, tries)
    shown = jax.device_get(self._show(*drawn))
    for row in range(len(attempts)):
      yield jax.tree.map(lambda x, row=row: x[row], shown)

  def _stack(self, rows: list[_Shown]) -> dict[str, np.ndarray]:
    """Draws the episodes' pictures and stacks all of their fields."""
    arrays = {}
    for name, spec in self.fields.items():
      arrays[name] = np.empty((len(rows), *spec.shape), spec.dtype)
      film = self._pictures.get(name)
      for i, row in enumerate(rows):
        arrays[name][i] = (
          row.fields[name] if film is None else film(row.task, row.states)
        )
    return arrays


def collect_set(
  path: str | Path,
  env: Env,
  teacher: Teacher,
  recipe: Recipe,
  *,
  resume: bool = False,
) -> Generator[Collected, None, None]:
  """Collects a demonstration set into a directory, one shard at a time.

  Nothing is written before the first shard is asked for. The set is whole when
  the iterator ends. Whoever stops before, or is killed, goes on with `resume`
  and gets the very same files.

  Fields of an episode of T steps: `observations` [T+1, n], `actions` [T, a]
  (what was done), `labels` [T, a] (what the teacher meant to do), `rewards`
  [T], `done` [T], `success` [T] where the environment tells it, `length` []
  (steps until the episode's end; after it the last state is repeated), the
  leaves of the task as `task/...`, `frames/CAMERA` [T+1, height, width, 3]
  uint8; and with `keep_states` all else that the simulator's state holds, as
  `physics/...`, `memory/...` and `metrics/...` [T+1, ...].

  Args:
    path: the directory; made if it does not exist.
    env: the environment.
    teacher: its teacher.
    recipe: what is wanted.
    resume: go on with a set that is there; a new one is then welcome too.

  Returns:
    An iterator over what the set holds after each shard; while it goes on, the
    directory is locked.

  Raises:
    InputError: if the recipe cannot be used, if the directory is in use and
      `resume` is false, or if what is there was made with other settings.
    LockedError: if another process writes to the directory.
    StorageError: if a file cannot be written.
  """
  collector = Collector(env, teacher, recipe)
  index = Index(
    settings={
      **recipe.settings(),
      'teacher': teacher.name,
      'environment': dict(
        env.spec._asdict(), invariant=list(env.spec.invariant)
      ),
    },
    made_with={**package_versions(), 'device': jax.devices()[0].device_kind},
    splits=recipe.splits,
    demos_per_task=recipe.demos_per_task,
    horizon=env.spec.horizon,
    fields=collector.fields,
  )

  def shards() -> Generator[Collected, None, None]:
    with open_writer(path, index, resume=resume) as writer:
      while (position := writer.index.position()) is not None:
        yield _collect_shard(collector, writer, *position, recipe.shard_size)

  return shards()


def _collect_shard(
  collector: Collector,
  writer: SetWriter,
  split: str,
  first: int,
  shard_size: int,
) -> Collected:
  left = writer.index.num_episodes(split) - first
  episodes = collector.collect(split, first, min(shard_size, left))
  start_s = time.perf_counter()
  writer.add(
    episodes.arrays, rejected=episodes.rejected, given_up=episodes.given_up
  )
  return Collected(
    index=writer.index,
    simulating_s=episodes.simulating_s,
    drawing_s=episodes.drawing_s,
    writing_s=time.perf_counter() - start_s,
  )


def _draw(
  env: Env, seed: int, split: Array, task: Array, demo: Array, attempt: Array
) -> tuple[Task, Array]:
  """Draws a task, and the raw key of one attempt at one demonstration."""
  of_split = jax.random.fold_in(jax.random.key(seed), split)
  task_key, demos_key = jax.random.split(jax.random.fold_in(of_split, task))
  demo_key = jax.random.fold_in(demos_key, demo)
  attempt_key = jax.random.fold_in(demo_key, attempt)
  return env.sample_task(task_key), jax.random.key_data(attempt_key)


def _show(
  env: Env, teacher: Teacher, recipe: Recipe, task: Task, raw_key: Array
) -> _Shown:
  """Shows one episode."""
  demonstration = run_teacher(
    env,
    teacher,
    task,
    jax.random.wrap_key_data(raw_key),
    execution_noise=recipe.execution_noise,
  )
  states = dataclasses.replace(demonstration.states, task=())
  fields = _fields_of(demonstration, task)
  if recipe.keep_states:
    for name in ('physics', 'memory', 'metrics'):
      fields |= named_leaves(name, getattr(states, name))
  successes = fields.get('success', jnp.zeros((1,), bool))
  return _Shown(
    fields=fields,
    task=task,
    states=states if recipe.views else (),
    is_success=jnp.sum(successes) >= recipe.success_steps,
  )


def _fields_of(demonstration: Demonstration, task: Task) -> dict[str, Array]:
  """Returns what every set keeps of an episode."""
  states = demonstration.states
  done = states.done[1:]
  horizon = done.shape[0]
  fields = {
    'observations': states.observation,
    'actions': demonstration.actions,
    'labels': demonstration.labels,
    'rewards': states.reward[1:],
    'done': done,
    'length': jnp.where(jnp.any(done), jnp.argmax(done) + 1, horizon).astype(
      jnp.int32
    ),
    **named_leaves('task', task),
  }
  if 'success' in states.metrics:
    fields['success'] = states.metrics['success'][1:] > 0
  return fields


def _film_program(env: Env, view: View) -> Callable[[Task, EnvState], Any]:
  """Returns the compiled `(task, states [T+1]) -> frames` of one episode."""
  draw = camera_view(
    env,
    view.camera,
    height=view.height,
    width=view.width,
    samples=view.samples,
    shadows=view.shadows,
    hidden=view.hidden,
  )

  def frame(task: Task, state: EnvState) -> Array:
    return draw(dataclasses.replace(state, task=task)).rgb

  def film(task: Task, states: EnvState) -> Array:
    if jax.default_backend() == 'cpu':
      return jax.vmap(frame, in_axes=(None, 0))(task, states)
    return jax.lax.map(
      lambda state: frame(task, state), states, batch_size=_FRAMES_AT_ONCE
    )

  program = compile_hot(
    _over_devices(film, env.spec.horizon + 1), holds_physics=env.holds_physics
  )
  return lambda task, states: jax.device_get(program(task, states))


def _over_devices(
  film: Callable[[Task, EnvState], Array], num_frames: int
) -> Callable[[Task, EnvState], Array]:
  """Lets every device draw a share of an episode's frames."""
  num_devices = jax.device_count()
  frames = PartitionSpec('frames')
  shared = jax.shard_map(
    film,
    mesh=jax.make_mesh((num_devices,), ('frames',), (AxisType.Auto,)),
    in_specs=(PartitionSpec(), frames),
    out_specs=frames,
    check_vma=False,
  )
  # Shares are equal: the last frame fills up.
  share = -(-num_frames // num_devices)
  places = np.minimum(np.arange(share * num_devices), num_frames - 1)

  def over_devices(task: Task, states: EnvState) -> Array:
    filled = jax.tree.map(lambda leaf: leaf[places], states)
    return shared(task, filled)[:num_frames]

  return over_devices
