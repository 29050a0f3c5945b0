"""Families of tasks so small that their optimum is known."""

from typing import NamedTuple

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from metajax.core.learner import Episode, Examples, TaskFamily
from metajax.core.validation import check_count, check_range
from metajax.envs.environment import Env, EnvSpec, EnvState


class LinearProbe(NamedTuple):
  """A few linear regressions, each drawn with the same probability.

  Task i has the targets `y = [x, 1] c_i` of its own weights c_i, at inputs of
  its own. For a model that is linear in w = (kernel, bias), the mean squared
  error of task i is

    L_i(w) = 1/2 (w - c_i)^T H_i (w - c_i),  H_i = 2/K [X, 1]^T [X, 1]

  Attributes:
    tasks: the family; episodes hold `Examples` of `[shots, size]` inputs and
      `[shots, 1]` targets.
    weights: [tasks, size + 1] float64, c.
    support_hessians: [tasks, size + 1, size + 1] float64, H of the support.
    query_hessians: [tasks, size + 1, size + 1] float64, H of the query.
  """

  tasks: TaskFamily
  weights: np.ndarray
  support_hessians: np.ndarray
  query_hessians: np.ndarray

  def meta_loss(
    self, weights: np.ndarray, *, inner_lr: float, num_inner_steps: int = 1
  ) -> float:
    """Returns the mean query loss after adaptation from `weights`."""
    shrinks = self._shrinks(inner_lr, num_inner_steps)
    errors = np.einsum('tij,tj->ti', shrinks, weights - self.weights)
    losses = np.einsum('ti,tij,tj->t', errors, self.query_hessians, errors)
    return float(0.5 * np.mean(losses))

  def optimum(
    self,
    *,
    inner_lr: float,
    num_inner_steps: int = 1,
    first_order: bool = False,
  ) -> np.ndarray:
    """Returns the weights that MAML converges to, in float64.

    k inner steps shrink the error w - c_i by P_i = (I - alpha H_i)^k, so that
    the meta-gradient sum_i P_i^T H'_i P_i (w - c_i), H' of the query, is zero
    at one point. First order leaves P_i^T out and ends elsewhere.

    Args:
      inner_lr: alpha.
      num_inner_steps: k; with 0, the optimum of pretraining on all tasks.
      first_order: where first-order MAML ends instead.

    Returns:
      [size + 1] float64, the kernel and then the bias.
    """
    shrinks = self._shrinks(inner_lr, num_inner_steps)
    pulls = np.einsum('tij,tjk->tik', self.query_hessians, shrinks)
    if not first_order:
      pulls = np.einsum('tji,tjk->tik', shrinks, pulls)
    return np.linalg.solve(
      pulls.sum(axis=0), np.einsum('tij,tj->i', pulls, self.weights)
    )

  def _shrinks(self, inner_lr, num_inner_steps):
    one = np.eye(self.weights.shape[-1]) - inner_lr * self.support_hessians
    return np.stack(
      [np.linalg.matrix_power(matrix, num_inner_steps) for matrix in one]
    )


def linear_regressions(
  *,
  num_tasks: int = 3,
  shots: int = 6,
  input_size: int = 2,
  seed: int = 0,
) -> LinearProbe:
  """Returns linear regressions whose meta-learned optimum is known.

  >>> probe = linear_regressions()
  >>> probe.optimum(inner_lr=0.1).shape
  (3,)

  Args:
    num_tasks: tasks, >= 2.
    shots: support points of a task, and query points, >= 1.
    input_size: length of an input, >= 1.
    seed: seed of the tasks.

  Returns:
    The probe.

  Raises:
    InputError: for a count that is too small.
  """
  check_count('num_tasks', num_tasks, minimum=2)
  check_count('shots', shots)
  check_count('input_size', input_size)
  check_count('seed', seed, minimum=0)
  generator = np.random.default_rng(seed)
  weights = generator.normal(size=(num_tasks, input_size + 1))
  # Inputs of unlike size make the tasks' curvatures differ, without which
  # adaptation would not move the optimum.
  spread = np.linspace(0.3, 1.5, num_tasks)[:, None, None, None]
  inputs = spread * generator.normal(size=(num_tasks, 2, shots, input_size))
  design = np.concatenate([inputs, np.ones_like(inputs[..., :1])], axis=-1)
  targets = np.einsum('tski,ti->tsk', design, weights)[..., None]
  hessians = 2.0 / shots * np.einsum('tski,tskj->tsij', design, design)

  def sample(data, key):
    index = jax.random.randint(key, (), 0, num_tasks)
    support, query = (
      Examples(data.inputs[index, part], data.targets[index, part])
      for part in (0, 1)
    )
    return Episode(task=index, support=support, query=query)

  data = Examples(
    jnp.asarray(inputs, jnp.float32), jnp.asarray(targets, jnp.float32)
  )
  return LinearProbe(
    tasks=TaskFamily(sample, data=data),
    weights=weights,
    support_hessians=hessians[:, 0],
    query_hessians=hessians[:, 1],
  )


@struct.dataclass
class LeverTask:
  """Which way to push."""

  direction: Array  # [] float32, -1 or 1


def lever(*, horizon: int = 5, reward_scale: float = 1.0) -> Env:
  """Builds a lever to be pushed to an unseen side: a bandit.

  The observation is always 1, and the reward is `direction * a`, the action
  clipped to [-1, 1]. Whoever knows the direction earns `horizon` an episode;
  whoever cannot find it out earns 0 on average over tasks.

  Args:
    horizon: pushes in an episode, >= 1.
    reward_scale: what a full push to the right side earns, in [0, 1].

  Returns:
    The environment; its tasks are `LeverTask`.

  Raises:
    InputError: if an argument is out of its range.
  """
  check_count('horizon', horizon)
  check_range('reward_scale', reward_scale, minimum=0.0, maximum=1.0)

  def sample_task(key: Array) -> LeverTask:
    return LeverTask(direction=jax.random.rademacher(key, (), jnp.float32))

  def reset(task: LeverTask, key: Array) -> EnvState:
    del key  # nothing is random in a reset
    return EnvState(
      task=task,
      physics=(),
      observation=jnp.ones((1,)),
      reward=jnp.zeros(()),
      done=jnp.zeros((), bool),
    )

  def step(state: EnvState, action: Array) -> EnvState:
    push = jnp.clip(action[0], -1.0, 1.0)
    return EnvState(
      task=state.task,
      physics=state.physics,
      observation=state.observation,
      reward=reward_scale * state.task.direction * push,
      done=state.done,
    )

  return Env(
    spec=EnvSpec(
      name='lever',
      observation_size=1,
      action_size=1,
      horizon=horizon,
      control_period_s=0.0,
    ),
    sample_task=sample_task,
    reset=reset,
    step=step,
  )
