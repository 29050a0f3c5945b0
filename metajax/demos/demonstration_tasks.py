"""Demonstrations as a family of tasks, for whoever learns to imitate."""

from collections.abc import Mapping, Sequence

import jax
from jax import Array
import jax.numpy as jnp

from metajax.core.learner import Episode, PyTree, TaskFamily
from metajax.core.validation import check_choice, check_count, reject
from metajax.demos.set_index import TASK_PREFIX


def demonstration_tasks(
  support: Mapping[str, Array],
  *,
  shots: int,
  query_shots: int = 1,
  support_fields: Sequence[str] | None = None,
  query_fields: Sequence[str] | None = None,
  query: Mapping[str, Array] | None = None,
) -> TaskFamily:
  """Returns the family that draws a task and some of its demonstrations.

  Support and query are dictionaries of a field's name to `[shots, ...]`. Of one
  set they are distinct demonstrations of a task (Finn, Yu et al. 2017). With
  `query` they come from two sets, as the videos of another body and the
  robot's own demonstrations do (Yu et al. 2018): the tasks of both are the
  same, in the same order.

  >>> import jax, jax.numpy as jnp
  >>> data = {'actions': jnp.ones((5, 4, 9, 2)), 'task/mass': jnp.ones(5)}
  >>> tasks = demonstration_tasks(data, shots=1, query_shots=2)
  >>> episode = tasks.sample(tasks.data, jax.random.key(0))
  >>> episode.support['actions'].shape, episode.query['actions'].shape
  ((1, 9, 2), (2, 9, 2))

  Args:
    support: field to `[tasks, demos, ...]`, `task/...` to `[tasks, ...]`, as
      `DemonstrationSet.to_device` gives them.
    shots: demonstrations to learn from, >= 1.
    query_shots: demonstrations to be judged on, >= 1.
    support_fields: what is seen of them; None: all fields but the task's.
    query_fields: the same, of the query.
    query: another set's fields, of the same tasks.

  Returns:
    The family. Its episodes' `task` holds the task's own leaves, by their
    names.

  Raises:
    InputError: if there are not enough demonstrations, no such field, or
      another number of tasks in `query`.
  """
  check_count('shots', shots)
  check_count('query_shots', query_shots)
  num_tasks, num_demos = _sizes('support', support)
  source, is_one_set = (support, True) if query is None else (query, False)
  num_query_tasks, num_query_demos = _sizes('query', source)
  if num_query_tasks != num_tasks:
    raise reject('query', f'{num_tasks} tasks, as support', num_query_tasks)
  if is_one_set and shots + query_shots > num_demos:
    raise reject(
      'shots + query_shots', f'at most {num_demos}', shots + query_shots
    )
  for name, given, most in (
    ('shots', shots, num_demos),
    ('query_shots', query_shots, num_query_demos),
  ):
    if given > most:
      raise reject(name, f'at most {most}', given)

  def sample(data: PyTree, key: Array) -> Episode:
    task_key, support_key, query_key = jax.random.split(key, 3)
    task = jax.random.randint(task_key, (), 0, num_tasks)
    order = jax.random.permutation(support_key, num_demos)
    if is_one_set:
      query_order = order[shots:]
    else:
      query_order = jax.random.permutation(query_key, num_query_demos)

    def of_task(fields: Mapping[str, Array], demos: Array) -> dict[str, Array]:
      return {name: values[task, demos] for name, values in fields.items()}

    return Episode(
      task={name: values[task] for name, values in data['task'].items()},
      support=of_task(data['support'], order[:shots]),
      query=of_task(data['query'], query_order[:query_shots]),
    )

  return TaskFamily(
    sample,
    {
      'task': {
        name.removeprefix(TASK_PREFIX): values
        for name, values in source.items()
        if name.startswith(TASK_PREFIX)
      },
      'support': _chosen('support_fields', support, support_fields),
      'query': _chosen('query_fields', source, query_fields),
    },
  )


def _sizes(name: str, fields: Mapping[str, Array]) -> tuple[int, int]:
  """Returns the tasks and the demonstrations of each."""
  shapes = {
    jnp.shape(values)[:2]
    for field, values in fields.items()
    if not field.startswith(TASK_PREFIX)
  }
  if len(shapes) != 1 or len(sizes := shapes.pop()) != 2 or not all(sizes):
    raise reject(name, 'fields [tasks, demos, ...]', sorted(shapes))
  return sizes


def _chosen(
  name: str, fields: Mapping[str, Array], chosen: Sequence[str] | None
) -> dict[str, Array]:
  """Returns some fields, or all but the task's own."""
  own = tuple(field for field in fields if not field.startswith(TASK_PREFIX))
  for field in chosen or ():
    check_choice(name, field, own)
  return {field: fields[field] for field in (own if chosen is None else chosen)}
