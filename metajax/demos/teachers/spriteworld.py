"""The walker that knows SpriteWorld's rewards and plans through its table."""

import jax
from jax import Array
import jax.numpy as jnp

from metajax.core.learner import PyTree
from metajax.core.validation import check_choice
from metajax.demos.teachers.teacher import Teacher
from metajax.envs.environment import EnvState
from metajax.envs.spriteworld.tabular import FORBIDDEN, hard_values, soft_values
from metajax.envs.spriteworld.world import NUM_CELLS, SpriteWorld

_PLANS = {'soft': soft_values, 'hard': hard_values}


def spriteworld_teacher(world: SpriteWorld, plan: str = 'soft') -> Teacher:
  """Plans by value iteration under the true reward.

  Args:
    world: the world.
    plan: `soft`: draws from the maximum-entropy policy, which is how
      demonstrations are assumed to come about (Ziebart et al. 2008); `hard`:
      the policy of most reward.

  Returns:
    The teacher; its memory is the values [horizon + 1, 400] and the time.

  Raises:
    InputError: if there is no such plan.
  """
  check_choice('plan', plan, tuple(_PLANS))
  horizon = world.env.spec.horizon

  def first_memory(state: EnvState, key: Array) -> PyTree:
    del key
    rewards = world.rewards(state.task)
    values, _ = _PLANS[plan](world.model, rewards, horizon)
    return values, jnp.zeros((), jnp.int32)

  def act(state: EnvState, memory: PyTree, key: Array) -> tuple[Array, PyTree]:
    values, time = memory
    row, column = state.physics.cell
    here = row * NUM_CELLS + column
    reached = values[time + 1, world.model.successors[here]]
    scores = jnp.where(world.model.permitted[here], reached, FORBIDDEN)
    if plan == 'soft':
      move = jax.random.categorical(key, scores)
    else:
      move = jnp.argmax(scores)
    action = jax.nn.one_hot(move, world.env.spec.action_size)
    return action, (values, time + 1)

  return Teacher(name=f'{plan}_planner', first_memory=first_memory, act=act)
