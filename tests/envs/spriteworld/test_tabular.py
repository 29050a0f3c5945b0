"""Value iteration against the sum over all paths."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.envs.spriteworld.tabular import (
  TabularModel,
  expected_visits,
  hard_values,
  policy_value,
  soft_values,
  uniform_policy,
)

NUM_MOVES = 3


@pytest.fixture(scope='module')
def ring():
  """Five states in a ring; a third action, which leaps, in state 0 only."""
  states = np.arange(5)
  successors = np.stack([(states + 1) % 5, (states - 1) % 5, states], axis=1)
  successors[0, 2] = 3
  permitted = np.ones((5, 3), bool)
  permitted[1:, 2] = False
  return TabularModel(jnp.asarray(successors), jnp.asarray(permitted))


@pytest.fixture(scope='module')
def paths(ring):
  """All paths of three moves from state 1: [paths, 4]."""
  found = []
  for actions in itertools.product(range(3), repeat=NUM_MOVES):
    path, allowed = [1], True
    for action in actions:
      allowed &= bool(ring.permitted[path[-1], action])
      path.append(int(ring.successors[path[-1], action]))
    if allowed:
      found.append(path)
  return np.array(found)


@pytest.fixture(scope='module')
def rewards():
  return jax.random.normal(jax.random.key(0), (5,))


def test_soft_values_are_those_of_all_paths(ring, paths, rewards):
  returns = np.asarray(rewards)[paths].sum(axis=1)
  log_partition = np.log(np.exp(returns).sum())
  values, log_policies = soft_values(ring, rewards, NUM_MOVES)
  np.testing.assert_allclose(values[0, 1], log_partition, rtol=1e-5)

  probabilities = np.exp(returns - log_partition)
  counts = (paths[:, :, None] == np.arange(5)).sum(axis=1)
  start = jax.nn.one_hot(1, 5)
  visits = expected_visits(ring, log_policies, start).sum(axis=0)
  np.testing.assert_allclose(visits, probabilities @ counts, atol=1e-5)
  np.testing.assert_allclose(
    policy_value(ring, log_policies, rewards, start),
    probabilities @ returns,
    rtol=1e-5,
  )


def test_derivatives_are_mean_and_covariance_of_the_visits(
  ring, paths, rewards
):
  def log_partition(rewards):
    return soft_values(ring, rewards, NUM_MOVES)[0][0, 1]

  returns = np.asarray(rewards)[paths].sum(axis=1)
  probabilities = np.exp(returns - np.log(np.exp(returns).sum()))
  counts = (paths[:, :, None] == np.arange(5)).sum(axis=1)
  mean = probabilities @ counts
  covariance = (probabilities[:, None] * counts).T @ counts
  covariance -= np.outer(mean, mean)
  np.testing.assert_allclose(jax.grad(log_partition)(rewards), mean, atol=1e-5)
  np.testing.assert_allclose(
    jax.hessian(log_partition)(rewards), covariance, atol=1e-5
  )


def test_hard_values_are_those_of_the_best_path(ring, paths, rewards):
  best = np.asarray(rewards)[paths].sum(axis=1).max()
  values, log_policies = hard_values(ring, rewards, NUM_MOVES)
  np.testing.assert_allclose(values[0, 1], best, rtol=1e-5)
  start = jax.nn.one_hot(1, 5)
  np.testing.assert_allclose(
    policy_value(ring, log_policies, rewards, start), best, rtol=1e-5
  )
  blind = uniform_policy(ring, NUM_MOVES)
  assert policy_value(ring, blind, rewards, start) < best
