"""The inner loop against closed forms, NumPy and central differences."""

import jax
from jax.flatten_util import ravel_pytree
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax.core.adaptation import gradient_adapt, learned_step_sizes

GENERATOR = np.random.default_rng(0)
SIZE = 5
ROOT = GENERATOR.normal(size=(SIZE, SIZE))
HESSIAN = ROOT @ ROOT.T / SIZE + np.eye(SIZE)
CENTRE = GENERATOR.normal(size=SIZE)
START = GENERATOR.normal(size=SIZE)


@pytest.fixture(name='float64')
def fixture_float64():
  with jax.enable_x64(True):
    yield


def split(vector):
  """Two leaves, so that what is meant for one can miss the other."""
  return {'a': vector[:2], 'b': vector[2:]}


def joined(params):
  return np.concatenate([params['a'], params['b']], axis=-1)


def quadratic(params, centre):
  difference = jnp.concatenate([params['a'], params['b']]) - centre
  return 0.5 * difference @ jnp.asarray(HESSIAN) @ difference


def value(point, centre=CENTRE):
  return 0.5 * (point - centre) @ HESSIAN @ (point - centre)


def descend(step_sizes, centres):
  """Gradient descent in NumPy: every point from theta to phi."""
  points = [START]
  for size, centre in zip(step_sizes, centres, strict=True):
    points.append(points[-1] - size * (HESSIAN @ (points[-1] - centre)))
  return np.stack(points)


@pytest.mark.usefixtures('float64')
@pytest.mark.parametrize('num_steps', [0, 1, 3, 8])
def test_plain_descent_follows_the_closed_form(num_steps):
  adaptation = gradient_adapt(
    quadratic, split(START), CENTRE, num_steps=num_steps, inner_lr=0.1
  )
  shrink = np.linalg.matrix_power(np.eye(SIZE) - 0.1 * HESSIAN, num_steps)
  expected = CENTRE + shrink @ (START - CENTRE)
  np.testing.assert_allclose(joined(adaptation.params), expected, rtol=1e-12)
  points = descend([0.1] * num_steps, [CENTRE] * num_steps)
  np.testing.assert_allclose(
    adaptation.losses, [value(point) for point in points[:-1]], rtol=1e-12
  )


@pytest.mark.usefixtures('float64')
@pytest.mark.parametrize('num_steps', [0, 3, 8])
@pytest.mark.parametrize('rematerialise', [False, True])
def test_the_trajectory_holds_every_point(num_steps, rematerialise):
  adaptation = gradient_adapt(
    quadratic,
    split(START),
    CENTRE,
    num_steps=num_steps,
    inner_lr=0.1,
    rematerialise=rematerialise,
    keep_trajectory=True,
  )
  points = descend([0.1] * num_steps, [CENTRE] * num_steps)
  np.testing.assert_allclose(joined(adaptation.params), points, rtol=1e-12)


@pytest.mark.usefixtures('float64')
@pytest.mark.parametrize('num_steps', [3, 8])
def test_step_sizes_of_steps_and_of_leaves(num_steps):
  of_steps = np.linspace(0.02, 0.2, num_steps)
  adaptation = gradient_adapt(
    quadratic, split(START), CENTRE, num_steps=num_steps, inner_lr=of_steps
  )
  np.testing.assert_allclose(
    joined(adaptation.params),
    descend(of_steps, [CENTRE] * num_steps)[-1],
    rtol=1e-12,
  )

  adaptation = gradient_adapt(
    quadratic,
    split(START),
    CENTRE,
    num_steps=num_steps,
    inner_lr={'a': 0.03, 'b': of_steps},
  )
  of_leaves = [np.array([0.03] * 2 + [size] * 3) for size in of_steps]
  np.testing.assert_allclose(
    joined(adaptation.params),
    descend(of_leaves, [CENTRE] * num_steps)[-1],
    rtol=1e-12,
  )


@pytest.mark.usefixtures('float64')
@pytest.mark.parametrize('num_steps', [3, 8])
def test_fresh_data_for_every_step(num_steps):
  centres = np.random.default_rng(1).normal(size=(num_steps, SIZE))
  adaptation = gradient_adapt(
    quadratic,
    split(START),
    centres,
    num_steps=num_steps,
    inner_lr=0.1,
    data_axis=0,
  )
  points = descend([0.1] * num_steps, centres)
  np.testing.assert_allclose(joined(adaptation.params), points[-1], rtol=1e-12)
  np.testing.assert_allclose(
    adaptation.losses,
    [value(p, c) for p, c in zip(points[:-1], centres, strict=True)],
    rtol=1e-12,
  )


@pytest.mark.usefixtures('float64')
def test_clip_bounds_every_element_of_the_gradient():
  gradient = HESSIAN @ (START - CENTRE)
  bound = float(np.median(np.abs(gradient)))
  adaptation = gradient_adapt(
    quadratic, split(START), CENTRE, num_steps=1, inner_lr=0.1, clip=bound
  )
  np.testing.assert_allclose(
    joined(adaptation.params),
    START - 0.1 * np.clip(gradient, -bound, bound),
    rtol=1e-12,
  )


@pytest.mark.usefixtures('float64')
@pytest.mark.parametrize(
  'how',
  [
    {'inner_lr': 0.1},
    # Decays weights whose gradient is zero, so the update must be masked too.
    {'optimizer': optax.adamw(0.1, weight_decay=0.5)},
  ],
  ids=['descent', 'adamw'],
)
def test_leaves_that_do_not_adapt_stay(how):
  adaptation = gradient_adapt(
    quadratic,
    split(START),
    CENTRE,
    num_steps=2,
    adapts={'a': True, 'b': False},
    **how,
  )
  np.testing.assert_array_equal(adaptation.params['b'], START[2:])
  assert np.all(np.abs(adaptation.params['a'] - START[:2]) > 1e-3)
  if 'inner_lr' in how:
    sizes = [np.array([0.1, 0.1, 0.0, 0.0, 0.0])] * 2
    np.testing.assert_allclose(
      joined(adaptation.params), descend(sizes, [CENTRE] * 2)[-1], rtol=1e-12
    )


@pytest.mark.usefixtures('float64')
@pytest.mark.parametrize('num_steps', [3, 8])
def test_momentum_inside(num_steps):
  adaptation = gradient_adapt(
    quadratic,
    split(START),
    CENTRE,
    num_steps=num_steps,
    optimizer=optax.sgd(0.05, momentum=0.9),
  )
  point, velocity = START, np.zeros(SIZE)
  for _ in range(num_steps):
    velocity = 0.9 * velocity + HESSIAN @ (point - CENTRE)
    point = point - 0.05 * velocity
  np.testing.assert_allclose(joined(adaptation.params), point, rtol=1e-12)


@pytest.mark.usefixtures('float64')
@pytest.mark.parametrize('num_steps', [3, 8])
def test_adam_inside(num_steps):
  adaptation = gradient_adapt(
    quadratic,
    split(START),
    CENTRE,
    num_steps=num_steps,
    optimizer=optax.adam(0.05),
  )
  point, mean, square = START, np.zeros(SIZE), np.zeros(SIZE)
  for step in range(1, num_steps + 1):
    gradient = HESSIAN @ (point - CENTRE)
    mean = 0.9 * mean + 0.1 * gradient
    square = 0.999 * square + 0.001 * gradient**2
    unbiased = np.sqrt(square / (1 - 0.999**step)) + 1e-8
    point = point - 0.05 * mean / (1 - 0.9**step) / unbiased
  # Optax computes its corrections of the bias in float32.
  np.testing.assert_allclose(joined(adaptation.params), point, rtol=1e-6)


@pytest.mark.usefixtures('float64')
@pytest.mark.parametrize('num_steps', [1, 3, 8])
def test_meta_gradient_of_a_quadratic(num_steps):
  def query_loss(params, first_order):
    phi = gradient_adapt(
      quadratic,
      params,
      CENTRE,
      num_steps=num_steps,
      inner_lr=0.1,
      first_order=first_order,
    ).params
    return quadratic(phi, 2.0 * CENTRE)

  shrink = np.linalg.matrix_power(np.eye(SIZE) - 0.1 * HESSIAN, num_steps)
  phi = CENTRE + shrink @ (START - CENTRE)
  at_phi = HESSIAN @ (phi - 2.0 * CENTRE)
  second = joined(jax.grad(query_loss)(split(START), False))
  first = joined(jax.grad(query_loss)(split(START), True))
  np.testing.assert_allclose(second, shrink.T @ at_phi, rtol=1e-11)
  np.testing.assert_allclose(first, at_phi, rtol=1e-11)


def network_loss(params, examples):
  """A network without kinks, which central differences would stumble over."""
  inputs, targets = examples
  hidden = jnp.tanh(inputs @ params['in'] + params['bias'])
  return jnp.mean((hidden @ params['out'] - targets) ** 2)


def network_params(hidden=8, dtype=np.float64):
  generator = np.random.default_rng(1)
  return {
    'in': generator.normal(size=(2, hidden)).astype(dtype),
    'bias': generator.normal(size=(1, hidden)).astype(dtype),
    'out': generator.normal(size=(hidden, 1)).astype(dtype),
  }


def network_examples(seed, shots=6, dtype=np.float64):
  generator = np.random.default_rng(seed)
  return (
    generator.normal(size=(shots, 2)).astype(dtype),
    generator.normal(size=(shots, 1)).astype(dtype),
  )


def network_query_loss(params, **how):
  how = {'num_steps': 3, **how}
  if 'optimizer' not in how:
    how = {'inner_lr': 0.1, **how}
  adapted = gradient_adapt(network_loss, params, network_examples(2), **how)
  return network_loss(adapted.params, network_examples(3))


def check_against_central_differences(function, point):
  """20 directions, epsilon 1e-6: figures G1 of the project."""
  flat, unravel = ravel_pytree(point)
  directions = np.random.default_rng(4).normal(size=(20, flat.size))
  directions /= np.linalg.norm(directions, axis=1, keepdims=True)
  epsilon = 1e-6

  @jax.jit
  def both(direction):
    ahead, behind = (
      function(unravel(flat + sign * epsilon * direction)) for sign in (1, -1)
    )
    return (ahead - behind) / (2 * epsilon)

  differences = np.array([both(direction) for direction in directions])
  gradient = ravel_pytree(jax.jit(jax.grad(function))(point))[0]
  derivatives = directions @ np.asarray(gradient)
  error = np.max(np.abs(derivatives - differences))
  assert error <= 1e-6 * np.max(np.abs(differences))


@pytest.mark.usefixtures('float64')
@pytest.mark.parametrize(
  'how',
  [
    {},
    {'num_steps': 7},
    {'num_steps': 7, 'rematerialise': True},
    {'clip': 0.05},
    {'optimizer': optax.sgd(0.1, momentum=0.9)},
    {'adapts': {'in': False, 'bias': True, 'out': True}},
  ],
  ids=['unrolled', 'scan', 'rematerialised', 'clip', 'momentum', 'adapts'],
)
def test_meta_gradient_agrees_with_central_differences(how):
  check_against_central_differences(
    lambda params: network_query_loss(params, **how), network_params()
  )


@pytest.mark.usefixtures('float64')
def test_gradient_of_learned_step_sizes_agrees_with_central_differences():
  params = network_params()
  sizes = jax.tree.map(
    lambda x: x.astype(np.float64) * np.linspace(0.5, 1.5, 3),
    learned_step_sizes(params, 0.1, 3),
  )
  check_against_central_differences(
    lambda sizes: network_query_loss(params, inner_lr=sizes), sizes
  )


def test_learned_step_sizes_may_turn_negative():
  # Outside `jit` too, where a notebook evaluates what was trained.
  params = network_params(dtype=np.float32)
  sizes = jax.tree.map(lambda x: -x, learned_step_sizes(params, 0.1, 1))
  adapted = gradient_adapt(
    network_loss,
    params,
    network_examples(2, dtype=np.float32),
    num_steps=1,
    inner_lr=sizes,
  )
  assert np.isfinite(adapted.params['out']).all()


def test_the_ways_to_run_the_loop_agree():
  params = network_params(dtype=np.float32)
  support = network_examples(2, dtype=np.float32)
  query = network_examples(3, dtype=np.float32)

  def gradient(num_steps, split_at, **how):
    """In two parts: each short enough to be unrolled, or long enough not."""

    def query_loss(params):
      for steps in (split_at, num_steps - split_at):
        params = gradient_adapt(
          network_loss, params, support, num_steps=steps, inner_lr=0.1, **how
        ).params
      return network_loss(params, query)

    return ravel_pytree(jax.jit(jax.grad(query_loss))(params))[0]

  unrolled = gradient(8, 4)
  scanned = gradient(8, 0)
  rematerialised = gradient(8, 0, rematerialise=True)
  scale = np.max(np.abs(unrolled))
  np.testing.assert_allclose(scanned, unrolled, atol=1e-6 * scale)
  np.testing.assert_allclose(rematerialised, unrolled, atol=1e-6 * scale)
  first_order = gradient(8, 0, first_order=True)
  assert np.max(np.abs(first_order - unrolled)) > 0.1 * scale


@pytest.mark.compiled_fully
def test_memory_of_the_outer_gradient():
  """What the backward pass keeps, over inner steps: figures M3."""
  inputs = jnp.zeros((8, 128, 2))
  targets = jnp.zeros((8, 128, 1))
  params = network_params(hidden=64, dtype=np.float32)

  def temporary_bytes(num_steps, **how):
    def loss(params):
      def one(inputs, targets):
        adapted = gradient_adapt(
          network_loss,
          params,
          (inputs, targets),
          num_steps=num_steps,
          inner_lr=0.1,
          **how,
        )
        return network_loss(adapted.params, (inputs, targets))

      return jnp.mean(jax.vmap(one)(inputs, targets))

    compiled = jax.jit(jax.grad(loss)).lower(params).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  def slope(**how):
    return (temporary_bytes(24, **how) - temporary_bytes(8, **how)) / 16

  plain = slope()
  activations_of_a_step = 8 * 128 * 64 * 4
  assert plain >= activations_of_a_step
  assert slope(rematerialise=True) <= 0.6 * plain
  assert slope(first_order=True) <= 0.01 * plain
