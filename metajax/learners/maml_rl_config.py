"""The settings of MAML-RL and of what it is compared with."""

from flax import struct

from metajax.core.validation import (
  check_choice,
  check_count,
  check_positive,
  check_range,
)
from metajax.envs.engines import ENGINES

# How much data a batch of rollouts holds: a number of episodes, whatever
# their length, or of steps, with a fresh episode wherever one ends early.
BUDGETS = ('episodes', 'steps')
# What an inner update changes: all of the policy, or its context alone.
ADAPTS = ('all', 'context')
OUTER_OPTIMIZERS = ('trust_region', 'ppo')


@struct.dataclass
class MamlRlConfig:
  """Settings of MAML-RL; the defaults are those of 2-D navigation.

  Floats are leaves and may be swept; the rest is static.
  """

  inner_lr: float = 0.1  # alpha; where it is learned, what it starts from
  num_inner_steps: int = struct.field(pytree_node=False, default=1)
  first_order: bool = struct.field(pytree_node=False, default=False)
  # One alpha for every leaf and inner step, learned with theta.
  learn_inner_lr: bool = struct.field(pytree_node=False, default=False)
  # 'context': the policy also sees free numbers, and adapts them alone.
  adapts: str = struct.field(pytree_node=False, default='all')
  context_size: int = struct.field(pytree_node=False, default=5)
  discount: float = 0.99
  gae_lambda: float = 1.0
  meta_batch_size: int = struct.field(pytree_node=False, default=20)
  num_rollouts: int = struct.field(pytree_node=False, default=20)
  # 'episodes': num_rollouts episodes. 'steps': num_rollouts * horizon steps,
  # with a fresh episode wherever one ends early.
  budget: str = struct.field(pytree_node=False, default='steps')
  # Tasks whose rollouts, and whose part of the outer step, are computed at
  # once, which bounds the memory. None: the rollouts of all, and the outer
  # step as `metajax.core.sharding.map_tasks` does. A number that divides that
  # of the tasks keeps one simulator in the program.
  task_chunk_size: int | None = struct.field(pytree_node=False, default=None)
  hidden_sizes: tuple[int, ...] = struct.field(
    pytree_node=False, default=(100, 100)
  )
  # Engine of environments that simulate a body (`metajax.envs.engines`).
  physics: str = struct.field(pytree_node=False, default='mjx')
  outer_optimizer: str = struct.field(pytree_node=False, default='trust_region')
  # The trust region.
  max_kl: float = 0.01  # delta of the outer step, nats
  damping: float = 1e-5
  backtrack_ratio: float = 0.8
  conjugate_gradient_steps: int = struct.field(pytree_node=False, default=10)
  max_backtracks: int = struct.field(pytree_node=False, default=15)
  # PPO: epochs of Adam over the meta-batch.
  outer_lr: float = 1e-3
  ppo_clip: float = 0.2
  ppo_epochs: int = struct.field(pytree_node=False, default=5)
  # Meta-test: the step size is scaled from the second update on. Learned step
  # sizes serve the updates they were learned for; beyond, the last is scaled.
  test_inner_lr: float = 0.1
  test_inner_lr_decay: float = 0.5
  num_test_steps: int = struct.field(pytree_node=False, default=3)
  num_test_tasks: int = struct.field(pytree_node=False, default=40)
  num_test_rollouts: int = struct.field(pytree_node=False, default=40)
  # The baselines: rollouts of a pretraining iteration, each of another task,
  # and the step sizes that the baselines are fine-tuned with.
  num_pretraining_rollouts: int = struct.field(pytree_node=False, default=100)
  pretrained_inner_lr: float = 0.2
  random_inner_lr: float = 0.5


def check_config(config: MamlRlConfig) -> None:
  """Checks every setting.

  Raises:
    InputError: for the first that is out of range.
  """
  for name in (
    'inner_lr',
    'max_kl',
    'damping',
    'outer_lr',
    'ppo_clip',
    'test_inner_lr',
    'test_inner_lr_decay',
    'pretrained_inner_lr',
    'random_inner_lr',
  ):
    check_positive(name, getattr(config, name))
  for name in ('discount', 'gae_lambda', 'backtrack_ratio'):
    check_range(name, getattr(config, name), minimum=0.0, maximum=1.0)
  for name in (
    'meta_batch_size',
    'num_rollouts',
    'num_inner_steps',
    'num_test_rollouts',
    'conjugate_gradient_steps',
    'max_backtracks',
    'num_pretraining_rollouts',
    'context_size',
    'ppo_epochs',
  ):
    check_count(name, getattr(config, name))
  check_count('num_test_tasks', config.num_test_tasks, minimum=2)
  check_count('num_test_steps', config.num_test_steps, minimum=0)
  check_choice('budget', config.budget, BUDGETS)
  check_choice('adapts', config.adapts, ADAPTS)
  check_choice('outer_optimizer', config.outer_optimizer, OUTER_OPTIMIZERS)
  check_choice('physics', config.physics, tuple(ENGINES))
  for size in config.hidden_sizes:
    check_count('hidden_sizes', size)
  if config.task_chunk_size is not None:
    check_count('task_chunk_size', config.task_chunk_size)
