"""The teacher: a controller that sees everything, and what it shows."""

from collections.abc import Callable
from typing import NamedTuple

import jax
from jax import Array
import jax.numpy as jnp

from metajax.core.learner import PyTree
from metajax.envs.environment import Env, EnvState, Task
from metajax.envs.rollout import guarded_step


class Teacher(NamedTuple):
  """A controller of ONE environment that reads its whole state, task included.

  Attributes:
    name: what it is called.
    first_memory: `(state, key) -> memory`, what it remembers as an episode
      begins; what it draws once for an episode, it draws here.
    act: `(state, memory, key) -> (action, memory)`, `action`
      [action_size] float32.
    execution_noise: standard deviation of Gaussian noise between what it means
      to do and what is done, in units of the largest action, >= 0.
  """

  name: str
  first_memory: Callable[[EnvState, Array], PyTree]
  act: Callable[[EnvState, PyTree, Array], tuple[Array, PyTree]]
  execution_noise: float | Array = 0.0


class Demonstration(NamedTuple):
  """One episode that a teacher has shown.

  After the episode's end the last state is repeated, with a reward of 0.

  Attributes:
    states: EnvState with a leading `[horizon + 1]` axis, the reset's first.
    actions: [horizon, action_size] float32, what was done.
    labels: [horizon, action_size] float32, what the teacher meant to do there,
      which noise on its execution does not touch.
  """

  states: EnvState
  actions: Array
  labels: Array


def run_teacher(
  env: Env,
  teacher: Teacher,
  task: Task,
  key: Array,
  *,
  execution_noise: float | Array = 0.0,
) -> Demonstration:
  """Lets a teacher show one episode, as one `lax.scan`.

  With noise on what is done, the teacher shows how to recover, while its labels
  stay clean (Laskey et al. 2017).

  Args:
    env: the environment.
    teacher: the teacher.
    task: the task.
    key: key of the episode.
    execution_noise: standard deviation of Gaussian noise on the actions, in
      units of the largest action, on top of the teacher's own.

  Returns:
    The demonstration.
  """
  first_key, memory_key, act_key = jax.random.split(key, 3)
  key_impl = jax.random.key_impl(key)
  first = env.reset(task, first_key)
  limit = env.spec.action_limit
  # Independent noises: their variances add.
  noise_std = limit * jnp.hypot(teacher.execution_noise, execution_noise)

  def step(carry, step_key):
    state, memory = carry
    step_key = jax.random.wrap_key_data(step_key, impl=key_impl)
    teacher_key, noise_key = jax.random.split(step_key)
    label, memory = teacher.act(state, memory, teacher_key)
    noise = noise_std * jax.random.normal(noise_key, label.shape)
    action = jnp.clip(label + noise, -limit, limit)
    following = guarded_step(env, state, action)
    over = state.replace(reward=jnp.zeros_like(state.reward))
    following = jax.tree.map(
      lambda old, new: jnp.where(state.done, old, new), over, following
    )
    return (following, memory), (following, action, label)

  # Raw keys: JAX's check of key reuse takes vmapped scans over keys for one.
  keys = jax.random.key_data(jax.random.split(act_key, env.spec.horizon))
  _, (states, actions, labels) = jax.lax.scan(
    step, (first, teacher.first_memory(first, memory_key)), keys
  )
  states = jax.tree.map(
    lambda one, rest: jnp.concatenate([one[None], rest]), first, states
  )
  return Demonstration(states, actions, labels)
