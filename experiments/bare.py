"""The benchmark's other side: two meta-steps written by hand in bare JAX.

Nothing of metajax computes here; only the container `Algorithm` is shared, so
that both sides are timed by the same code. The mathematics is that of
`experiments.maml` and of `experiments.maml_rl` on navigation.
"""

import math

import jax
import jax.numpy as jnp

from metajax.core.algorithm import Algorithm


def sinusoid_maml(config) -> Algorithm:
  """Returns one-step MAML on sinusoids with Adam."""

  def predict(params, x):
    for weight, bias in params[:-1]:
      x = jax.nn.relu(x @ weight + bias)
    weight, bias = params[-1]
    return x @ weight + bias

  def error(params, x, y):
    return jnp.mean((predict(params, x) - y) ** 2)

  def task_loss(params, key):
    amplitude_key, phase_key, input_key = jax.random.split(key, 3)
    amplitude = jax.random.uniform(amplitude_key, (), minval=0.1, maxval=5.0)
    phase = jax.random.uniform(phase_key, (), minval=0.0, maxval=math.pi)
    shots = config.shots
    x = jax.random.uniform(
      input_key, (shots + config.query_shots, 1), minval=-5.0, maxval=5.0
    )
    y = amplitude * jnp.sin(x - phase)
    gradient = jax.grad(error)(params, x[:shots], y[:shots])
    adapted = jax.tree.map(
      lambda p, g: p - config.inner_lr * g, params, gradient
    )
    return error(adapted, x[shots:], y[shots:])

  def init(data, key):
    del data
    params = _glorot(key, (1, *config.hidden_sizes, 1))
    zeros = jax.tree.map(jnp.zeros_like, params)
    return params, zeros, jax.tree.map(jnp.copy, zeros), jnp.int32(0)

  def step(data, state, key):
    del data
    params, mean, square, count = state
    keys = jax.random.split(key, config.meta_batch_size)

    def loss(params):
      return jnp.mean(jax.vmap(task_loss, in_axes=(None, 0))(params, keys))

    value, gradient = jax.value_and_grad(loss)(params)
    count += 1
    mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, gradient)
    square = jax.tree.map(
      lambda s, g: 0.999 * s + 0.001 * g * g, square, gradient
    )
    params = jax.tree.map(
      lambda p, m, s: (
        p
        - config.outer_lr
        * (m / (1 - 0.9**count))
        / (jnp.sqrt(s / (1 - 0.999**count)) + 1e-8)
      ),
      params,
      mean,
      square,
    )
    return (params, mean, square, count), {'meta/loss': value}

  return Algorithm((), init, step, _no_evaluation)


def navigation_maml(config, horizon: int = 100) -> Algorithm:
  """Returns one-step MAML-RL on 2-D navigation with a trust region."""
  discount = config.discount

  def distribution(params, observations):
    layers, log_std = params
    for weight, bias in layers[:-1]:
      observations = jax.nn.relu(observations @ weight + bias)
    weight, bias = layers[-1]
    return observations @ weight + bias, log_std

  def log_prob(params, observations, actions):
    mean, log_std = distribution(params, observations)
    standard = (actions - mean) * jnp.exp(-log_std)
    return -0.5 * jnp.sum(
      standard**2 + 2 * log_std + math.log(2 * math.pi), axis=-1
    )

  def episode(params, goal, key):
    def body(carry, key):
      position, done = carry
      mean, log_std = distribution(params, position)
      action = mean + jnp.exp(log_std) * jax.random.normal(key, (2,))
      moved = position + jnp.clip(0.1 * action, -0.1, 0.1)
      distance = jnp.sqrt(jnp.sum((moved - goal) ** 2))
      row = (position, action, jnp.where(done, 0.0, -distance), ~done)
      position = jnp.where(done, position, moved)
      return (position, done | (distance < 0.01)), row

    start = (jnp.zeros(2), jnp.zeros((), bool))
    return jax.lax.scan(body, start, jax.random.split(key, horizon))[1]

  def sums_from_here(values, discounts):
    def body(later, inputs):
      value, factor = inputs
      total = value + factor * later
      return total, total

    return jax.lax.scan(body, 0.0, (values, discounts), reverse=True)[1]

  def batch(params, goal, key):
    keys = jax.random.split(key, config.num_rollouts)
    positions, actions, rewards, valid = jax.vmap(
      episode, in_axes=(None, None, 0)
    )(params, goal, keys)
    last = jnp.concatenate([~valid[:, 1:], jnp.ones_like(valid[:, :1])], axis=1)
    discounts = jnp.where(last | ~valid, 0.0, discount)
    returns = jax.vmap(sums_from_here)(rewards, discounts)
    tau = jnp.broadcast_to(jnp.arange(horizon) / 100.0, rewards.shape)[
      ..., None
    ]
    clipped = jnp.clip(positions, -10, 10)
    features = jnp.concatenate(
      [clipped, clipped**2, tau, tau**2, tau**3, jnp.ones_like(tau)], axis=-1
    ).reshape(-1, 8)
    flat_valid = valid.reshape(-1)
    features = features * flat_valid[:, None]
    length = jnp.sqrt(jnp.sum(features**2, axis=0))
    features = features / jnp.maximum(length, 1e-8)
    ridge = jnp.diag(math.sqrt(1e-5) / jnp.maximum(length, 1e-8))
    basis, _ = jnp.linalg.qr(jnp.concatenate([features, ridge]))
    basis = basis[: features.shape[0]]
    values = basis @ (basis.T @ jnp.where(flat_valid, returns.reshape(-1), 0.0))
    values = values.reshape(rewards.shape)
    following = jnp.concatenate(
      [values[:, 1:], jnp.zeros_like(values[:, :1])], axis=1
    )
    deltas = rewards + discounts * following - values
    advantages = jax.vmap(sums_from_here)(
      deltas, discounts * config.gae_lambda
    ).reshape(-1)
    count = jnp.maximum(jnp.sum(flat_valid), 1)
    mean = jnp.sum(jnp.where(flat_valid, advantages, 0.0)) / count
    variance = (
      jnp.sum(jnp.where(flat_valid, (advantages - mean) ** 2, 0.0)) / count
    )
    advantages = (advantages - mean) / (jnp.sqrt(variance) + 1e-8)
    advantages = jnp.where(flat_valid, advantages, 0.0)
    data = (
      positions.reshape(-1, 2),
      actions.reshape(-1, 2),
      advantages,
      flat_valid,
    )
    return data, jnp.mean(jnp.sum(rewards, axis=1))

  def adapt(params, data):
    positions, actions, advantages, valid = data

    def surrogate(params):
      terms = log_prob(params, positions, actions) * advantages
      return -jnp.sum(terms) / jnp.maximum(jnp.sum(valid), 1)

    gradient = jax.grad(surrogate)(params)
    return jax.tree.map(lambda p, g: p - config.inner_lr * g, params, gradient)

  def init(data, key):
    del data
    layers = _glorot(key, (2, *config.hidden_sizes, 2))
    return layers, jnp.zeros(2)

  def step(data, params, key):
    del data

    def collect(key):
      task_key, before_key, after_key = jax.random.split(key, 3)
      goal = jax.random.uniform(task_key, (2,), minval=-0.5, maxval=0.5)
      support, before = batch(params, goal, before_key)
      phi = adapt(params, support)
      query, after = batch(phi, goal, after_key)
      return support, query, distribution(phi, query[0]), before, after

    keys = jax.random.split(key, config.meta_batch_size)
    supports, queries, old, before, after = jax.vmap(collect)(keys)
    num_valid = jnp.maximum(jnp.sum(queries[3]), 1)

    def adapted(theta, support, query):
      return distribution(adapt(theta, support), query[0])

    def surrogate(theta, support, query, old):
      _, actions, advantages, valid = query
      phi = adapt(theta, support)
      mean, log_std = old
      standard = (actions - mean) * jnp.exp(-log_std)
      old_log_prob = -0.5 * jnp.sum(
        standard**2 + 2 * log_std + math.log(2 * math.pi), axis=-1
      )
      ratio = jnp.exp(log_prob(phi, query[0], actions) - old_log_prob)
      terms = jnp.where(valid, ratio * advantages, 0.0)
      return -jnp.sum(terms) / jnp.maximum(jnp.sum(valid), 1)

    def loss_and_kl(theta):
      def of_task(inputs):
        support, query, (old_mean, old_log_std) = inputs
        mean, log_std = adapted(theta, support, query)
        ratio = log_std - old_log_std
        kl = jnp.sum(
          ratio
          + 0.5
          * (
            jnp.exp(-2 * ratio)
            + (mean - old_mean) ** 2 * jnp.exp(-2 * log_std)
            - 1
          ),
          axis=-1,
        )
        kl = jnp.sum(jnp.where(query[3], kl, 0.0)) / num_valid
        return surrogate(theta, *inputs), kl

      losses, kls = jax.lax.map(of_task, (supports, queries, old))
      return jnp.mean(losses), jnp.sum(kls)

    gradients = jax.lax.map(
      lambda inputs: jax.grad(surrogate)(params, *inputs),
      (supports, queries, old),
    )
    gradient = jax.tree.map(lambda g: jnp.mean(g, axis=0), gradients)

    def fisher_product(vector):
      def of_task(inputs):
        support, query = inputs
        (_, log_std), push = jax.linearize(
          lambda theta: adapted(theta, support, query), params
        )
        mean_tangent, log_std_tangent = push(vector)
        weights = query[3] / num_valid
        cotangent = (
          weights[:, None] * jnp.exp(-2 * log_std) * mean_tangent,
          2 * jnp.sum(weights) * log_std_tangent,
        )
        return jax.linear_transpose(push, params)(cotangent)[0]

      products = jax.lax.map(of_task, (supports, queries))
      return jax.tree.map(
        lambda f, v: jnp.sum(f, axis=0) + config.damping * v, products, vector
      )

    direction, _ = jax.scipy.sparse.linalg.cg(
      fisher_product,
      gradient,
      maxiter=config.conjugate_gradient_steps,
      tol=0.0,
      atol=1e-5,
    )
    curvature = sum(
      jnp.vdot(d, g)
      for d, g in zip(
        jax.tree.leaves(direction), jax.tree.leaves(gradient), strict=True
      )
    )
    scale = jnp.sqrt(2 * config.max_kl / (curvature + 1e-8))
    old_loss, _ = loss_and_kl(params)

    def search(carry):
      index, _, _ = carry
      size = scale * config.backtrack_ratio**index
      new = jax.tree.map(lambda p, d: p - size * d, params, direction)
      loss, kl = loss_and_kl(new)
      return index + 1, new, (loss < old_loss) & (kl <= config.max_kl)

    _, new, accepted = jax.lax.while_loop(
      lambda carry: ~carry[2] & (carry[0] < config.max_backtracks),
      search,
      (0, params, jnp.zeros((), bool)),
    )
    new = jax.tree.map(lambda n, p: jnp.where(accepted, n, p), new, params)
    return new, {'before': jnp.mean(before), 'after': jnp.mean(after)}

  return Algorithm((), init, step, _no_evaluation)


def _glorot(key, sizes):
  layers = []
  for fan_in, fan_out in zip(sizes, sizes[1:], strict=False):
    key, layer_key = jax.random.split(key)
    limit = math.sqrt(6 / (fan_in + fan_out))
    weight = jax.random.uniform(
      layer_key, (fan_in, fan_out), minval=-limit, maxval=limit
    )
    layers.append((weight, jnp.zeros(fan_out)))
  return layers


def _no_evaluation(data, state, key):
  del data, state, key
  return {}


def planning_passes(weights, inputs, *, horizon):
  """Runs a network on its own outputs, as planning does, and nothing else.

  Args:
    weights: pytree of one network: layers by name, `kernel` and `bias`.
    inputs: [sequences, input_size] float32.
    horizon: steps ahead.

  Returns:
    [sequences, input_size] float32.
  """
  layers = [weights[name] for name in sorted(weights)]

  def step(inputs, _):
    hidden = inputs
    for layer in layers[:-1]:
      hidden = jax.nn.relu(hidden @ layer['kernel'] + layer['bias'][None])
    output = hidden @ layers[-1]['kernel'] + layers[-1]['bias'][None]
    return inputs.at[:, : output.shape[1]].add(output), None

  return jax.lax.scan(step, inputs, length=horizon)[0]
