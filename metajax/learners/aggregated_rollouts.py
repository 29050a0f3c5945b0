"""Rollouts that are kept as they are collected, to learn dynamics from."""

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp

from metajax.core.learner import Episode
from metajax.core.validation import InputError, check_count
from metajax.envs.rollout import Trajectory
from metajax.learners.transitions import (
  Normaliser,
  Transitions,
  normaliser_of,
)

# Of so many rollouts one is kept for validation.
_VALIDATION_PERIOD = 10


@struct.dataclass
class AggregatedRollouts:
  """All rollouts collected so far, D; when it is full the oldest give way.

  Every tenth is kept for validation. A rollout that ended early (physics that
  diverged) is kept but never drawn.
  """

  observations: Array  # [capacity, steps, observation_size] float32
  actions: Array  # [capacity, steps, action_size] float32, clipped
  is_whole: Array  # [capacity] bool, collected, and no step of it failed
  num_rollouts: Array  # [] int32, collected so far

  def add(
    self, rollouts: Trajectory, action_limit: float
  ) -> 'AggregatedRollouts':
    """Returns the data with more rollouts.

    Args:
      rollouts: `[rollouts, steps]`, no more than the capacity.
      action_limit: what the environment clips actions to.
    """
    capacity, number = self.is_whole.shape[0], rollouts.valid.shape[0]
    places = (self.num_rollouts + jnp.arange(number)) % capacity
    actions = jnp.clip(rollouts.actions, -action_limit, action_limit)
    return AggregatedRollouts(
      observations=self.observations.at[places].set(rollouts.observations),
      actions=self.actions.at[places].set(actions),
      is_whole=self.is_whole.at[places].set(jnp.all(rollouts.valid, axis=1)),
      num_rollouts=self.num_rollouts + number,
    )

  @property
  def is_for_validation(self) -> Array:
    """[capacity] bool, which rollouts are not trained on."""
    return jnp.arange(self.is_whole.shape[0]) % _VALIDATION_PERIOD == 0

  @property
  def num_training_steps(self) -> Array:
    """[] int32, transitions that are trained on."""
    number = jnp.sum(self.is_whole & ~self.is_for_validation)
    return number * (self.observations.shape[1] - 1)

  def normaliser(self) -> Normaliser:
    """Returns the statistics of what is trained on."""
    transitions = transitions_of(self.observations, self.actions)
    used = self.is_whole & ~self.is_for_validation
    valid = jnp.broadcast_to(used[:, None], transitions.actions.shape[:2])
    return normaliser_of(transitions, valid)

  def sample_window(
    self, key: Array, past: int, future: int, *, validation: bool = False
  ) -> Episode:
    """Draws one moment of one rollout, which is a task.

    Args:
      key: the key.
      past: M, transitions up to that moment.
      future: K, transitions from it on.
      validation: whether to draw from the rollouts kept for it.

    Returns:
      The episode: M transitions to adapt to, and the K that follow.
    """
    rollout_key, time_key = jax.random.split(key)
    drawn = self.is_whole & (self.is_for_validation == validation)
    logits = jnp.where(drawn, 0.0, -jnp.inf)
    # Of nothing, anything: the first rollouts may all have failed.
    logits = jnp.where(jnp.any(drawn), logits, jnp.zeros_like(logits))
    rollout = jax.random.categorical(rollout_key, logits)
    length = past + future
    num_steps = self.observations.shape[1]
    start = jax.random.randint(time_key, (), 0, num_steps - length)
    observations = jax.lax.dynamic_slice(
      self.observations,
      (rollout, start, 0),
      (1, length + 1, self.observations.shape[2]),
    )[0]
    actions = jax.lax.dynamic_slice(
      self.actions, (rollout, start, 0), (1, length, self.actions.shape[2])
    )[0]
    window = Transitions(observations[:-1], actions, observations[1:])
    return Episode(
      task=(),
      support=jax.tree.map(lambda x: x[:past], window),
      query=jax.tree.map(lambda x: x[past:], window),
    )


def no_rollouts(
  capacity: int, num_steps: int, observation_size: int, action_size: int
) -> AggregatedRollouts:
  """Returns the data before anything is collected.

  Raises:
    InputError: for a size that is not a count.
  """
  for name, size in (('capacity', capacity), ('num_steps', num_steps)):
    check_count(name, size)
  return AggregatedRollouts(
    observations=jnp.zeros((capacity, num_steps, observation_size)),
    actions=jnp.zeros((capacity, num_steps, action_size)),
    is_whole=jnp.zeros((capacity,), bool),
    num_rollouts=jnp.zeros((), jnp.int32),
  )


def transitions_of(observations: Array, actions: Array) -> Transitions:
  """Pairs each observation with the next; the last step has none.

  Args:
    observations: [..., steps, observation_size].
    actions: [..., steps, action_size].

  Returns:
    Transitions `[..., steps - 1]`.
  """
  return Transitions(
    observations=observations[..., :-1, :],
    actions=actions[..., :-1, :],
    next_observations=observations[..., 1:, :],
  )


def consecutive_windows(
  observations: Array, actions: Array, past: int, future: int
) -> tuple[Transitions, Transitions]:
  """Cuts ONE rollout into windows, one after another in their futures.

  Args:
    observations: [steps, observation_size].
    actions: [steps, action_size].
    past: M.
    future: K.

  Returns:
    The pasts `[windows, M]` and the futures `[windows, K]`.

  Raises:
    InputError: if the rollout is too short for one window.
  """
  transitions = transitions_of(observations, actions)
  num_windows = (transitions.actions.shape[0] - past) // future
  if num_windows < 1:
    raise InputError(
      f'horizon: expected more than {past + future} steps for one window, got'
      f' {observations.shape[0]}'
    )
  starts = jnp.arange(num_windows) * future
  rows = starts[:, None] + jnp.arange(past + future)[None]
  windows = jax.tree.map(lambda x: x[rows], transitions)
  return (
    jax.tree.map(lambda x: x[:, :past], windows),
    jax.tree.map(lambda x: x[:, past:], windows),
  )
