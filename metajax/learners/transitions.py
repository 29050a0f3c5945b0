"""Transitions of an episode: their statistics, and the last few of them."""

from collections.abc import Sequence
from typing import NamedTuple

import chex
from flax import struct
import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from metajax.core.validation import check_count, check_positive, reject


class Transitions(NamedTuple):
  """Consecutive steps of ONE episode, in the order of time.

  Attributes:
    observations: [steps, observation_size] float32, s_t.
    actions: [steps, action_size] float32, a_t, as they acted: clipped.
    next_observations: [steps, observation_size] float32, s_{t+1}.
  """

  observations: Array
  actions: Array
  next_observations: Array


@struct.dataclass
class Normaliser:
  """Statistics with which a network sees transitions, each in its own unit.

  They are part of a dynamics model's parameters and never trained: their
  gradient is zero. Compute them anew when data are added, and leave them out
  of a decay of weights.
  """

  observation_mean: Array  # [observation_size] float32
  observation_std: Array  # [observation_size] float32, > 0
  action_mean: Array  # [action_size] float32
  action_std: Array  # [action_size] float32, > 0
  change_mean: Array  # [observation_size] float32, of s_{t+1} - s_t
  change_std: Array  # [observation_size] float32, > 0
  change_low: Array  # [observation_size] float32, the smallest change seen
  change_high: Array  # [observation_size] float32, the largest change seen

  def normalised_inputs(
    self,
    observations: Array,
    actions: Array,
    invariant: Sequence[int] = (),
  ) -> Array:
    """Returns what a network sees of observations and actions.

    Args:
      observations: [..., observation_size] float32.
      actions: [..., action_size] float32.
      invariant: elements of the observation that are left out.

    Returns:
      [..., observation_size - len(invariant) + action_size] float32.
    """
    seen = np.delete(np.arange(observations.shape[-1]), list(invariant))
    observations = _standardise(
      observations, self.observation_mean, self.observation_std
    )
    actions = _standardise(actions, self.action_mean, self.action_std)
    return jnp.concatenate([observations[..., seen], actions], axis=-1)

  def normalised_changes(self, transitions: Transitions) -> Array:
    """Returns s_{t+1} - s_t `[..., observation_size]`, standardised."""
    changes = transitions.next_observations - transitions.observations
    return _standardise(changes, self.change_mean, self.change_std)

  def next_observations(
    self, observations: Array, normalised_changes: Array
  ) -> Array:
    """Applies predicted changes, clipped to the range of those seen.

    Args:
      observations: [..., observation_size] float32.
      normalised_changes: the same shape, standardised.

    Returns:
      The same shape, in the units of the observations.
    """
    changes = normalised_changes * _rows(self.change_std, observations)
    changes += _rows(self.change_mean, observations)
    return observations + jnp.clip(
      changes,
      _rows(self.change_low, observations),
      _rows(self.change_high, observations),
    )


def normaliser_of(
  transitions: Transitions, valid: Array, *, min_std: float = 1e-4
) -> Normaliser:
  """Computes the statistics of transitions that were seen.

  Args:
    transitions: with any axes in front of the last.
    valid: [...] bool, the same axes; what is not valid counts for nothing and
      need not be finite. Without a valid row the statistics are those of
      `unit_normaliser`.
    min_std: lower bound of the standard deviations, > 0 in the units of each
      element, so that one that never varies stays near zero.

  Returns:
    The statistics; standard deviations are those of the population.

  Raises:
    InputError: if `min_std` is not positive.
  """
  check_positive('min_std', min_std)
  chex.assert_equal_shape_prefix((*transitions, valid), valid.ndim)
  observation_size = transitions.observations.shape[-1]
  action_size = transitions.actions.shape[-1]
  changes = transitions.next_observations - transitions.observations
  observation_mean, observation_std = _moments(transitions.observations, valid)
  action_mean, action_std = _moments(transitions.actions, valid)
  change_mean, change_std = _moments(changes, valid)
  axes = tuple(range(valid.ndim))
  seen = jnp.broadcast_to(valid[..., None], changes.shape)
  found = Normaliser(
    observation_mean=observation_mean,
    observation_std=jnp.maximum(observation_std, min_std),
    action_mean=action_mean,
    action_std=jnp.maximum(action_std, min_std),
    change_mean=change_mean,
    change_std=jnp.maximum(change_std, min_std),
    change_low=jnp.min(changes, axes, initial=jnp.inf, where=seen),
    change_high=jnp.max(changes, axes, initial=-jnp.inf, where=seen),
  )
  return jax.tree.map(
    lambda leaf, unit: jnp.where(jnp.any(valid), leaf, unit),
    found,
    unit_normaliser(observation_size, action_size),
  )


def mean_squared_error(
  normaliser: Normaliser, predicted: Array, transitions: Transitions
) -> Array:
  """Returns the mean squared error of standardised changes, [] float32.

  Args:
    normaliser: the statistics.
    predicted: [steps, observation_size] float32, standardised changes.
    transitions: [steps] transitions.
  """
  changes = normaliser.normalised_changes(transitions)
  chex.assert_equal_shape([predicted, changes])
  return jnp.mean(jnp.square(predicted - changes))


def check_sizes(
  observation_size: int, action_size: int, invariant: Sequence[int]
) -> None:
  """Checks the sizes that a dynamics model is made of.

  Raises:
    InputError: for a size that is no count, or elements that an observation
      does not have or that are named twice.
  """
  check_count('observation_size', observation_size)
  check_count('action_size', action_size)
  if not set(invariant) <= set(range(observation_size)):
    raise reject('invariant', f'elements below {observation_size}', invariant)
  if len(set(invariant)) < len(invariant):
    raise reject('invariant', 'every element once', invariant)


def unit_normaliser(observation_size: int, action_size: int) -> Normaliser:
  """Returns the statistics that leave all as it is: no scale, no range."""
  largest = jnp.finfo(jnp.float32).max
  return Normaliser(
    observation_mean=jnp.zeros((observation_size,)),
    observation_std=jnp.ones((observation_size,)),
    action_mean=jnp.zeros((action_size,)),
    action_std=jnp.ones((action_size,)),
    change_mean=jnp.zeros((observation_size,)),
    change_std=jnp.ones((observation_size,)),
    change_low=jnp.full((observation_size,), -largest),
    change_high=jnp.full((observation_size,), largest),
  )


@struct.dataclass
class Window:
  """The last transitions of an episode that is under way."""

  transitions: Transitions  # [size, ...], oldest first, the newest last
  count: Array  # [] int32, how many are real: the last `count`, up to size

  def is_full(self) -> Array:
    """Returns [] bool, whether as many were seen as the window holds."""
    return self.count >= self.transitions.actions.shape[0]

  def push(self, transition: Transitions) -> 'Window':
    """Returns the window one step later; the oldest transition leaves it.

    Args:
      transition: the newest one, without the axis of steps.
    """
    # So short a window is moved along sooner than its ring put in order.
    moved = jax.tree.map(
      lambda old, new: jnp.concatenate([old[1:], new[None]]),
      self.transitions,
      transition,
    )
    size = self.transitions.actions.shape[0]
    return Window(moved, jnp.minimum(self.count + 1, size))


def empty_window(size: int, observation_size: int, action_size: int) -> Window:
  """Returns the window that an episode begins with: zeros, none of them real.

  Args:
    size: transitions that it holds.
    observation_size: length of an observation.
    action_size: length of an action.
  """
  transitions = Transitions(
    observations=jnp.zeros((size, observation_size)),
    actions=jnp.zeros((size, action_size)),
    next_observations=jnp.zeros((size, observation_size)),
  )
  return Window(transitions, jnp.zeros((), jnp.int32))


def _moments(values: Array, valid: Array) -> tuple[Array, Array]:
  """Returns mean and standard deviation over the valid rows."""
  axes = tuple(range(valid.ndim))
  count = jnp.maximum(jnp.sum(valid), 1)

  def mean_of(values):
    return jnp.sum(jnp.where(valid[..., None], values, 0.0), axes) / count

  mean = mean_of(values)
  return mean, jnp.sqrt(mean_of(jnp.square(values - _rows(mean, values))))


def _standardise(values: Array, mean: Array, std: Array) -> Array:
  return (values - _rows(mean, values)) / _rows(std, values)


def _rows(statistic: Array, like: Array) -> Array:
  """Repeats a statistic `[size]` along the axes in front of `like`."""
  return jnp.broadcast_to(statistic, like.shape)
