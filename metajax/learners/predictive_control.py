"""Model-predictive control with a dynamics model that learns while it acts.

Source: Finn, "Learning to Learn with Gradients" (2018), section 5.3; Nagabandi,
Clavera et al. (2019), algorithm 2. At every control step: learn from the last
transition, adapt, search for a sequence of actions under the adapted model,
execute the first of them.
"""

from collections.abc import Callable
import dataclasses
from typing import NamedTuple

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp

from metajax.core.learner import Params, PyTree
from metajax.core.validation import check_choice, check_count, reject
from metajax.envs.environment import EnvSpec
from metajax.envs.rollout import Policy
from metajax.learners.dynamics import DynamicsModel
from metajax.learners.transitions import Transitions
from metajax.rl.planning import cross_entropy, model_returns, random_shooting

PLANNERS = ('random_shooting', 'cross_entropy')
_INITIAL_STD = 0.5  # of the cross-entropy method, in units of the action limit
_MIN_STD = 0.02


class Planning(NamedTuple):
  """Sizes of the search at every control step.

  Attributes:
    num_sequences: n_A, action sequences; of the cross-entropy method, in each
      of its iterations.
    horizon: H, control steps that a sequence covers.
    planner: one of `PLANNERS`.
    num_elites: of the cross-entropy method.
    num_iterations: of the cross-entropy method.
  """

  num_sequences: int = 1000
  horizon: int = 10
  planner: str = 'random_shooting'
  num_elites: int = 50
  num_iterations: int = 3


@struct.dataclass
class ControllerMemory:
  """What the controller keeps from one control step to the next."""

  observation: Array  # [observation_size] float32, of the step before
  action: Array  # [action_size] float32, which was then taken
  has_acted: Array  # [] bool, whether there was a step before
  learned: PyTree  # the dynamics model's own memory
  plan: Array  # [horizon, action_size] float32, what is left of the last plan


def predictive_controller(
  spec: EnvSpec,
  reward: Callable[[Array, Array, Array], Array],
  model: DynamicsModel,
  params: Params,
  planning: Planning,
  *,
  explores: Array | bool = False,
) -> tuple[Policy, ControllerMemory]:
  """Returns the controller as a policy, and what it remembers at first.

  Args:
    spec: the environment's.
    reward: `(observation, action, next_observation) -> []`.
    model: the dynamics model.
    params: its parameters, theta*.
    planning: sizes of the search.
    explores: acts at random, uniformly, and plans nothing.

  Returns:
    The policy and its first memory.

  Raises:
    InputError: for a setting out of its range.
  """
  check_planning(planning)
  limit = spec.action_limit

  def search(observation: Array, memory: ControllerMemory, key: Array) -> Array:
    adapted = model.adapt(params, memory.learned)
    carry = model.first_carry(adapted)

    def score(sequences: Array) -> Array:
      return model_returns(
        model.predict, reward, adapted, carry, observation, sequences
      )

    if planning.planner == 'random_shooting':
      return random_shooting(
        score,
        key,
        num_sequences=planning.num_sequences,
        horizon=planning.horizon,
        action_size=spec.action_size,
        action_limit=limit,
      )
    return cross_entropy(
      score,
      key,
      memory.plan,
      jnp.full_like(memory.plan, _INITIAL_STD * limit),
      num_sequences=planning.num_sequences,
      num_elites=planning.num_elites,
      num_iterations=planning.num_iterations,
      action_limit=limit,
      min_std=_MIN_STD * limit,
    )[0]

  def wander(observation: Array, memory: ControllerMemory, key: Array) -> Array:
    del observation
    return jax.random.uniform(
      key, memory.plan.shape, minval=-limit, maxval=limit
    )

  def policy(
    observation: Array, memory: ControllerMemory, key: Array
  ) -> tuple[Array, ControllerMemory]:
    seen = Transitions(memory.observation, memory.action, observation)
    learned = jax.tree.map(
      lambda new, old: jnp.where(memory.has_acted, new, old),
      model.observe(params, memory.learned, seen),
      memory.learned,
    )
    memory = dataclasses.replace(memory, learned=learned)
    plan = jax.lax.cond(explores, wander, search, observation, memory, key)
    action = plan[0]
    return action, ControllerMemory(
      observation=observation,
      action=action,
      has_acted=jnp.ones((), bool),
      learned=learned,
      plan=jnp.concatenate([plan[1:], jnp.zeros_like(plan[:1])]),
    )

  first = ControllerMemory(
    observation=jnp.zeros((spec.observation_size,)),
    action=jnp.zeros((spec.action_size,)),
    has_acted=jnp.zeros((), bool),
    learned=model.first_memory(params),
    plan=jnp.zeros((planning.horizon, spec.action_size)),
  )
  return policy, first


def check_planning(planning: Planning) -> None:
  """Checks the sizes of the search.

  Raises:
    InputError: for the first that is out of its range.
  """
  check_choice('planner', planning.planner, PLANNERS)
  for name in ('num_sequences', 'horizon', 'num_elites', 'num_iterations'):
    check_count(name, getattr(planning, name))
  if planning.planner == 'cross_entropy':
    if planning.num_elites > planning.num_sequences:
      raise reject(
        'num_elites',
        f'at most num_sequences ({planning.num_sequences})',
        planning.num_elites,
      )
