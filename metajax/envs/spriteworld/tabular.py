"""Finite worlds with known moves: values, policies and visits, in closed form.

A move from a state under an action always leads to the same state, time is
finite and nothing is discounted, as maximum-entropy inverse reinforcement
learning has it (Ziebart et al. 2008).
"""

from typing import NamedTuple

import jax
from jax import Array
import jax.numpy as jnp

# Not -inf: its second derivatives at the border of a grid are no numbers.
FORBIDDEN = -1e9


class TabularModel(NamedTuple):
  """Where each action leads; known, and the same for all tasks.

  Attributes:
    successors: [S, A] int32, the state that follows; where the action is not
      permitted, the state itself.
    permitted: [S, A] bool. Every state has an action that is.
  """

  successors: Array
  permitted: Array


def soft_values(
  model: TabularModel, rewards: Array, num_moves: int
) -> tuple[Array, Array]:
  """Solves for the policy that trades reward against entropy.

  With `r` earned in every state of a path, its first and its last too,

    `V_H(s) = r(s)`,  `Q_t(s, a) = r(s) + V_{t+1}(F(s, a))`,
    `V_t(s) = log sum_a exp Q_t(s, a)` over permitted `a`,
    `pi_t(a | s) = exp(Q_t(s, a) - V_t(s))`,

  so that paths are drawn with probability `exp(sum r) / Z`, `log Z = V_0(s_0)`
  (Ziebart et al. 2008). Differentiable twice in `rewards`; the gradient of
  `V_0(s_0)` is the expected number of visits.

  Args:
    model: the moves.
    rewards: [S] float32.
    num_moves: H.

  Returns:
    Values [H + 1, S] float32, of now on, and log policies [H, S, A] float32,
    `FORBIDDEN` or less where not permitted.
  """

  def back_up(values: Array, _) -> tuple[Array, tuple[Array, Array]]:
    reached = jnp.where(model.permitted, values[model.successors], FORBIDDEN)
    normalizer = jax.nn.logsumexp(reached, axis=-1)
    earlier = rewards + normalizer
    return earlier, (earlier, reached - normalizer[:, None])

  _, (values, log_policies) = jax.lax.scan(
    back_up, rewards, length=num_moves, reverse=True
  )
  return jnp.concatenate([values, rewards[None]]), log_policies


def hard_values(
  model: TabularModel, rewards: Array, num_moves: int
) -> tuple[Array, Array]:
  """Solves for the policy of most reward, entropy apart.

  Args:
    model: the moves.
    rewards: [S] float32.
    num_moves: H.

  Returns:
    Values [H + 1, S] float32 and log policies [H, S, A] float32, 0 for the
    first of the best actions and `FORBIDDEN` for all else.
  """
  num_actions = model.successors.shape[-1]

  def back_up(values: Array, _) -> tuple[Array, tuple[Array, Array]]:
    reached = jnp.where(model.permitted, values[model.successors], FORBIDDEN)
    best = jax.nn.one_hot(jnp.argmax(reached, axis=-1), num_actions)
    earlier = rewards + jnp.max(reached, axis=-1)
    return earlier, (earlier, FORBIDDEN * (1.0 - best))

  _, (values, log_policies) = jax.lax.scan(
    back_up, rewards, length=num_moves, reverse=True
  )
  return jnp.concatenate([values, rewards[None]]), log_policies


def uniform_policy(model: TabularModel, num_moves: int) -> Array:
  """Returns the policy that knows nothing.

  Args:
    model: the moves.
    num_moves: H.

  Returns:
    [H, S, A] float32, log policies, the same for all permitted actions.
  """
  logits = jnp.where(model.permitted, 0.0, FORBIDDEN)
  log_policy = jax.nn.log_softmax(logits, axis=-1)
  return jnp.broadcast_to(log_policy[None], (num_moves, *log_policy.shape))


def expected_visits(
  model: TabularModel, log_policies: Array, start: Array
) -> Array:
  """Follows where a policy is, step by step.

  `d_0 = start`,  `d_{t+1}(s') = sum_{s, a: F(s, a) = s'} d_t(s) pi_t(a | s)`.

  Args:
    model: the moves.
    log_policies: [H, S, A] float32.
    start: [S] float32, probabilities of the first state.

  Returns:
    [H + 1, S] float32, probabilities at each time; summed over time, the
    expected number of visits.
  """

  def move(probabilities: Array, log_policy: Array) -> tuple[Array, Array]:
    flow = probabilities[:, None] * jnp.exp(log_policy)
    later = jnp.zeros_like(probabilities).at[model.successors].add(flow)
    return later, later

  _, later = jax.lax.scan(move, start, log_policies)
  return jnp.concatenate([start[None], later])


def policy_value(
  model: TabularModel, log_policies: Array, rewards: Array, start: Array
) -> Array:
  """Returns what a policy earns on average, its first state included.

  The value lost by a policy that was planned under another reward,
  `E[V^{pi*(r)}_r - V^{pi*(r')}_r]`, is a difference of two of these.

  Args:
    model: the moves.
    log_policies: [H, S, A] float32.
    rewards: [S] float32.
    start: [S] float32, probabilities of the first state.

  Returns:
    [] float32.
  """
  return jnp.sum(expected_visits(model, log_policies, start) * rewards[None])
