"""What adaptive control is compared with, beside models that do not adapt.

Source: Finn (2018), section 5.5: a model-free policy on the same data, and the
oracles, which are trained in each test condition and need not generalise.
"""

from collections.abc import Callable

import jax
from jax import Array
import jax.numpy as jnp

from metajax.core.algorithm import SKIPPED, Algorithm
from metajax.core.validation import check_count
from metajax.envs.environment import Env
from metajax.learners.adaptive_control import Conditions
from metajax.learners.adaptive_control_config import AdaptiveControlConfig
from metajax.learners.maml_rl_config import MamlRlConfig
from metajax.learners.policy_baselines import pretrained

_MAX_KL = 0.05  # Finn 2018, tables of chapter 5
_POLICY_SIZES = (64, 64)
# What a condition is called by the algorithm that is made for it alone.
_OWN = 'CONDITION'


def model_free_control(
  env: Env,
  config: AdaptiveControlConfig,
  conditions: Conditions,
  *,
  num_updates: int = 1,
) -> Algorithm:
  """Makes TRPO, one policy for all environments, which does not adapt.

  An iteration collects as many rollouts as one of `adaptive_control` does.

  Args:
    env: the environment to train in.
    config: the settings of what it is compared with.
    conditions: name to `(key) -> task`, what is tested in.
    num_updates: batches and updates in an iteration.

  Returns:
    An `Algorithm` that reports `return/CONDITION`.

  Raises:
    InputError: for a setting out of range.
  """
  check_count('num_updates', num_updates)
  settings = MamlRlConfig(
    max_kl=_MAX_KL,
    hidden_sizes=_POLICY_SIZES,
    budget='episodes',
    num_pretraining_rollouts=config.num_rollouts,
    num_test_steps=0,
    num_test_tasks=config.num_test_tasks,
    num_test_rollouts=1,
    physics=config.physics,
  )
  trained = pretrained(env, settings)

  def step(data, state, key):
    def update(index, carry):
      state, _ = carry
      return trained.step(data, state, jax.random.fold_in(key, index))

    like = jax.eval_shape(trained.step, data, state, key)[1]
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)
    state, metrics = jax.lax.fori_loop(0, num_updates, update, (state, nothing))
    return state, {
      'return': metrics['return/step_0'],
      SKIPPED: metrics[SKIPPED],
    }

  def evaluate(data, state, key):
    def in_condition(index):
      tested = pretrained(_in_condition(env, conditions, index), settings)
      return tested.evaluate(data, state, jax.random.fold_in(key, index))

    returns = jax.lax.map(in_condition, jnp.arange(len(conditions)))
    return {
      f'return/{name}': returns['return/step_0'][place]
      for place, name in enumerate(conditions)
    }

  return trained._replace(step=step, evaluate=evaluate)


def oracles(
  make: Callable[[Env, Conditions], Algorithm],
  env: Env,
  conditions: Conditions,
) -> Algorithm:
  """Makes the oracles: one of its own for every condition that is tested in.

  They are trained one after the other by one program.

  Args:
    make: `(env, conditions) -> Algorithm`, which trains on the tasks of `env`
      and reports of each of the `conditions`.
    env: the environment.
    conditions: name to `(key) -> task`; each is trained and tested in alone.

  Returns:
    An `Algorithm` whose state has a leading axis of conditions. Its metrics are
    the means of theirs; its evaluation is theirs together.
  """

  def one(index: Array) -> Algorithm:
    own = _in_condition(env, conditions, index)
    return make(own, {_OWN: own.sample_task})

  def map_conditions(function, *trees):
    indices = jnp.arange(len(conditions))
    return jax.lax.map(lambda slices: function(*slices), (indices, *trees))

  def keys(key):
    # As raw data, since JAX takes keys that a loop maps over for a mistake.
    split = jax.random.split(key, len(conditions))
    impl = jax.random.key_impl(key)
    return jax.random.key_data(split), lambda data: jax.random.wrap_key_data(
      data, impl=impl
    )

  def init(data, key):
    own, wrap = keys(key)
    return map_conditions(
      lambda index, key: one(index).init(data, wrap(key)), own
    )

  def step(data, state, key):
    own, wrap = keys(key)
    state, metrics = map_conditions(
      lambda index, state, key: one(index).step(data, state, wrap(key)),
      state,
      own,
    )
    means = {name: jnp.mean(values) for name, values in metrics.items()}
    return state, {**means, SKIPPED: jnp.floor(means[SKIPPED])}

  def evaluate(data, state, key):
    own, wrap = keys(key)
    told = map_conditions(
      lambda index, state, key: one(index).evaluate(data, state, wrap(key)),
      state,
      own,
    )
    return {
      metric.replace(_OWN, name): values[place]
      for place, name in enumerate(conditions)
      for metric, values in told.items()
    }

  like = make(env, {_OWN: env.sample_task})
  return Algorithm(
    data=like.data,
    init=init,
    step=step,
    evaluate=evaluate,
    holds_physics=like.holds_physics,
  )


def _in_condition(env: Env, conditions: Conditions, index: Array) -> Env:
  """Returns the environment with the tasks of one condition, by its place."""
  samplers = list(conditions.values())
  return env._replace(
    sample_task=lambda key: jax.lax.switch(index, samplers, key)
  )
