"""metajax: meta-learning for robots, in JAX.

The names a user types first. The rest lives in the rooms: `core`, `nets`,
`rl`, `tasks`, `envs`, `learners`, `run`, `testing`.
"""

from metajax.core.adaptation import gradient_adapt
from metajax.core.algorithm import Algorithm
from metajax.core.learner import Episode, Examples, Learner, TaskFamily
from metajax.core.meta_training import meta_train
from metajax.core.selection import select_best
from metajax.core.sharding import shard
from metajax.core.sweeps import sweep

__version__ = '0.1.0'

__all__ = [
  'Algorithm',
  'Episode',
  'Examples',
  'Learner',
  'TaskFamily',
  'gradient_adapt',
  'meta_train',
  'select_best',
  'shard',
  'sweep',
]
