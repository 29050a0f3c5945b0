"""Sampling MPC: plans through the simulator itself, by cross-entropy."""

from collections.abc import Callable
from typing import NamedTuple

import jax
from jax import Array
import jax.numpy as jnp

from metajax.core.learner import PyTree
from metajax.demos.teachers.teacher import Teacher
from metajax.envs.environment import Env, EnvState
from metajax.envs.rollout import guarded_step
from metajax.rl.planning import cross_entropy


class PlanningConfig(NamedTuple):
  """Sizes of the search.

  Attributes:
    num_samples: action sequences tried in each iteration.
    num_elites: how many of them the next mean is made of.
    num_iterations: iterations at each control step.
    horizon: control steps that a sequence covers.
    repeats: control steps that each of its actions is held.
    initial_std: spread of the first iteration, in units of the action.
  """

  num_samples: int = 64
  num_elites: int = 8
  num_iterations: int = 3
  horizon: int = 12
  repeats: int = 1
  initial_std: float = 0.5


def planner(
  env: Env,
  config: PlanningConfig = PlanningConfig(),  # noqa: B008
  score: Callable[[EnvState], Array] | None = None,
) -> Teacher:
  """Plans by the cross-entropy method at every control step.

  Sequences are rolled out in the simulator (`metajax.rl.planning`). The first
  action of the last mean is executed; the plan, shifted, is the next start.

  Args:
    env: the environment; it is its own model.
    config: sizes of the search.
    score: `(state) -> []` float32, what to maximise, summed over the steps;
      None: the reward.

  Returns:
    The teacher; its memory is the plan [horizon, action_size].
  """
  limit, size = env.spec.action_limit, env.spec.action_size
  value = score or (lambda state: state.reward)
  num_knots = -(-config.horizon // config.repeats)

  def first_memory(state: EnvState, key: Array) -> PyTree:
    del state, key
    return jnp.zeros((num_knots, size))

  def returns_of(state: EnvState, plan: Array) -> Array:
    actions = jnp.repeat(plan, config.repeats, axis=0)[: config.horizon]

    def step(state, action):
      state = guarded_step(env, state, action)
      return state, value(state)

    return jnp.sum(jax.lax.scan(step, state, actions)[1])

  def act(state: EnvState, plan: PyTree, key: Array) -> tuple[Array, PyTree]:
    plan, _ = cross_entropy(
      lambda plans: jax.vmap(returns_of, in_axes=(None, 0))(state, plans),
      key,
      plan,
      jnp.full((num_knots, size), config.initial_std * limit),
      num_sequences=config.num_samples,
      num_elites=config.num_elites,
      num_iterations=config.num_iterations,
      action_limit=limit,
      min_std=0.02,
    )
    # Held actions: the plan moves on by one knot every `repeats` steps on
    # average, so a shift by the fraction that has passed.
    shift = 1.0 / config.repeats
    following = jnp.concatenate([plan[1:], plan[-1:]])
    return plan[0], (1.0 - shift) * plan + shift * following

  return Teacher(name='planner', first_memory=first_memory, act=act)
