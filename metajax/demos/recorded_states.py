"""The simulator's states that demonstrations went through, to begin from."""

from collections.abc import Mapping

import jax
from jax import Array
import jax.numpy as jnp

from metajax.core.validation import reject
from metajax.demos.named_leaves import tree_of
from metajax.envs.environment import Env, EnvState


def recorded_state(
  env: Env, demonstration: Mapping[str, Array], step: Array
) -> EnvState:
  """Returns the environment as it was at one step of ONE demonstration.

  From there it goes on as it did then; `vmap` it for more.

  Args:
    env: the environment that the demonstration was collected in.
    demonstration: its fields, without axes for tasks and demonstrations: those
      of a set with `keep_states`, the task's own among them.
    step: [] int32, in [0, T].

  Returns:
    The state.

  Raises:
    InputError: naming a field that is missing, or of another environment.
  """
  task_like = jax.eval_shape(env.sample_task, jax.random.key(0))
  like = jax.eval_shape(env.reset, task_like, jax.random.key(0))
  # No step leads to the first state.
  last = jnp.maximum(step - 1, 0)
  parts = {
    name: jax.tree.map(
      lambda values: values[step],
      tree_of(name, demonstration, getattr(like, name)),
    )
    for name in ('physics', 'memory', 'metrics')
  }
  for name in ('observations', 'rewards', 'done'):
    if name not in demonstration:
      raise reject('demonstration', f'the field {name}', sorted(demonstration))
  state = EnvState(
    task=tree_of('task', demonstration, task_like),
    observation=demonstration['observations'][step],
    reward=jnp.where(step > 0, demonstration['rewards'][last], 0.0),
    done=(step > 0) & demonstration['done'][last],
    **parts,
  )
  _check_shapes('state', state, like)
  return state


def _check_shapes(name: str, tree: object, like: object) -> None:
  shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(tree)]
  expected = [leaf.shape for leaf in jax.tree.leaves(like)]
  if shapes != expected:
    raise reject(name, f'leaves of shapes {expected}', shapes)
