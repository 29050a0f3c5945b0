"""Plans pushes of a rope through the simulator, from good guesses."""

import jax
from jax import Array
import jax.numpy as jnp

from metajax.core.learner import PyTree
from metajax.demos.teachers.teacher import Teacher
from metajax.envs.environment import Env, EnvState
from metajax.envs.rollout import guarded_step
from metajax.envs.rope import MAX_PUSH_M, NUM_PEARLS

_BEHIND_M = 0.047  # the pusher's and a pearl's radius, and a little more
_FIRST_SPREAD_M = 0.02
_LATER_SPREADS_M = (0.03, 0.015)


def rope_teacher(
  env: Env, num_samples: int = 64, num_elites: int = 8
) -> Teacher:
  """Makes the push after which the rope is nearest to its shape.

  The first guesses set the pusher down behind a pearl and move that pearl to
  its place in the goal; each is tried in the simulator. Later guesses lie
  around the best ones, ever closer (cross-entropy with several means).

  Args:
    env: the rope; it is its own model.
    num_samples: pushes tried in each of three rounds.
    num_elites: how many of the best the next round starts from.

  Returns:
    The teacher; it remembers nothing.
  """

  def distances_after(state: EnvState, pushes: Array) -> Array:
    after = jax.vmap(lambda push: guarded_step(env, state, push))(pushes)
    return after.metrics['shape_distance_m']

  def act(state: EnvState, memory: PyTree, key: Array) -> tuple[Array, PyTree]:
    guess_key, noise_key = jax.random.split(key)
    pushes = _guesses(state, num_samples, guess_key)
    noise = jax.random.normal(
      noise_key, (len(_LATER_SPREADS_M), num_samples, 4)
    )

    def improve(carry, noise_and_spread):
      pushes, distances = carry
      noise, spread = noise_and_spread
      _, best = jax.lax.top_k(-distances, num_elites)
      centres = jnp.resize(pushes[best], pushes.shape)
      # The best themselves stay as they are.
      is_new = (jnp.arange(num_samples) >= num_elites)[:, None]
      pushes = centres + jnp.where(is_new, spread / MAX_PUSH_M * noise, 0.0)
      pushes = jnp.clip(pushes, -1.0, 1.0)
      return (pushes, distances_after(state, pushes)), None

    first = (pushes, distances_after(state, pushes))
    spreads = jnp.asarray(_LATER_SPREADS_M)
    (pushes, distances), _ = jax.lax.scan(improve, first, (noise, spreads))
    best = jnp.argmin(distances)
    # A push past the table's edge leaves the rope as it is.
    is_better = distances[best] < state.metrics['shape_distance_m']
    rest = jnp.asarray([-1.0, -1.0, -1.0, -1.0])
    return jnp.where(is_better, pushes[best], rest), memory

  return Teacher('rope', lambda state, key: (), act)


def _guesses(state: EnvState, num_samples: int, key: Array) -> Array:
  """Returns pushes [n, 4] that each move one pearl to its place."""
  pearl_key, reach_key, noise_key = jax.random.split(key, 3)
  pearls = state.observation[: 2 * NUM_PEARLS].reshape(NUM_PEARLS, 2)
  goal = state.task.goal_shape
  # The whole shape may lie anywhere; here about where the rope is.
  errors = goal - jnp.mean(goal, axis=0)[None] + jnp.mean(pearls, axis=0)[None]
  errors = errors - pearls
  sizes = jnp.sqrt(jnp.sum(jnp.square(errors), axis=1) + 1e-12)
  chosen = jax.random.categorical(
    pearl_key, jnp.log(sizes), shape=(num_samples,)
  )
  reach = jax.random.uniform(
    reach_key, (num_samples, 1), minval=0.5, maxval=1.8
  )
  way = (errors / sizes[:, None])[chosen]
  start = pearls[chosen] - _BEHIND_M * way
  end = start + reach * errors[chosen]
  pushes = jnp.concatenate([start, end], axis=1)
  noise = _FIRST_SPREAD_M * jax.random.normal(noise_key, pushes.shape)
  return jnp.clip((pushes + noise) / MAX_PUSH_M, -1.0, 1.0)
