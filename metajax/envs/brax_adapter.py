"""Any Brax environment under our contract, with tasks if it is given some."""

from collections.abc import Callable, Iterator
import contextlib
import copy
import dataclasses
import io
from typing import Any
import warnings

import jax
from jax import Array
import jax.numpy as jnp

from metajax.core.validation import InputError, check_count, reject
from metajax.envs.environment import (
  Env,
  EnvSpec,
  EnvState,
  Task,
  checked,
  first_state,
)
from metajax.envs.physics import any_rank


def brax_environment(
  environment: Any,
  horizon: int,
  *,
  backend: str | None = None,
  sample_task: Callable[[Array], Task] | None = None,
  apply_task: Callable[[Any, Task], Any] | None = None,
  reward: Callable[[Any, Task], Array] | None = None,
) -> Env:
  """Adapts a Brax environment (Freeman et al. 2021).

  What it observes, rewards and calls done stays its own; a task may change its
  bodies and the ground (`apply_task`) or what is asked of it (`reward`).

  Motors of another strength in every task:

    def with_strength(sys, task):
      gear = task['strength'] * sys.actuator.gear
      return sys.replace(actuator=sys.actuator.replace(gear=gear))

    env = brax_environment(
      'inverted_pendulum',
      horizon=200,
      backend='spring',
      sample_task=lambda key: {
        'strength': jax.random.uniform(key, minval=0.5, maxval=2.0)
      },
      apply_task=with_strength,
    )

  Args:
    environment: name of one that Brax has (`inverted_pendulum`), or a
      `brax.envs.Env` itself, without wrappers.
    horizon: control steps in an episode.
    backend: Brax's engine, for a name: `spring`, `positional`, `generalized`
      or `mjx`; None: the environment's own choice.
    sample_task: `(key) -> task`, a dictionary or a dataclass of arrays; None:
      one task, `()`.
    apply_task: `(sys, task) -> sys`, Brax's system with this task's own
      numbers, inside `jit`; None: the system as it is.
    reward: `(state, task) -> []`, from Brax's own state, in place of its
      reward.

  Returns:
    The environment. Its `physics` is Brax's state.

  Raises:
    InputError: if Brax has no such environment, or it is wrapped, or its
      observation is not one vector.
  """
  check_count('horizon', horizon)
  original = _find(environment, backend)
  if apply_task is not None and not hasattr(original, 'sys'):
    raise reject('apply_task', 'None, as there is no system', apply_task)
  name = (
    environment if isinstance(environment, str) else type(original).__name__
  )

  def own(task: Task) -> Any:
    """Returns the environment whose system is the task's."""
    if apply_task is None:
      return original
    changed = copy.copy(original)
    changed.sys = apply_task(original.sys, task)
    return changed

  def metrics_of(state: Any) -> dict[str, Array]:
    return {
      key: jnp.asarray(value, jnp.float32)
      for key, value in state.metrics.items()
    }

  @any_rank
  def reset(task: Task, key: Array) -> EnvState:
    # Brax's own code still splits keys of the old form.
    brax_env = own(task)
    with _quiet():
      state = _as_arrays(brax_env.reset(jax.random.key_data(key)))
    return first_state(
      task, state, jnp.asarray(state.obs, jnp.float32), metrics_of(state)
    )

  @any_rank
  def step(state: EnvState, action: Array) -> EnvState:
    brax_env = own(state.task)
    with _quiet():
      following = _as_arrays(
        brax_env.step(state.physics, jnp.clip(action, -1.0, 1.0))
      )
    earned = following.reward
    if reward is not None:
      earned = reward(following, state.task)
    # An environment that only compares its action would hide that it was none.
    earned = jnp.where(jnp.all(jnp.isfinite(action)), earned, jnp.nan)
    return dataclasses.replace(
      state,
      physics=following,
      observation=jnp.asarray(following.obs, jnp.float32),
      reward=jnp.asarray(earned, jnp.float32),
      done=following.done > 0,
      metrics=metrics_of(following),
    )

  def only_task(key: Array) -> Task:
    del key
    return ()

  sample_task = sample_task or only_task
  like = jax.eval_shape(
    lambda key: reset(sample_task(key), key).observation, jax.random.key(0)
  )
  env = Env(
    spec=EnvSpec(
      name=f'brax_{name.lower()}',
      observation_size=like.shape[0],
      action_size=int(original.action_size),
      horizon=horizon,
      control_period_s=_control_period(original),
    ),
    sample_task=sample_task,
    reset=reset,
    step=step,
    holds_physics=True,
  )
  return checked(env)


def _find(environment: Any, backend: str | None) -> Any:
  """Returns the Brax environment, checked."""
  with _quiet():
    from brax import envs
  if isinstance(environment, str):
    options = {} if backend is None else {'backend': backend}
    try:
      with _quiet():
        environment = envs.get_environment(environment, **options)
    except KeyError:
      raise reject(
        'environment', f'one of {", ".join(sorted(envs._envs))}', environment
      ) from None
    except ValueError as error:
      raise InputError(f'backend: {error}') from None
  elif backend is not None:
    raise reject('backend', 'None beside an environment', backend)
  if not isinstance(environment, envs.Env):
    raise reject('environment', 'a name or a brax.envs.Env', environment)
  if isinstance(environment, envs.Wrapper):
    # Resets of its own and clocks would hide from us where episodes end.
    raise reject(
      'environment', 'one without wrappers', type(environment).__name__
    )
  with _quiet():
    shape = jax.eval_shape(
      any_rank(environment.reset), jax.random.PRNGKey(0)
    ).obs
  if not hasattr(shape, 'shape') or len(shape.shape) != 1:
    raise reject('environment', 'one that observes a vector', shape)
  return environment


def _as_arrays(state: Any) -> Any:
  """Makes arrays of the Python numbers that some of Brax's rewards are."""
  return jax.tree.map(jnp.asarray, state)


def _control_period(brax_env: Any) -> float:
  """Returns the seconds between two actions, 0.0 where there is no time."""
  try:
    return round(float(brax_env.dt), 6)  # it is a float32
  except AttributeError:
    return 0.0


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Keeps back what Brax prints, and warns of: that it is not maintained."""
  with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
    warnings.simplefilter('ignore')
    yield
