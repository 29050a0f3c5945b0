"""What adaptive control is compared with, beside models that do not adapt.

Source: Finn (2018), section 5.5: a model-free policy on the same data, and the
oracles, which are trained in each test condition and need not generalise.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from metajax.core.algorithm import SKIPPED, Algorithm
from metajax.core.validation import check_count
from metajax.envs.environment import Env
from metajax.learners.adaptive_control_config import AdaptiveControlConfig
from metajax.learners.maml_rl_config import MamlRlConfig
from metajax.learners.policy_baselines import pretrained

_MAX_KL = 0.05  # Finn 2018, tables of chapter 5
_POLICY_SIZES = (64, 64)


def model_free_control(
  env: Env,
  config: AdaptiveControlConfig,
  conditions: Mapping[str, Env],
  *,
  num_updates: int = 1,
) -> Algorithm:
  """Makes TRPO, one policy for all environments, which does not adapt.

  An iteration collects as many rollouts as one of `adaptive_control` does.

  Args:
    env: the environment to train in.
    config: the settings of what it is compared with.
    conditions: name to an environment to be tested in.
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
    returns = {}
    for place, (name, test_env) in enumerate(conditions.items()):
      evaluated = pretrained(test_env, settings).evaluate(
        data, state, jax.random.fold_in(key, place)
      )
      returns[f'return/{name}'] = evaluated['return/step_0']
    return returns

  return trained._replace(step=step, evaluate=evaluate)


def oracle_of_each(
  make: Callable[[Env, Mapping[str, Env]], Algorithm],
  conditions: Mapping[str, Env],
) -> Algorithm:
  """Makes an oracle: an algorithm of its own for every test condition.

  Args:
    make: `(env, conditions) -> Algorithm`, which trains in `env` and reports
      of each of the `conditions`.
    conditions: name to environment; each is trained and tested in alone.

  Returns:
    An `Algorithm` whose state is a dictionary over conditions. Its metrics are
    the means of theirs; its evaluation is theirs together.
  """
  algorithms = {
    name: make(env, {name: env}) for name, env in conditions.items()
  }

  def keys(key):
    return dict(
      zip(algorithms, jax.random.split(key, len(algorithms)), strict=True)
    )

  def init(data, key):
    own = keys(key)
    return {
      name: algorithm.init(data[name], own[name])
      for name, algorithm in algorithms.items()
    }

  def step(data, state, key):
    own = keys(key)
    states, metrics = {}, []
    for name, algorithm in algorithms.items():
      states[name], told = algorithm.step(data[name], state[name], own[name])
      metrics.append(told)
    means = jax.tree.map(lambda *values: jnp.mean(jnp.stack(values)), *metrics)
    return states, {**means, SKIPPED: jnp.floor(means[SKIPPED])}

  def evaluate(data, state, key):
    own = keys(key)
    metrics = {}
    for name, algorithm in algorithms.items():
      metrics |= algorithm.evaluate(data[name], state[name], own[name])
    return metrics

  return Algorithm(
    data={name: algorithm.data for name, algorithm in algorithms.items()},
    init=init,
    step=step,
    evaluate=evaluate,
    holds_physics=any(
      algorithm.holds_physics for algorithm in algorithms.values()
    ),
  )
