"""The half-cheetah on floating blocks: how they are damped is the task."""

from collections.abc import Mapping
import dataclasses

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp

from metajax.core.validation import check_count
from metajax.envs.environment import Env
from metajax.envs.locomotion.bodies import half_cheetah_body
from metajax.envs.locomotion.forward_running import forward_running_env
from metajax.envs.physics import ModelFields, field_of

NUM_BLOCKS = 8
_MAX_DAMPING = 10.0  # N s/m
# One draw from the training distribution (NumPy's default_rng(0)), fixed.
TEST_DAMPING = (6.37, 2.70, 0.41, 0.17, 8.13, 9.13, 6.07, 7.29)


@struct.dataclass
class PierTask:
  """The blocks to run on."""

  damping: Array  # [8] float32, N s/m, from the hindmost block on
  # Arrays of the model by name, of this task alone; {}: the model as it is.
  model_fields: Mapping[str, Array] = dataclasses.field(default_factory=dict)


def half_cheetah_pier(horizon: int = 1000, *, physics: str = 'mjx') -> Env:
  """Builds the half-cheetah on a pier of floating blocks (Finn 2018, 5.5).

  It is to run forward: with `x` the forward coordinate of the centre of mass
  and `a` the action, clipped to [-1, 1],

    `r = (x_{t+1} - x_t) / 0.01 - 0.05 ||a||^2`

  Eight blocks in a row sink on springs under the robot's weight and rise
  behind it, each with a damping of its own from U(0, 10) N s/m, so that the
  ground changes with every block. The held-out task is one fixed draw,
  `TEST_DAMPING`. The robot weighs 2.9 kg here, as released with the work
  (Clavera et al. 2019).

  Control and physics run at 100 Hz; an episode never ends before its horizon.
  It starts in the standing pose with noise N(0, 0.01^2) on positions and
  N(0, 0.1^2) on velocities, the blocks level and at rest. The observation [20]
  is the robot's positions without x (8: m, then rad), its velocities (9), its
  centre of mass (3, m). Where the blocks are, and how fast, is hidden.

  Metrics: `forward_velocity_m_per_s`, `forward_position_m`.

  Args:
    horizon: control steps in an episode.
    physics: name of the engine, `mjx` or `c`.

  Returns:
    The environment; its tasks are `PierTask`.

  Raises:
    InputError: if an argument is out of its range.
  """
  check_count('horizon', horizon)
  body = half_cheetah_body(physics, 'half_cheetah_pier.xml')
  dofs = jnp.array(
    [int(body.model.joint(f'block_{i}').dofadr[0]) for i in range(NUM_BLOCKS)]
  )

  def fields_of(task: PierTask) -> ModelFields:
    damping = field_of(body.world, 'dof_damping', task.model_fields)
    damping = damping.at[dofs].set(task.damping)
    return {**task.model_fields, 'dof_damping': damping}

  def sample_task(key: Array) -> PierTask:
    return PierTask(
      damping=jax.random.uniform(key, (NUM_BLOCKS,), maxval=_MAX_DAMPING)
    )

  def sample_test_task(key: Array) -> PierTask:
    del key
    return PierTask(damping=jnp.array(TEST_DAMPING, jnp.float32))

  return forward_running_env(
    body,
    'half_cheetah_pier',
    horizon,
    sample_task,
    sample_test_task,
    lambda task, time: (jnp.ones(()), fields_of(task)),
  )
