"""Small algorithms with every kind of state, for tests of the host."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.maml_sinusoids import sinusoid_maml
from metajax.core.algorithm import Algorithm
from metajax.envs.navigation import navigation
from metajax.learners.maml import MamlConfig
from metajax.learners.maml_rl import MamlRlConfig, maml_rl

TARGET = np.arange(1.0, 6.0, dtype=np.float32)
_OPTIMIZER = optax.adam(0.02)


def quadratic(width: int = 5) -> Algorithm:
  """Fits noisy targets by Adam; the state holds keys, twins, bfloat16."""

  def init(data, key):
    weights = jax.random.normal(key, (width,))
    return {
      'weights': weights,
      'twin': weights,
      'target': data,
      'optimizer': _OPTIMIZER.init(weights),
      'key': jax.random.key(7),
      'keys': jax.random.split(jax.random.key(8), 2),
      'empty': jnp.zeros((0, 3)),
      'half': jnp.ones((2, 2), jnp.bfloat16),
      'flag': jnp.array(False),
      'weak': 1.0 * jnp.ones(()),
    }

  def step(data, state, key):
    own, fresh = jax.random.split(state['key'])
    noise = jax.random.normal(key, (width,)) + jax.random.normal(own, (width,))

    def loss_of(weights):
      return jnp.sum((weights - data - 0.1 * noise) ** 2)

    loss, gradient = jax.value_and_grad(loss_of)(state['weights'])
    updates, optimizer = _OPTIMIZER.update(gradient, state['optimizer'])
    state = state | {
      'weights': optax.apply_updates(state['weights'], updates),
      'optimizer': optimizer,
      'key': fresh,
      'half': state['half'] + jnp.bfloat16(0.5),
      'flag': ~state['flag'],
    }
    metrics = {'meta/loss': loss, 'meta/skipped': jnp.zeros(())}
    return state, metrics

  def evaluate(data, state, key):
    del key
    return {'query_loss': (state['weights'] - data) ** 2}

  target = np.resize(TARGET, width)
  return Algorithm(target, init, step, evaluate)


def small_sinusoid() -> Algorithm:
  """Returns MAML on sinusoids, small."""
  return sinusoid_maml(
    MamlConfig(meta_batch_size=4, hidden_sizes=(8,), num_test_tasks=4)
  )


def small_navigation() -> Algorithm:
  """Returns MAML-RL on navigation, small."""
  config = MamlRlConfig(
    meta_batch_size=2,
    num_rollouts=2,
    hidden_sizes=(8,),
    num_test_tasks=2,
    num_test_rollouts=2,
  )
  return maml_rl(navigation(horizon=10), config)


def faulty(bad_from: int, bad_until: int = 2**30) -> Algorithm:
  """Counts steps; its update is not finite from one step up to another."""

  def init(data, key):
    del data
    return {'count': jnp.int32(0), 'weights': jax.random.normal(key, (3,))}

  def step(data, state, key):
    del data
    count = state['count']
    is_bad = (count >= bad_from) & (count < bad_until)
    update = jax.random.normal(key, (3,)) + jnp.where(is_bad, jnp.nan, 0.0)
    skipped = ~jnp.all(jnp.isfinite(update))
    weights = jnp.where(skipped, state['weights'], state['weights'] + update)
    loss = jnp.sum(update**2)
    state = state | {'count': count + 1, 'weights': weights}
    return state, {'meta/loss': loss, 'meta/skipped': skipped.astype('float32')}

  def evaluate(data, state, key):
    del data, key
    return {'query_loss': state['weights'] ** 2}

  return Algorithm((), init, step, evaluate)


def columns(*algorithms: Algorithm) -> Algorithm:
  """Stacks algorithms of equal form, as a sweep does."""

  def stack(trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)

  def unstack(tree, index):
    return jax.tree.map(lambda leaf: leaf[index], tree)

  def init(data, key):
    return stack(
      [
        a.init(a.data, jax.random.fold_in(key, i))
        for i, a in enumerate(algorithms)
      ]
    )

  def step(data, state, key):
    done = [
      a.step(a.data, unstack(state, i), jax.random.fold_in(key, i))
      for i, a in enumerate(algorithms)
    ]
    return stack([d[0] for d in done]), stack([d[1] for d in done])

  def evaluate(data, state, key):
    return stack(
      [
        a.evaluate(a.data, unstack(state, i), key)
        for i, a in enumerate(algorithms)
      ]
    )

  return Algorithm((), init, step, evaluate)


def raw(tree):
  """Returns a state's leaves as bytes, to compare bit by bit."""

  def bits(leaf):
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      leaf = jax.random.key_data(leaf)
    return np.asarray(leaf).tobytes()

  return [bits(leaf) for leaf in jax.tree.leaves(tree)]


def without_time(rows):
  """Returns rows without what depends on the clock."""
  return [
    {n: v for n, v in row.items() if not n.startswith('time/')} for row in rows
  ]
