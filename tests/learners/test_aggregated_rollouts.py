"""What is kept of rollouts, and what is drawn from them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.core.validation import InputError
from metajax.envs.rollout import Trajectory
from metajax.learners.aggregated_rollouts import (
  consecutive_windows,
  no_rollouts,
)


def rollouts(number, num_steps=20, start=0):
  """Observations that say which rollout and step they are of."""
  names = (start + jnp.arange(number, dtype=float))[:, None]
  times = jnp.arange(num_steps, dtype=float)[None]
  observations = jnp.stack(jnp.broadcast_arrays(names, times), axis=-1)
  like = jnp.zeros((number, num_steps))
  return Trajectory(
    observations=observations,
    actions=3.0 * jnp.ones((number, num_steps, 1)),
    rewards=like,
    terminals=like > 0,
    valid=like == 0,
    times=jnp.broadcast_to(times, like.shape).astype(int),
  )


def collected(number=20):
  return no_rollouts(number, 20, 2, 1).add(rollouts(number), 1.0)


def test_windows_are_consecutive_steps_of_one_rollout():
  data = collected()
  keys = jax.random.split(jax.random.key(0), 300)
  episodes = jax.vmap(lambda key: data.sample_window(key, 3, 4))(keys)
  past, future = episodes.support, episodes.query
  assert past.observations.shape == (300, 3, 2)
  assert future.observations.shape == (300, 4, 2)
  names = np.concatenate(
    [past.observations[..., 0], future.next_observations[..., 0]], axis=1
  )
  assert (names == names[:, :1]).all()
  times = np.concatenate(
    [past.observations[..., 1], future.observations[..., 1]], axis=1
  )
  np.testing.assert_array_equal(np.diff(times, axis=1), 1)
  np.testing.assert_array_equal(
    future.next_observations[..., 1], future.observations[..., 1] + 1
  )
  assert times.min() == 0
  assert future.next_observations[..., 1].max() == 19
  np.testing.assert_array_equal(past.actions, 1.0)  # as they acted


def test_training_and_validation_never_share_a_rollout():
  data = collected()

  def drawn(validation):
    keys = jax.random.split(jax.random.key(0), 300)
    episodes = jax.vmap(
      lambda key: data.sample_window(key, 2, 2, validation=validation)
    )(keys)
    return set(np.unique(episodes.support.observations[..., 0]).astype(int))

  assert drawn(True) == {0, 10}
  assert drawn(False) == set(range(20)) - {0, 10}
  assert int(data.num_training_steps) == 18 * 19


def test_a_rollout_that_failed_is_never_drawn():
  failed = rollouts(4)
  failed = failed._replace(valid=failed.valid.at[2, 5:].set(False))
  data = no_rollouts(4, 20, 2, 1).add(failed, 1.0)
  keys = jax.random.split(jax.random.key(0), 100)
  episodes = jax.vmap(lambda key: data.sample_window(key, 2, 2))(keys)
  assert set(np.unique(episodes.support.observations[..., 0])) == {1.0, 3.0}


def test_the_oldest_give_way():
  data = no_rollouts(6, 20, 2, 1)
  for start in (0, 4, 8):
    data = data.add(rollouts(4, start=start), 1.0)
  assert int(data.num_rollouts) == 12
  np.testing.assert_array_equal(
    data.observations[:, 0, 0], [6, 7, 8, 9, 10, 11]
  )


def test_statistics_are_those_of_what_is_trained_on():
  data = collected()
  normaliser = data.normaliser()
  names = np.delete(np.arange(20.0), [0, 10])
  np.testing.assert_allclose(
    normaliser.observation_mean, [names.mean(), 9.0], rtol=1e-5
  )
  np.testing.assert_allclose(normaliser.change_mean, [0.0, 1.0], atol=1e-6)


def test_windows_cover_a_rollout_in_their_futures():
  one = jax.tree.map(lambda x: x[0], rollouts(1))
  pasts, futures = consecutive_windows(one.observations, one.actions, 3, 5)
  np.testing.assert_array_equal(
    futures.observations[..., 1].ravel(), np.arange(3, 18)
  )
  np.testing.assert_array_equal(pasts.observations[0, :, 1], [0, 1, 2])
  with pytest.raises(InputError, match='horizon: expected more than 30 steps'):
    consecutive_windows(one.observations, one.actions, 20, 10)
