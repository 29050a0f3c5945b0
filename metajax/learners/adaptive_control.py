"""Online adaptive control: meta-trained dynamics models that plan and adapt.

Sources: Finn, "Learning to Learn with Gradients" (2018), chapter 5; Nagabandi,
Clavera et al., "Learning to Adapt in Dynamic, Real-World Environments through
Meta-Reinforcement Learning" (2019), algorithm 1. One iteration of
meta-training:

  D      <- D + rollouts of the adaptive controller in sampled environments
            (of random actions in the first iteration)
  theta  <- Adam on  mean over windows of D of  L(tau(t, t+K-1), phi),
            phi = u(tau(t-M, t-1), theta), for some epochs       (equation 15)

Which update rule u stands inside is the dynamics model's: gradient steps make
it GBAC, a hidden state RBAC, none the plain model-based controller.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp
import optax

from metajax.core.algorithm import SKIPPED, Algorithm
from metajax.core.learner import Params, TaskFamily
from metajax.core.meta_training import MetaTrainState, meta_train
from metajax.core.sharding import map_simulations
from metajax.core.validation import InputError
from metajax.envs.environment import Env, Task
from metajax.envs.rollout import Trajectory, episode_return, rollout
from metajax.learners.adaptive_control_config import (
  AdaptiveControlConfig,
  Fitting,
  check_config,
)
from metajax.learners.aggregated_rollouts import (
  AggregatedRollouts,
  consecutive_windows,
  no_rollouts,
)
from metajax.learners.dynamics import DynamicsModel, model_errors
from metajax.learners.predictive_control import (
  Planning,
  predictive_controller,
)

# The tasks of each condition that is tested in: name to `(key) -> task`.
Conditions = Mapping[str, Callable[[Array], Task]]

# In the futures of the windows that are validated on.
_NUM_VALIDATION_TRANSITIONS = 2048
_PERSISTENCE = 0.99  # of the running validation loss that ends training


@struct.dataclass
class AdaptiveControlState:
  """All that a resume needs."""

  training: MetaTrainState  # theta with its normaliser, and Adam's state
  rollouts: AggregatedRollouts  # D
  iteration: Array  # [] int32

  @property
  def params(self) -> Params:
    """Theta and the normaliser, what a controller needs."""
    return self.training.params


def adaptive_control(
  env: Env,
  model: DynamicsModel,
  config: AdaptiveControlConfig,
  conditions: Conditions,
  *,
  fitting: Fitting | None = None,
  testers: Mapping[str, DynamicsModel] | None = None,
) -> Algorithm:
  """Makes the algorithm that meta-trains a dynamics model under its controller.

  Meta-test runs the controller in every condition and reports, one number a
  rollout: `return/CONDITION`; `error/CONDITION/unadapted` and `.../adapted`,
  the mean error of the model over the rollout's whole windows before and after
  it adapts; `.../log_ratio`, the mean over them of the logarithm of the second
  by the first, which pairs the two and which no single window decides. Of a
  tester the name stands in front.

  Args:
    env: the environment; it tells its reward of observations.
    model: the dynamics model.
    config: the settings.
    conditions: name to `(key) -> task`, the tasks of a condition to be tested
      in: those that the environment trains on, held-out ones, or others.
    fitting: how this model is fitted; None: `config.fitting`.
    testers: name to a dynamics model that takes the same parameters, to be
      meta-tested; None: the one that is trained, under the name ''.

  Returns:
    An `Algorithm` whose state is an `AdaptiveControlState`; one step of it is
    one iteration.

  Raises:
    InputError: for a setting out of range, or an environment whose reward
      observations do not tell.
  """
  check_config(config)
  if env.observed_reward is None:
    raise InputError(
      'env: expected an environment that tells its reward of observations,'
      f' got {env.spec.name}'
    )
  fitting = config.fitting if fitting is None else fitting
  tested = {'': model} if testers is None else testers
  windows = TaskFamily(
    sample=lambda data, key: data.sample_window(
      key, fitting.past, fitting.future
    )
  )
  validation = TaskFamily(
    sample=lambda data, key: data.sample_window(
      key, fitting.past, fitting.future, validation=True
    )
  )
  training = meta_train(
    model.learner,
    windows,
    _outer_optimizer(config),
    meta_batch_size=fitting.meta_batch_size,
    test_tasks=validation,
    num_test_tasks=-(-_NUM_VALIDATION_TRANSITIONS // fitting.future),
  )

  def init(data, key):
    del data
    rollouts = no_rollouts(
      config.max_rollouts,
      env.spec.horizon,
      env.spec.observation_size,
      env.spec.action_size,
    )
    return AdaptiveControlState(
      training=training.init((rollouts, rollouts), key),
      rollouts=rollouts,
      iteration=jnp.zeros((), jnp.int32),
    )

  def step(data, state, key):
    del data
    task_key, episode_key, training_key = jax.random.split(key, 3)
    collected = run_controller(
      env,
      model,
      state.params,
      config.planning,
      jax.vmap(env.sample_task)(
        jax.random.split(task_key, config.num_rollouts)
      ),
      jax.random.split(episode_key, config.num_rollouts),
      explores=state.iteration == 0,
      chunk_size=config.task_chunk_size,
    )
    rollouts = state.rollouts.add(collected, env.spec.action_limit)
    fresh = state.training.replace(
      params={**state.params, 'normaliser': rollouts.normaliser()}
    )
    trained, metrics = fit(training, fitting, rollouts, fresh, training_key)
    return AdaptiveControlState(trained, rollouts, state.iteration + 1), {
      'return': jnp.mean(episode_return(collected)),
      **metrics,
    }

  def evaluate(data, state, key):
    del data
    task_key, episode_key = jax.random.split(key)
    number = config.num_test_tasks
    tasks = sample_conditions(conditions, number, task_key)
    keys = jax.random.split(episode_key, number * len(conditions))
    metrics = {}
    for name, tester in tested.items():
      front = f'{name}/' if name else ''
      rollouts = run_controller(
        env,
        tester,
        state.params,
        config.test_planning,
        tasks,
        keys,
        chunk_size=config.task_chunk_size,
      )
      errors = rollout_errors(tester, state.params, config, rollouts)
      returns = episode_return(rollouts)
      for place, condition in enumerate(conditions):
        own = slice(place * number, (place + 1) * number)
        metrics[f'{front}return/{condition}'] = returns[own]
        own_errors = {when: values[own] for when, values in errors.items()}
        for when, values in own_errors.items():
          mean = jnp.nanmean(values, axis=1)
          metrics[f'{front}error/{condition}/{when}'] = mean
        ratios = jnp.log(own_errors['adapted'] / own_errors['unadapted'])
        mean = jnp.nanmean(ratios, axis=1)
        metrics[f'{front}error/{condition}/log_ratio'] = mean
    return metrics

  return Algorithm(
    data=(),
    init=init,
    step=step,
    evaluate=evaluate,
    holds_physics=env.holds_physics,
  )


def _outer_optimizer(
  config: AdaptiveControlConfig,
) -> optax.GradientTransformation:
  adam = optax.adam(config.outer_lr)
  if config.max_gradient_norm is None:
    return adam
  return optax.chain(optax.clip_by_global_norm(config.max_gradient_norm), adam)


def sample_conditions(conditions: Conditions, number: int, key: Array) -> Task:
  """Draws tasks of every condition.

  Args:
    conditions: name to `(key) -> task`.
    number: tasks of each.
    key: key of all of them.

  Returns:
    Tasks `[conditions * number]`, in the order of the conditions.
  """
  drawn = [
    jax.vmap(sample)(jax.random.split(jax.random.fold_in(key, place), number))
    for place, sample in enumerate(conditions.values())
  ]
  return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *drawn)


def run_controller(
  env: Env,
  model: DynamicsModel,
  params: Params,
  planning: Planning,
  tasks: Task,
  keys: Array,
  *,
  explores: Array | bool = False,
  chunk_size: int | None = None,
) -> Trajectory:
  """Runs the adaptive controller for one episode in each of several tasks.

  Args:
    env: the environment.
    model: the dynamics model.
    params: its parameters; every episode adapts from them.
    planning: sizes of the search.
    tasks: [rollouts] tasks.
    keys: [rollouts] typed keys, one an episode.
    explores: acts at random instead.
    chunk_size: rollouts at once; None: all.

  Returns:
    The rollouts, `[rollouts, horizon]`.
  """
  assert env.observed_reward is not None
  policy, memory = predictive_controller(
    env.spec, env.observed_reward, model, params, planning, explores=explores
  )
  key_impl = jax.random.key_impl(keys)

  def one(task: Task, key_data: Array) -> Trajectory:
    key = jax.random.wrap_key_data(key_data, impl=key_impl)
    return rollout(env, policy, task, key, memory=memory)

  # As raw data, since JAX takes keys that a loop maps over for a mistake.
  data = jax.random.key_data(keys)
  return map_simulations(one, tasks, data, chunk_size=chunk_size)


def rollout_errors(
  model: DynamicsModel,
  params: Params,
  config: AdaptiveControlConfig,
  rollouts: Trajectory,
) -> dict[str, Array]:
  """Returns the model's error along rollouts, before and after it adapts.

  Args:
    model: the dynamics model.
    params: its parameters.
    config: the settings: M and K.
    rollouts: `[rollouts, steps]`.

  Returns:
    `unadapted` and `adapted`, each [rollouts, windows] float32: the mean
    squared error of standardised changes over K transitions, with theta and
    with what M transitions before them made of it. Not-a-number for windows
    that reach past an early end, as of physics that diverged.
  """
  length = config.past + config.future

  def of_rollout(observations, actions, valid):
    pasts, futures = consecutive_windows(
      observations, actions, config.past, config.future
    )
    errors = jax.vmap(
      lambda past, future: model_errors(model, params, past, future)
    )(pasts, futures)
    ends = length + config.future * jnp.arange(pasts.actions.shape[0])
    return {
      when: jnp.where(valid[ends], error, jnp.nan)
      for when, error in errors.items()
    }

  return jax.vmap(of_rollout)(
    rollouts.observations, rollouts.actions, rollouts.valid
  )


def fit(
  training: Algorithm,
  fitting: Fitting,
  rollouts: AggregatedRollouts,
  state: MetaTrainState,
  key: Array,
) -> tuple[MetaTrainState, dict[str, Array]]:
  """Trains on all that was collected, for some epochs.

  It ends early when the running mean of the validation loss begins to rise.

  Args:
    training: the algorithm of `meta_train`; it reads pairs of
      `AggregatedRollouts`.
    fitting: how it is fitted.
    rollouts: the data.
    state: where to begin.
    key: key of all windows.

  Returns:
    The state and the metrics: `meta/loss` of the last epoch,
    `meta/validation_loss`, `meta/epochs`, `meta/skipped` (1 if nothing could be
    learned).
  """
  data = (rollouts, rollouts)
  key, validation_key = jax.random.split(key)
  # The validation windows are the same in every epoch: as raw data, since JAX
  # takes a key that a loop uses again for a mistake.
  key_impl = jax.random.key_impl(key)
  validation_data = jax.random.key_data(validation_key)
  batch = fitting.meta_batch_size * fitting.future
  num_updates = jnp.maximum(rollouts.num_training_steps // batch, 1)

  def epoch(carry: _Epochs) -> _Epochs:
    epoch_key = jax.random.fold_in(key, carry.index)

    def update(i, carry):
      state, loss, skipped = carry
      update_key = jax.random.fold_in(epoch_key, i)
      state, metrics = training.step(data, state, update_key)
      return state, loss + metrics['meta/loss'], skipped + metrics[SKIPPED]

    zero = jnp.zeros(())
    state, loss, skipped = jax.lax.fori_loop(
      0, num_updates, update, (carry.state, zero, zero)
    )
    same_key = jax.random.wrap_key_data(validation_data, impl=key_impl)
    validated = training.evaluate(data, state, same_key)
    validation = jnp.mean(validated['query_loss'])
    is_first = carry.index == 0
    start = jnp.where(is_first, 1.5 * validation, carry.running)
    return _Epochs(
      state=state,
      index=carry.index + 1,
      loss=loss / num_updates,
      validation=validation,
      skipped=skipped / num_updates,
      before=jnp.where(is_first, 2.0 * validation, carry.running),
      running=_PERSISTENCE * start + (1.0 - _PERSISTENCE) * validation,
    )

  def goes_on(carry: _Epochs) -> Array:
    falls = (carry.index == 0) | (carry.running <= carry.before)
    return (carry.index < fitting.num_epochs) & falls

  zero = jnp.zeros(())
  last = jax.lax.while_loop(
    goes_on,
    epoch,
    _Epochs(state, jnp.zeros((), jnp.int32), zero, zero, zero, zero, zero),
  )
  return last.state, {
    'meta/loss': last.loss,
    'meta/validation_loss': last.validation,
    'meta/epochs': last.index.astype(jnp.float32),
    SKIPPED: (last.skipped >= 1.0).astype(jnp.float32),
  }


class _Epochs(NamedTuple):
  """How training stands after some epochs; the running means end it."""

  state: MetaTrainState
  index: Array
  loss: Array
  validation: Array
  skipped: Array
  before: Array
  running: Array
