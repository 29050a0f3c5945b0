"""Demonstration sets from Minari data sets, and to them.

Needs Minari (`pip install 'metajax[demos]'`), and only data sets that are on
this machine: nothing is downloaded.
"""

from collections.abc import Iterator, Mapping, Sequence
import importlib.metadata
import math
from pathlib import Path
from typing import Any, NamedTuple, cast
import warnings

import numpy as np

from metajax.core.errors import one_line
from metajax.core.validation import (
  InputError,
  check_choice,
  check_count,
  reject,
)
from metajax.demos.demonstration_set import DemonstrationSet
from metajax.demos.set_index import MAX_SHARDS, SPLITS, FieldSpec, Index
from metajax.demos.set_writer import open_writer

try:
  import gymnasium
  import minari
  from minari.data_collector import EpisodeBuffer
except ImportError:
  raise InputError(
    "minari: expected it installed: pip install 'metajax[demos]'"
  ) from None

_EPISODES_PER_SHARD = 16
_FRAMES = 'frames/'
# HDF5 takes a slash for a group within a group.
_SLASH_IN_NAMES = '.'


def export_minari(
  demonstrations: DemonstrationSet,
  dataset_id: str,
  *,
  split: str = 'train',
  metadata: Mapping[str, str] | None = None,
) -> Any:
  """Writes a split as a Minari data set, one episode a demonstration.

  Episodes end where the demonstrations do. An observation is a dictionary of
  `observations` and the pictures, lossless; what else there is of a step, and
  the numbers of task and demonstration, stand in the episode's infos.

  Args:
    demonstrations: the set, opened with at least observations, actions,
      rewards, done and length.
    dataset_id: what Minari is to call it, as in `pushing/expert-v0`.
    split: which split.
    metadata: what else Minari notes and asks for: `algorithm_name`, `author`,
      `author_email`, `code_permalink`, `description`.

  Returns:
    The `minari.MinariDataset`.

  Raises:
    InputError: if a field is missing, or if Minari refuses the name.
  """
  for name in ('observations', 'actions', 'rewards', 'done', 'length'):
    check_choice('field', name, demonstrations.fields)
  action_limit = demonstrations.index.settings.get('environment', {}).get(
    'action_limit', np.inf
  )
  try:
    with warnings.catch_warnings():
      # That no environment of Gymnasium's stands behind the data set.
      warnings.simplefilter('ignore', UserWarning)
      create: Any = minari.create_dataset_from_buffers
      return create(
        dataset_id,
        [*_buffers(demonstrations, split)],
        observation_space=_observation_space(demonstrations),
        action_space=gymnasium.spaces.Box(
          -action_limit,
          action_limit,
          demonstrations.index.fields['actions'].shape[1:],
          np.float32,
        ),
        jpeg_encoding=False,
        **(metadata or {}),
      )
  # What its own check of names raises depends on what is wrong with them.
  except (TypeError, ValueError) as error:
    raise InputError(f'dataset_id: {one_line(error)}') from error


def import_minari(
  path: str | Path,
  dataset_ids: Sequence[str],
  *,
  split: str = 'train',
  demos_per_task: int | None = None,
  resume: bool = False,
) -> Index:
  """Writes Minari data sets as one demonstration set, each as one task.

  Observations are vectors; or dictionaries, of which the pictures [height,
  width, 3] uint8 become `frames/NAME` and the vectors, by their names, make
  one. Actions are vectors. Episodes that are shorter than the longest one
  repeat their last observation, under an action and a reward of 0; `length`
  tells where they end.

  Args:
    path: the directory; made if it does not exist.
    dataset_ids: what Minari calls them; they have the same spaces.
    split: which split they become.
    demos_per_task: how many episodes of each, from the first; None: as many as
      the smallest has.
    resume: go on with a set that is there.

  Returns:
    The index of what was written.

  Raises:
    InputError: if a data set is missing, has too few episodes or spaces that
      cannot be used, or if `path` is used as in `collect_set`.
    LockedError: if another process writes to the directory.
    StorageError: if a file cannot be written.
  """
  check_choice('split', split, SPLITS)
  sources = _load_all(dataset_ids)
  most = min(source.total_episodes for source in sources)
  count = most if demos_per_task is None else demos_per_task
  check_count('demos_per_task', count)
  if count > most:
    raise reject('demos_per_task', f'at most {most}', count)
  layout = _layout_of(sources[0])
  horizon = max(
    len(episode)
    for source in sources
    for episode in _episodes(source, range(count))
  )
  index = Index(
    settings={'source': 'minari', 'dataset_ids': list(dataset_ids)},
    made_with={'minari': importlib.metadata.version('minari')},
    splits={split: len(sources)},
    demos_per_task=count,
    horizon=horizon,
    fields=_fields(layout, horizon),
  )
  shard_size = max(
    _EPISODES_PER_SHARD, math.ceil(index.num_episodes(split) / MAX_SHARDS)
  )
  with open_writer(path, index, resume=resume) as writer:
    while (position := writer.index.position()) is not None:
      _, first = position
      stop = min(first + shard_size, index.num_episodes(split))
      rows = []
      for number in range(first, stop):
        (episode,) = _episodes(sources[number // count], [number % count])
        rows.append(_row(episode, layout, horizon))
      writer.add(
        {name: np.stack([row[name] for row in rows]) for name in index.fields},
        rejected=[0] * len(rows),
      )
    return writer.index


class _Layout(NamedTuple):
  """What a data set's observations and actions are made of."""

  vectors: tuple[str, ...]  # () where an observation is one vector
  pictures: tuple[tuple[str, tuple[int, ...]], ...]  # name and shape
  observation_size: int
  action_size: int


def _load_all(dataset_ids: Sequence[str]) -> list[Any]:
  """Returns data sets that are on this machine and have the same spaces."""
  if not dataset_ids:
    raise reject('dataset_ids', 'at least one', list(dataset_ids))
  sources = []
  for dataset_id in dataset_ids:
    try:
      sources.append(minari.load_dataset(dataset_id, download=False))
    # Minari raises FileNotFoundError, ValueError or what its storage raises.
    except Exception as error:
      raise InputError(f'dataset_ids: {one_line(error)}') from error
    if _layout_of(sources[-1]) != _layout_of(sources[0]):
      raise reject('dataset_ids', 'the same spaces in all', dataset_id)
  return sources


def _episodes(source: Any, numbers: Sequence[int]) -> Iterator[Any]:
  """Yields episodes by their places in a data set."""
  indices = np.asarray(source.episode_indices)[list(numbers)]
  yield from source.iterate_episodes(indices)


def _layout_of(source: Any) -> _Layout:
  """Returns how a data set's spaces become fields."""
  spaces = gymnasium.spaces
  action, observation = source.action_space, source.observation_space
  if not isinstance(action, spaces.Box) or len(action.shape) != 1:
    raise reject('action space', 'a Box of one axis', action)
  if isinstance(observation, spaces.Box) and len(observation.shape) == 1:
    return _Layout((), (), observation.shape[0], action.shape[0])
  if not isinstance(observation, spaces.Dict):
    raise reject('observation space', 'a vector or a Dict', observation)
  vectors, pictures, size = [], [], 0
  for name, space in sorted(observation.items()):
    shape = getattr(space, 'shape', None) or ()
    if len(shape) == 3 and shape[2] == 3 and space.dtype == np.uint8:
      pictures.append((name, tuple(shape)))
    elif isinstance(space, spaces.Box) and len(shape) == 1:
      vectors.append(name)
      size += shape[0]
    else:
      raise reject(f'observation space {name}', 'a vector or a picture', space)
  return _Layout(tuple(vectors), tuple(pictures), size, action.shape[0])


def _fields(layout: _Layout, horizon: int) -> dict[str, FieldSpec]:
  actions = FieldSpec('float32', (horizon, layout.action_size))
  return {
    'observations': FieldSpec(
      'float32', (horizon + 1, layout.observation_size)
    ),
    'actions': actions,
    'labels': actions,
    'rewards': FieldSpec('float32', (horizon,)),
    'done': FieldSpec('bool', (horizon,)),
    'length': FieldSpec('int32', ()),
    **{
      _field_name(name): FieldSpec('uint8', (horizon + 1, *shape))
      for name, shape in layout.pictures
    },
  }


def _field_name(name: str) -> str:
  """Returns the field of a picture."""
  slashed = name.replace(_SLASH_IN_NAMES, '/', 1)
  return slashed if slashed.startswith(_FRAMES) else f'{_FRAMES}{name}'


def _row(episode: Any, layout: _Layout, horizon: int) -> dict[str, np.ndarray]:
  """Returns the fields of an episode, filled up to the horizon."""
  length, seen = len(episode), episode.observations
  if not length:
    raise InputError(f'episode {episode.id}: expected steps, got none')
  if layout.vectors:
    parts = [np.asarray(seen[name], np.float32) for name in layout.vectors]
    vectors = np.concatenate(parts, axis=1)
  elif layout.pictures:
    vectors = np.zeros((length + 1, 0), np.float32)
  else:
    vectors = np.asarray(seen, np.float32)
  actions = np.asarray(episode.actions, np.float32)
  labels = np.asarray(episode.infos.get('labels', actions), np.float32)
  row = {
    'observations': _repeat_last(vectors, horizon + 1),
    'actions': _fill(actions, horizon),
    'labels': _fill(labels[:length], horizon),
    'rewards': _fill(np.asarray(episode.rewards, np.float32), horizon),
    'done': _repeat_last(np.asarray(episode.terminations, bool), horizon),
    'length': np.asarray(length, np.int32),
  }
  for name, _ in layout.pictures:
    row[_field_name(name)] = _repeat_last(np.asarray(seen[name]), horizon + 1)
  return row


def _repeat_last(values: np.ndarray, count: int) -> np.ndarray:
  return values[np.minimum(np.arange(count), len(values) - 1)]


def _fill(values: np.ndarray, count: int) -> np.ndarray:
  filled = np.zeros((count, *values.shape[1:]), values.dtype)
  filled[: len(values)] = values
  return filled


def _observation_space(demonstrations: DemonstrationSet) -> Any:
  fields = demonstrations.index.fields
  entries: dict[str, Any] = {
    'observations': gymnasium.spaces.Box(
      -np.inf, np.inf, fields['observations'].shape[1:], np.float32
    )
  }
  for name in demonstrations.fields:
    if name.startswith(_FRAMES):
      entries[_minari_name(name)] = gymnasium.spaces.Box(
        0, 255, fields[name].shape[1:], np.uint8
      )
  return gymnasium.spaces.Dict(entries)


def _minari_name(field: str) -> str:
  return field.replace('/', _SLASH_IN_NAMES)


def _buffers(demonstrations: DemonstrationSet, split: str) -> Iterator[Any]:
  """Yields Minari's form of each demonstration."""
  numbers = iter(demonstrations.task_numbers(split))
  for chunk in demonstrations.chunks(split, 1):
    task = int(next(numbers))
    for demo in range(demonstrations.index.demos_per_task):
      fields = {
        name: values[0] if name.startswith('task/') else values[0, demo]
        for name, values in chunk.items()
      }
      yield _buffer(fields, task, demo)


def _buffer(fields: dict[str, np.ndarray], task: int, demo: int) -> Any:
  length = int(fields['length'])
  is_last = np.arange(length) == length - 1
  done = bool(fields['done'][length - 1])
  observations = {
    _minari_name(name): values[: length + 1]
    for name, values in fields.items()
    if name == 'observations' or name.startswith(_FRAMES)
  }
  infos = {
    name: fields[name][:length]
    for name in ('labels', 'success')
    if name in fields
  }
  infos['task'] = np.full(length, task)
  infos['demonstration'] = np.full(length, demo)
  return EpisodeBuffer(
    observations=observations,
    actions=cast(Any, fields['actions'][:length]),
    rewards=list(fields['rewards'][:length]),
    terminations=list(is_last & done),
    truncations=list(is_last & (not done)),
    infos=infos,
  )
