"""Settings of online adaptive control (`metajax.learners.adaptive_control`)."""

from typing import NamedTuple

from flax import struct

from metajax.core.validation import (
  InputError,
  check_choice,
  check_count,
  check_positive,
)
from metajax.envs.engines import ENGINES
from metajax.learners.predictive_control import (
  PLANNERS,
  Planning,
  check_planning,
)


class Fitting(NamedTuple):
  """How a dynamics model is fitted to all the data in an iteration.

  Attributes:
    past: M, transitions that it adapts to.
    future: K, transitions after them that it is judged on.
    meta_batch_size: windows of M + K transitions in an update.
    num_epochs: passes over the data at most; in one, the futures of the windows
      are as many transitions as the data have.
  """

  past: int
  future: int
  meta_batch_size: int
  num_epochs: int


@struct.dataclass
class AdaptiveControlConfig:
  """Settings of adaptive control; the defaults are the half-cheetah's.

  Floats are leaves and may be swept; the rest is static.
  """

  outer_lr: float = 1e-3  # beta, of Adam
  inner_lr: float = 0.01  # alpha; where it is learned, what it starts from
  # One alpha for every leaf, learned with theta.
  learn_inner_lr: bool = struct.field(pytree_node=False, default=False)
  max_gradient_norm: float | None = None  # of the outer gradient; None: any
  evaluated_inner_lr: float = 0.01  # alpha of dynamic evaluation, MB+DE
  past: int = struct.field(pytree_node=False, default=32)  # M
  future: int = struct.field(pytree_node=False, default=32)  # K
  # Windows of an update; their futures are 500 transitions, the paper's batch.
  meta_batch_size: int = struct.field(pytree_node=False, default=16)
  num_epochs: int = struct.field(pytree_node=False, default=50)
  # RBAC's own K and windows of an update.
  recurrent_future: int = struct.field(pytree_node=False, default=32)
  recurrent_meta_batch_size: int = struct.field(pytree_node=False, default=16)
  # MB's own: single transitions of an update, and epochs.
  fixed_batch_size: int = struct.field(pytree_node=False, default=500)
  fixed_num_epochs: int = struct.field(pytree_node=False, default=50)
  hidden_sizes: tuple[int, ...] = struct.field(
    pytree_node=False, default=(512, 512, 512)
  )
  recurrent_sizes: tuple[int, ...] = struct.field(
    pytree_node=False, default=(256, 256)
  )
  # Collection: rollouts of an iteration, how many of them at once, and how
  # many are kept in all.
  horizon: int = struct.field(pytree_node=False, default=1000)
  num_rollouts: int = struct.field(pytree_node=False, default=64)
  task_chunk_size: int | None = struct.field(pytree_node=False, default=64)
  max_rollouts: int = struct.field(pytree_node=False, default=1024)
  # Planning, in meta-training and at meta-test.
  planner: str = struct.field(pytree_node=False, default='random_shooting')
  num_sequences: int = struct.field(pytree_node=False, default=1000)
  plan_horizon: int = struct.field(pytree_node=False, default=10)
  num_test_sequences: int = struct.field(pytree_node=False, default=2500)
  test_plan_horizon: int = struct.field(pytree_node=False, default=15)
  num_elites: int = struct.field(pytree_node=False, default=50)
  num_plan_iterations: int = struct.field(pytree_node=False, default=3)
  # Rollouts in each of the conditions at meta-test.
  num_test_tasks: int = struct.field(pytree_node=False, default=10)
  # Engine of the environments (`metajax.envs.engines`).
  physics: str = struct.field(pytree_node=False, default='mjx')

  @property
  def fitting(self) -> Fitting:
    """How GBAC is fitted."""
    return Fitting(
      self.past, self.future, self.meta_batch_size, self.num_epochs
    )

  @property
  def recurrent_fitting(self) -> Fitting:
    """How RBAC is fitted."""
    return self.fitting._replace(
      future=self.recurrent_future,
      meta_batch_size=self.recurrent_meta_batch_size,
    )

  @property
  def fixed_fitting(self) -> Fitting:
    """How MB is fitted: to single transitions, each drawn by itself."""
    return Fitting(1, 1, self.fixed_batch_size, self.fixed_num_epochs)

  @property
  def planning(self) -> Planning:
    """The search in meta-training."""
    return Planning(
      self.num_sequences,
      self.plan_horizon,
      self.planner,
      self.num_elites,
      self.num_plan_iterations,
    )

  @property
  def test_planning(self) -> Planning:
    """The search at meta-test."""
    return self.planning._replace(
      num_sequences=self.num_test_sequences, horizon=self.test_plan_horizon
    )


def check_config(config: AdaptiveControlConfig) -> None:
  """Checks every setting.

  Raises:
    InputError: for the first that is out of range.
  """
  for name in ('outer_lr', 'inner_lr', 'evaluated_inner_lr'):
    check_positive(name, getattr(config, name))
  if config.max_gradient_norm is not None:
    check_positive('max_gradient_norm', config.max_gradient_norm)
  for name in (
    'past',
    'future',
    'meta_batch_size',
    'num_epochs',
    'recurrent_future',
    'recurrent_meta_batch_size',
    'fixed_batch_size',
    'fixed_num_epochs',
    'horizon',
    'num_rollouts',
    'max_rollouts',
  ):
    check_count(name, getattr(config, name))
  check_count('num_test_tasks', config.num_test_tasks, minimum=2)
  for name in ('hidden_sizes', 'recurrent_sizes'):
    for size in getattr(config, name):
      check_count(name, size)
  check_choice('planner', config.planner, PLANNERS)
  check_planning(config.planning)
  check_planning(config.test_planning)
  check_choice('physics', config.physics, tuple(ENGINES))
  if config.task_chunk_size is not None:
    check_count('task_chunk_size', config.task_chunk_size)
  if config.num_rollouts > config.max_rollouts:
    raise InputError(
      'max_rollouts: expected at least num_rollouts ='
      f' {config.num_rollouts}, got {config.max_rollouts}'
    )
  if config.num_rollouts < 2:
    raise InputError(
      'num_rollouts: expected >= 2, one of them for validation, got'
      f' {config.num_rollouts}'
    )
  for name in ('future', 'recurrent_future'):
    length = config.past + getattr(config, name)
    if config.horizon <= length:
      raise InputError(
        f'horizon: expected more steps than past + {name} = {length}, got'
        f' {config.horizon}'
      )
