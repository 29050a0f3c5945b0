"""The trust-region step where its answer is known."""

import jax
from jax.flatten_util import ravel_pytree
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.nets.distributions import DiagonalGaussian
from metajax.nets.policies import GaussianPolicy
from metajax.rl.trust_region import (
  TrustRegionConfig,
  gaussian_fisher_product,
  trust_region_step,
)

GENERATOR = np.random.default_rng(0)
ROOT = GENERATOR.normal(size=(5, 5))
FISHER = ROOT @ ROOT.T / 5 + 0.5 * np.eye(5)
SLOPE = GENERATOR.normal(size=5)
START = GENERATOR.normal(size=5)


@pytest.fixture(name='float64')
def fixture_float64():
  with jax.enable_x64(True):
    yield


def pack(vector):
  return {'a': jnp.asarray(vector[:2]), 'b': jnp.asarray(vector[2:])}


def unpack(params):
  return jnp.concatenate([params['a'], params['b']])


def fisher_product(vector):
  return pack(jnp.asarray(FISHER) @ unpack(vector))


def kl(params):
  distance = unpack(params) - START
  return 0.5 * distance @ jnp.asarray(FISHER) @ distance


def linear(params):
  return unpack(params) @ jnp.asarray(SLOPE), kl(params)


def take(surrogate_and_kl=linear, gradient=SLOPE, **settings):
  return trust_region_step(
    pack(START),
    pack(gradient),
    fisher_product,
    surrogate_and_kl,
    TrustRegionConfig(**settings),
  )


def natural_step(max_kl, damping):
  damped = FISHER + damping * np.eye(5)
  direction = np.linalg.solve(damped, SLOPE)
  return np.sqrt(2 * max_kl / (direction @ damped @ direction)) * direction


@pytest.mark.usefixtures('float64')
@pytest.mark.parametrize('damping', [1e-5, 0.3])
def test_a_linear_surrogate_is_left_by_the_natural_step(damping):
  step = take(max_kl=0.02, damping=damping)
  full = natural_step(0.02, damping)
  # Conjugate gradients stop at a residual of 1e-5.
  np.testing.assert_allclose(unpack(step.params), START - full, atol=1e-5)
  assert step.accepted
  assert step.finite
  assert step.backtracks == 0
  np.testing.assert_allclose(step.kl, 0.5 * full @ FISHER @ full, rtol=1e-4)
  np.testing.assert_allclose(step.surrogate, (START - full) @ SLOPE, rtol=1e-4)


@pytest.mark.usefixtures('float64')
def test_the_search_ends_at_the_first_step_that_is_good():
  # KL three times what the Fisher matrix says: ratio^j <= 1 / sqrt(3).
  step = take(lambda params: (linear(params)[0], 3.0 * kl(params)))
  assert step.accepted
  assert step.backtracks == 3  # 0.8^2 = 0.64 > 0.577 >= 0.8^3
  np.testing.assert_allclose(
    unpack(step.params), START - 0.8**3 * natural_step(0.01, 1e-5), atol=1e-5
  )
  assert step.kl <= 0.01


@pytest.mark.usefixtures('float64')
@pytest.mark.parametrize('max_kl', [1e-3, 0.01, 0.1])
def test_the_bound_holds_where_the_kl_is_steeper_than_its_hessian(max_kl):
  step = take(
    lambda params: (linear(params)[0], kl(params) + 50.0 * kl(params) ** 2),
    max_kl=max_kl,
  )
  assert step.accepted
  assert 0.0 < step.kl <= max_kl
  assert step.surrogate < START @ SLOPE


def check_nothing_moved(step):
  np.testing.assert_array_equal(unpack(step.params), unpack(pack(START)))
  assert not step.accepted
  assert step.kl == 0.0


@pytest.mark.parametrize(
  'surrogate_and_kl',
  [
    # Never better; never near enough; no number at all.
    lambda params: (jnp.sum(jnp.abs(unpack(params) - START)), kl(params)),
    lambda params: (linear(params)[0], 1.0 + kl(params)),
    lambda params: (linear(params)[0], jnp.nan),
    lambda params: (jnp.where(kl(params) > 0, jnp.nan, 0.0), kl(params)),
  ],
  ids=['worse', 'far', 'nan_kl', 'nan_surrogate'],
)
def test_a_step_that_is_never_good_is_not_taken(surrogate_and_kl):
  step = take(surrogate_and_kl, max_backtracks=4)
  check_nothing_moved(step)
  assert step.finite
  assert step.backtracks == 4


def test_the_surrogate_of_a_refused_step_is_the_old_one():
  step = take(lambda params: (linear(params)[0], 1.0 + kl(params)))
  np.testing.assert_allclose(step.surrogate, START @ SLOPE, rtol=1e-5)


@pytest.mark.parametrize('bad_value', [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_not_finite_moves_nothing(bad_value):
  gradient = SLOPE.copy()
  gradient[3] = bad_value
  step = take(gradient=gradient)
  check_nothing_moved(step)
  assert not step.finite


def test_no_gradient_moves_nothing():
  step = take(gradient=np.zeros(5))
  check_nothing_moved(step)
  assert step.finite


def test_the_step_is_that_under_vmap():
  slopes = jnp.asarray(np.stack([SLOPE, -SLOPE, 3 * SLOPE[::-1]]), jnp.float32)

  def one(slope):
    return unpack(
      trust_region_step(
        pack(jnp.asarray(START, jnp.float32)),
        pack(slope),
        fisher_product,
        lambda params: (unpack(params) @ slope, 2.0 * kl(params)),
        TrustRegionConfig(),
      ).params
    )

  alone = jnp.stack([one(slope) for slope in slopes])
  np.testing.assert_allclose(jax.vmap(one)(slopes), alone, atol=1e-5)


@pytest.mark.usefixtures('float64')
def test_the_fisher_product_is_the_hessian_of_the_kl():
  policy = GaussianPolicy(2, (4,), activation=jnp.tanh)
  generator = np.random.default_rng(1)
  observations = generator.normal(size=(6, 3))
  weights = generator.uniform(size=6)
  params = jax.tree.map(
    lambda x: jnp.asarray(x, jnp.float64),
    policy.init(jax.random.key(0), observations)['params'],
  )
  flat, unravel = ravel_pytree(params)

  def moved(flat):
    """The policy after an inner update, as MAML-RL has it."""

    def inner(params):
      output = policy.apply({'params': params}, observations)
      return jnp.mean(output.log_prob(jnp.ones((6, 2))))

    params = unravel(flat)
    params = jax.tree.map(
      lambda p, g: p + 0.1 * g, params, jax.grad(inner)(params)
    )
    return policy.apply({'params': params}, observations)

  old = DiagonalGaussian(*moved(flat))
  hessian = jax.jit(
    jax.hessian(lambda flat: jnp.sum(weights * old.kl(moved(flat))))
  )(flat)
  for vector in generator.normal(size=(3, flat.size)):
    product = gaussian_fisher_product(
      lambda params: moved(ravel_pytree(params)[0]),
      params,
      unravel(jnp.asarray(vector)),
      jnp.asarray(weights),
    )
    expected = np.asarray(hessian) @ vector
    np.testing.assert_allclose(
      ravel_pytree(product)[0],
      expected,
      atol=1e-10 * np.max(np.abs(expected)),
    )
