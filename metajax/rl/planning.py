"""Planning by sampling: action sequences, scored and chosen.

A plan is a sequence of actions in the box [-action_limit, action_limit]. What
it is worth is the caller's: the return under a learned model
(`model_returns`) or under the simulator itself. Model-predictive control
executes the first action of the plan and plans again.
"""

from collections.abc import Callable

import chex
import jax
from jax import Array
import jax.numpy as jnp

from metajax.core.learner import Adapted, PyTree
from metajax.core.validation import check_count, check_positive, reject

# (sequences [n, horizon, action_size]) -> [n]
Score = Callable[[Array], Array]
# (adapted, carry, observations [n, o], actions [n, a])
#   -> (next_observations [n, o], carry)
Predict = Callable[[Adapted, PyTree, Array, Array], tuple[Array, PyTree]]
# (observation [o], action [a], next_observation [o]) -> []
Reward = Callable[[Array, Array, Array], Array]


def random_shooting(
  score: Score,
  key: Array,
  *,
  num_sequences: int,
  horizon: int,
  action_size: int,
  action_limit: float,
) -> Array:
  """Returns the best of random action sequences (Finn 2018, equation 17).

    A* = argmax_{A^i, i = 1..num_sequences} score(A^i),  A^i ~ Unif(box)

  >>> import jax
  >>> import jax.numpy as jnp
  >>> plan = random_shooting(
  ...   lambda sequences: -jnp.sum(sequences**2, axis=(1, 2)),
  ...   jax.random.key(0),
  ...   num_sequences=50,
  ...   horizon=3,
  ...   action_size=2,
  ...   action_limit=1.0,
  ... )
  >>> plan.shape
  (3, 2)

  Args:
    score: `(sequences [n, horizon, action_size]) -> [n]`, what to maximise. A
      sequence whose score is NaN counts as the worst.
    key: key of the sequences.
    num_sequences: how many to try, >= 1.
    horizon: actions in a sequence, >= 1.
    action_size: length of an action, >= 1.
    action_limit: bound of each element of an action, > 0.

  Returns:
    [horizon, action_size] float32.

  Raises:
    InputError: for a count or a limit that is out of range.
  """
  check_count('num_sequences', num_sequences)
  check_count('horizon', horizon)
  check_count('action_size', action_size)
  check_positive('action_limit', action_limit)
  sequences = jax.random.uniform(
    key,
    (num_sequences, horizon, action_size),
    minval=-action_limit,
    maxval=action_limit,
  )
  return sequences[jnp.argmax(_scored(score, sequences))]


def cross_entropy(
  score: Score,
  key: Array,
  mean: Array,
  std: Array,
  *,
  num_sequences: int,
  num_elites: int,
  num_iterations: int,
  action_limit: float,
  min_std: float,
) -> tuple[Array, Array]:
  """Improves a plan by the cross-entropy method.

  Sequences are drawn from a Gaussian around the plan; the elites' mean and
  spread make the next Gaussian (Kobilarov 2012; Chua et al. 2018). The mean
  itself is always one of the sequences.

  Args:
    score: `(sequences [n, horizon, action_size]) -> [n]`, what to maximise. A
      sequence whose score is NaN counts as the worst.
    key: key of the noise.
    mean: [horizon, action_size] float32, the plan to start from.
    std: [horizon, action_size] float32, > 0, the spread to start from.
    num_sequences: sequences tried in each iteration, >= 1.
    num_elites: how many of them the next mean is made of, 1 to
      `num_sequences`.
    num_iterations: iterations, >= 1.
    action_limit: bound of each element of an action, > 0.
    min_std: added to the spread of the elites, >= 0 in units of the action, so
      that the search never ends.

  Returns:
    The mean and the spread of the last elites, each [horizon, action_size].

  Raises:
    InputError: for a count or a limit that is out of range.
  """
  check_count('num_sequences', num_sequences)
  check_count('num_elites', num_elites)
  check_count('num_iterations', num_iterations)
  check_positive('action_limit', action_limit)
  if num_elites > num_sequences:
    raise reject(
      'num_elites', f'at most num_sequences ({num_sequences})', num_elites
    )
  chex.assert_rank(mean, 2)
  chex.assert_equal_shape([mean, std])

  def improve(carry, noise):
    mean, std = carry
    sequences = jnp.clip(
      mean[None] + std[None] * noise, -action_limit, action_limit
    )
    sequences = sequences.at[0].set(mean)
    _, best = jax.lax.top_k(_scored(score, sequences), num_elites)
    elites = sequences[best]
    mean, std = jnp.mean(elites, axis=0), jnp.std(elites, axis=0)
    return (mean, std + min_std), None

  noise = jax.random.normal(key, (num_iterations, num_sequences, *mean.shape))
  return jax.lax.scan(improve, (mean, std), noise)[0]


def model_returns(
  predict: Predict,
  reward: Reward,
  adapted: Adapted,
  carry: PyTree,
  observation: Array,
  sequences: Array,
) -> Array:
  """Returns what action sequences earn under a model, undiscounted.

    R^i = sum_{h=0}^{H-1} r(s^i_h, a^i_h, s^i_{h+1}),  s^i_0 = observation
    s^i_{h+1} = predict(s^i_h, a^i_h)                  (Finn 2018, equation 17)

  Every sequence is rolled from the same carry, on a copy of its own.

  Args:
    predict: the model, batched over sequences:
      `(adapted, carry, observations [n, o], actions [n, a]) ->
      (next_observations [n, o], carry)`, each leaf of `carry` `[n, ...]`.
    reward: `(observation [o], action [a], next_observation [o]) -> []`.
    adapted: what `predict` needs.
    carry: pytree of arrays of ONE rollout, without the axis n; `()` if none.
    observation: [o] float32, where every sequence begins.
    sequences: [n, H, a] float32.

  Returns:
    [n] float32; -inf where a reward or a predicted observation is not finite.
  """
  chex.assert_rank([observation, sequences], [1, 3])
  num_sequences = sequences.shape[0]

  def repeat(leaf):
    leaf = jnp.asarray(leaf)
    return jnp.broadcast_to(leaf[None], (num_sequences, *leaf.shape))

  def step(state, actions):
    observations, carry, returns = state
    following, carry = predict(adapted, carry, observations, actions)
    rewards = jax.vmap(reward)(observations, actions, following)
    is_finite = jnp.all(jnp.isfinite(following), axis=-1)
    rewards = jnp.where(is_finite, rewards, -jnp.inf)
    return (following, carry, returns + rewards), None

  first = (
    repeat(observation),
    jax.tree.map(repeat, carry),
    jnp.zeros((num_sequences,)),
  )
  (_, _, returns), _ = jax.lax.scan(step, first, jnp.swapaxes(sequences, 0, 1))
  return jnp.where(jnp.isfinite(returns), returns, -jnp.inf)


def _scored(score: Score, sequences: Array) -> Array:
  """Scores sequences; `argmax` and `top_k` would prefer NaN to any number."""
  scores = score(sequences)
  chex.assert_shape(scores, (sequences.shape[0],))
  return jnp.where(jnp.isnan(scores), -jnp.inf, scores)
