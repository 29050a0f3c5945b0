"""What a demonstration set is made of: all that decides its numbers."""

import dataclasses
import math
import re
from typing import Any

from metajax.core.validation import (
  check_choice,
  check_count,
  check_range,
  reject,
)
from metajax.demos.set_index import MAX_SHARDS, SPLITS

KEEPS = ('all', 'successes')

_EPISODES_PER_SHARD = 16
_NAME = re.compile(r'\w[\w.-]*', re.ASCII)


@dataclasses.dataclass(frozen=True)
class View:
  """One camera's pictures.

  Attributes:
    camera: name of a camera of the model.
    height: rows.
    width: columns.
    samples: rays a pixel and axis.
    shadows: whether shapes keep the light from each other.
    hidden: names of geoms that are not drawn.
  """

  camera: str = 'overview'
  height: int = 64
  width: int = 64
  samples: int = 1
  shadows: bool = True
  hidden: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Recipe:
  """What a demonstration set is made of.

  Attributes:
    family: name of the family of tasks.
    physics: name of the engine.
    style: how its teacher acts (`metajax.demos.teachers.catalogue.styles_of`).
    seed: decides every random number, in [0, 2^31).
    num_tasks: training tasks.
    num_validation_tasks: tasks of the same distribution, kept apart.
    num_held_out_tasks: tasks of the held-out distribution.
    demos_per_task: demonstrations of each task.
    execution_noise: standard deviation of the noise on what the teacher does,
      in units of the largest action; labels stay clean.
    keep: `all` episodes, or `successes` alone: an episode that is none is
      attempted anew.
    success_steps: steps that must be successes in an episode that is one.
    max_attempts: after so many an episode is given up.
    views: the cameras, each at most once; none: no pictures.
    keep_states: whether the simulator's full state is kept, of every step.
    episodes_per_shard: episodes that are simulated, written and, after a
      crash, lost together. None: 16, more in a set that is too large for that.
  """

  family: str
  physics: str = 'c'
  style: str = 'plain'
  seed: int = 0
  num_tasks: int = 100
  num_validation_tasks: int = 0
  num_held_out_tasks: int = 0
  demos_per_task: int = 10
  execution_noise: float = 0.0
  keep: str = 'all'
  success_steps: int = 1
  max_attempts: int = 20
  views: tuple[View, ...] = ()
  keep_states: bool = False
  episodes_per_shard: int | None = None

  @property
  def splits(self) -> dict[str, int]:
    """Each split that has tasks, and how many."""
    numbers = (
      self.num_tasks,
      self.num_validation_tasks,
      self.num_held_out_tasks,
    )
    return {split: n for split, n in zip(SPLITS, numbers, strict=True) if n > 0}

  @property
  def shard_size(self) -> int:
    """Episodes in a shard; the last one of a split may have fewer."""
    total = self.demos_per_task * sum(self.splits.values())
    size = self.episodes_per_shard or max(
      # Each split but one may begin a shard that it does not fill.
      _EPISODES_PER_SHARD,
      math.ceil(total / (MAX_SHARDS - len(SPLITS))),
    )
    return min(size, self.demos_per_task * max(self.splits.values()))

  def settings(self) -> dict[str, Any]:
    """Returns the recipe as JSON, without what the index has anyway."""
    content = dataclasses.asdict(self)
    for name in (
      'num_tasks',
      'num_validation_tasks',
      'num_held_out_tasks',
      'demos_per_task',
    ):
      del content[name]
    views = [
      {**view, 'hidden': list(view['hidden'])} for view in content['views']
    ]
    return {
      **content,
      'views': views,
      'episodes_per_shard': self.shard_size,
    }


def check_recipe(recipe: Recipe) -> None:
  """Checks what can be checked without an environment.

  Raises:
    InputError: naming the field, what was expected and what came.
  """
  check_count('seed', recipe.seed, minimum=0)
  check_range('seed', recipe.seed, minimum=0, maximum=2**31 - 1)
  for name in ('num_tasks', 'num_validation_tasks', 'num_held_out_tasks'):
    check_count(name, getattr(recipe, name), minimum=0)
  if not recipe.splits:
    raise reject('num_tasks', 'tasks in some split', 0)
  for name in ('demos_per_task', 'success_steps', 'max_attempts'):
    check_count(name, getattr(recipe, name))
  check_range(
    'execution_noise', recipe.execution_noise, minimum=0.0, maximum=10.0
  )
  check_choice('keep', recipe.keep, KEEPS)
  cameras = [view.camera for view in recipe.views]
  if len(set(cameras)) < len(cameras):
    raise reject('views', 'each camera once', cameras)
  for view in recipe.views:
    if not _NAME.fullmatch(view.camera):
      raise reject('camera', 'letters, digits, ., _ and -', view.camera)
    for name in ('height', 'width', 'samples'):
      check_count(name, getattr(view, name))
  _check_shards(recipe)


def _check_shards(recipe: Recipe) -> None:
  if recipe.episodes_per_shard is not None:
    check_count('episodes_per_shard', recipe.episodes_per_shard)
  num_shards = sum(
    math.ceil(n * recipe.demos_per_task / recipe.shard_size)
    for n in recipe.splits.values()
  )
  if num_shards > MAX_SHARDS:
    raise reject(
      'episodes_per_shard',
      f'at most {MAX_SHARDS} shards in all',
      f'{num_shards} of {recipe.shard_size}',
    )
