"""Statistics by hand, and the window of the last transitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.core.validation import InputError
from metajax.learners.transitions import (
  Transitions,
  check_sizes,
  empty_window,
  mean_squared_error,
  normaliser_of,
  unit_normaliser,
)


def random_transitions(*axes, seed=0):
  generator = np.random.default_rng(seed)
  observations = generator.normal(size=(*axes, 3)) * [1, 5, 0.1] + [0, 10, -1]
  changes = generator.normal(size=(*axes, 3)) * [0.1, 0.3, 0.02] + [0.5, 0, 0]
  return Transitions(
    jnp.asarray(observations, jnp.float32),
    jnp.asarray(generator.uniform(-1, 1, size=(*axes, 2)), jnp.float32),
    jnp.asarray(observations + changes, jnp.float32),
  )


def test_statistics_count_valid_rows_only():
  transitions = random_transitions(4, 6)
  valid = np.random.default_rng(1).random((4, 6)) < 0.6
  rows = [np.asarray(part, np.float64)[valid] for part in transitions]
  # What is not valid may hold anything.
  transitions = jax.tree.map(
    lambda x: (
      jnp.where(valid[..., None], x, jnp.nan)
      .at[0, 0]
      .set(jnp.where(valid[0, 0], x[0, 0], jnp.inf))
    ),
    transitions,
  )
  got = jax.jit(normaliser_of)(transitions, jnp.asarray(valid))
  changes = rows[2] - rows[0]
  expected = {
    'observation_mean': rows[0].mean(axis=0),
    'observation_std': rows[0].std(axis=0),
    'action_mean': rows[1].mean(axis=0),
    'action_std': rows[1].std(axis=0),
    'change_mean': changes.mean(axis=0),
    'change_std': changes.std(axis=0),
    'change_low': changes.min(axis=0),
    'change_high': changes.max(axis=0),
  }
  for name, value in expected.items():
    np.testing.assert_allclose(
      getattr(got, name), value, rtol=1e-4, atol=1e-5, err_msg=name
    )


def test_what_never_varies_has_the_least_standard_deviation():
  transitions = random_transitions(1000)
  constant = jax.tree.map(lambda x: x.at[:, 0].set(0.3), transitions)
  got = normaliser_of(constant, jnp.ones(1000, bool), min_std=1e-3)
  for name in ('observation', 'action', 'change'):
    assert getattr(got, f'{name}_std')[0] == jnp.float32(1e-3)
  for name in ('observation_mean', 'action_mean'):
    np.testing.assert_allclose(getattr(got, name)[0], 0.3, rtol=1e-6)
  with pytest.raises(InputError, match='min_std'):
    normaliser_of(constant, jnp.ones(1000, bool), min_std=0.0)


def test_without_a_valid_row_nothing_is_scaled():
  got = normaliser_of(random_transitions(5), jnp.zeros(5, bool))
  unit = unit_normaliser(3, 2)
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(unit), strict=True):
    np.testing.assert_array_equal(a, b)


def test_standardised_changes_are_undone_up_to_the_range_seen():
  transitions = random_transitions(50)
  normaliser = normaliser_of(transitions, jnp.ones(50, bool))
  changes = normaliser.normalised_changes(transitions)
  np.testing.assert_allclose(changes.mean(axis=0), 0.0, atol=1e-4)
  np.testing.assert_allclose(changes.std(axis=0), 1.0, rtol=1e-4)
  np.testing.assert_allclose(
    normaliser.next_observations(transitions.observations, changes),
    transitions.next_observations,
    atol=1e-5,
  )
  beyond = jnp.array([[100.0, -100.0, 0.0]])
  change = normaliser.next_observations(jnp.zeros((1, 3)), beyond)[0]
  expected = [
    normaliser.change_high[0],
    normaliser.change_low[1],
    normaliser.change_mean[2],
  ]
  np.testing.assert_allclose(change, expected, rtol=1e-6)


def test_inputs_of_the_network_leave_the_invariant_elements_out():
  transitions = random_transitions(50)
  normaliser = normaliser_of(transitions, jnp.ones(50, bool))
  observations, actions, _ = (np.asarray(part) for part in transitions)
  whole = np.concatenate(
    [
      (observations - observations.mean(axis=0)) / observations.std(axis=0),
      (actions - actions.mean(axis=0)) / actions.std(axis=0),
    ],
    axis=1,
  )
  for invariant, kept in (((), range(5)), ((1,), [0, 2, 3, 4])):
    inputs = normaliser.normalised_inputs(*transitions[:2], invariant)
    np.testing.assert_allclose(inputs, whole[:, list(kept)], atol=1e-3)


def test_the_error_by_hand():
  transitions = random_transitions(4)
  normaliser = normaliser_of(random_transitions(50), jnp.ones(50, bool))
  predicted = jnp.arange(12.0).reshape(4, 3) / 10.0
  changes = np.asarray(transitions[2] - transitions[0])
  scaled = changes - np.asarray(normaliser.change_mean)[None]
  scaled /= np.asarray(normaliser.change_std)[None]
  np.testing.assert_allclose(
    mean_squared_error(normaliser, predicted, transitions),
    np.mean((predicted - scaled) ** 2),
    rtol=1e-5,
  )


@pytest.mark.parametrize('num_seen', [0, 1, 3, 4, 5, 9, 12])
def test_the_window_holds_the_last_transitions_in_order(num_seen):
  transitions = random_transitions(12)
  window = empty_window(4, 3, 2)
  push = jax.jit(lambda window, transition: window.push(transition))
  for t in range(num_seen):
    window = push(window, jax.tree.map(lambda x, t=t: x[t], transitions))
  count = min(num_seen, 4)
  assert window.count == count
  assert window.is_full() == (num_seen >= 4)
  for held, every in zip(window.transitions, transitions, strict=True):
    assert held.shape[0] == 4
    np.testing.assert_array_equal(
      held[4 - count :], every[num_seen - count : num_seen]
    )


@pytest.mark.parametrize(
  ('name', 'sizes'),
  [
    ('observation_size', (0, 2, ())),
    ('action_size', (3, 0, ())),
    ('invariant', (3, 2, (3,))),
    ('invariant', (3, 2, (-1,))),
    ('invariant', (3, 2, (1, 1))),
  ],
)
def test_wrong_sizes_are_named(name, sizes):
  with pytest.raises(InputError, match=name):
    check_sizes(*sizes)
