"""One gradient step can be any function of the data: the construction itself.

Source: Finn 2018, chapter 4 (Finn and Levine 2018): a chain of linear layers
between features and an output network, all of it updated by one step. The
construction is built as written and the step is `gradient_adapt`'s.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax.core.adaptation import gradient_adapt
from metajax.core.learner import Examples

EPSILON = 0.05
ALPHA = 1e-2
LABELS = (0.7, -1.3)


@pytest.fixture(autouse=True)
def float64():
  with jax.enable_x64(True):
    yield


def half_square(prediction, target):
  return 0.5 * jnp.sum((target - prediction) ** 2)


# ----------------------------------------------------------- the construction


def chain(bins: int) -> dict:
  """Returns theta: the layers W_1 .. W_N of the indicator kernel, and theta_b.

  Rows and columns of a layer are top, middle and bottom. Of the N = J L + 2
  layers the middle ones are indexed by a bin of x and one of x*.
  """
  size, slots = 2 * bins, bins * bins
  num_layers = slots + 2
  eye = np.eye(size)
  # B_i for i = 1..N, of which M_{i+1} is the top matrix, and M_1 = B_N = I.
  kernels = [EPSILON * eye]
  roots = [np.eye(slots)]
  for j in range(bins):
    for other in range(bins):
      kernel = EPSILON * eye
      kernel[j, j] += 1.0
      kernel[j, bins + other] += 1.0
      kernel[bins + other, j] += 1.0
      kernels.append(kernel)
      diagonal = np.full(slots, EPSILON)
      diagonal[j + bins * other] = 1.0 + EPSILON
      roots.append(np.diag(np.sqrt(diagonal)))
  kernels.append(eye)
  roots.append(np.sqrt(EPSILON) * np.eye(slots))
  top = [eye, *kernels]  # Mt_1, Mt_2 = B_1, ..., Mt_{N+1} = B_N = I
  middle = [*roots, np.eye(slots)]  # Mb_0 = I, ..., Mb_{N-1}, Mb_N = I
  assert len(top) == len(middle) == num_layers + 1
  layers = []
  for i in range(num_layers):
    layer = np.zeros((size + slots + 1,) * 2)
    layer[:size, :size] = top[i] @ np.linalg.inv(top[i + 1])
    layer[size:-1, size:-1] = np.linalg.inv(middle[i]) @ middle[i + 1]
    layer[-1, -1] = 1.0
    layers.append(jnp.array(layer))
  return {'layers': layers, 'switch': jnp.zeros(())}


def hidden(theta, x, bins, *, switched):
  """Returns z for the bin x; `switched`: whether theta_b is not zero.

  It is a branch of its own because the indicator has no derivative.
  """
  one_hot = jax.nn.one_hot(x + (bins if switched else 0), 2 * bins)
  z = jnp.concatenate([one_hot, jnp.zeros(bins * bins), theta['switch'][None]])
  for layer in reversed(theta['layers']):
    z = layer @ z
  return z


def prediction(theta, x, bins):
  """Returns g_pre(z), which is zero before the step."""
  z = hidden(theta, x, bins, switched=False)
  return -jnp.sum(z[2 * bins : -1]) - z[-1]


def mean_loss(bins):
  def loss(theta, examples):
    predictions = jax.vmap(lambda x: prediction(theta, x, bins))(
      examples.inputs
    )
    losses = jax.vmap(half_square)(predictions, examples.targets)
    return jnp.mean(losses)

  return loss


def middle_after_a_step(bins, examples, query, alpha=ALPHA, adapts=None):
  """Returns the middle block of z for `query` after one gradient step."""
  phi = gradient_adapt(
    mean_loss(bins),
    chain(bins),
    examples,
    num_steps=1,
    inner_lr=alpha,
    adapts=adapts,
  ).params
  switched = adapts is None
  return np.asarray(hidden(phi, query, bins, switched=switched)[2 * bins : -1])


@pytest.mark.parametrize('bins', [2, 3])
@pytest.mark.parametrize('alpha', [1e-8, 1e-2])
def test_the_step_writes_the_label_where_input_and_query_say(bins, alpha):
  """-z / (alpha y) is (1 + e)(1 + 2 e) in one slot and at most e |y| beside.

  It holds for any step size: in the middle the terms in alpha^2 are zero.
  """
  step = jax.jit(
    lambda x, y, query: hidden(
      gradient_adapt(
        mean_loss(bins),
        chain(bins),
        Examples(x[None], y[None]),
        num_steps=1,
        inner_lr=alpha,
      ).params,
      query,
      bins,
      switched=True,
    )[2 * bins : -1]
  )
  for x in range(bins):
    for query in range(bins):
      for label in LABELS:
        z = np.asarray(step(jnp.int32(x), jnp.float64(label), jnp.int32(query)))
        written = -z / (alpha * label)
        slot = x + bins * query
        assert np.argmax(np.abs(written)) == slot
        np.testing.assert_allclose(
          written[slot], (1 + EPSILON) * (1 + 2 * EPSILON), rtol=1e-9
        )
        assert np.abs(np.delete(written, slot)).max() <= 0.0551


def test_before_the_step_it_predicts_zero():
  for x in range(3):
    assert float(prediction(chain(3), jnp.int32(x), 3)) == 0.0


def test_several_examples_write_their_mean_in_any_order():
  bins = 2
  inputs, targets = jnp.array([0, 1, 1]), jnp.array([0.7, -1.3, 0.4])
  examples = Examples(inputs, targets)
  together = middle_after_a_step(bins, examples, 1)
  apart = [
    middle_after_a_step(
      bins, Examples(inputs[i : i + 1], targets[i : i + 1]), 1
    )
    for i in range(3)
  ]
  np.testing.assert_allclose(together, np.mean(apart, axis=0), rtol=1e-9)
  order = jnp.array([2, 0, 1])
  shuffled = middle_after_a_step(
    bins, Examples(inputs[order], targets[order]), 1
  )
  np.testing.assert_allclose(shuffled, together, rtol=1e-12)


def test_without_the_switch_input_and_query_cannot_be_told_apart():
  """With theta_b frozen the kernel is symmetric: k(x, x*) = k(x*, x)."""
  bins = 2
  frozen = jax.tree.map(lambda _: True, chain(bins)) | {'switch': False}

  def written(x, query, adapts):
    return middle_after_a_step(
      bins,
      Examples(jnp.array([x]), jnp.array([0.7])),
      query,
      adapts=adapts,
    )

  np.testing.assert_allclose(
    written(0, 1, frozen), written(1, 0, frozen), rtol=1e-9
  )
  assert np.abs(written(0, 1, None) - written(1, 0, None)).max() > 1e-3


# ----------------------------------------- what a gradient says of the label


def gradient_at_zero(loss, target, size=1):
  return np.asarray(jax.grad(loss)(jnp.zeros(size), target))


def test_the_square_tells_the_label():
  for label in (0.7, -1.3, 4.0):
    np.testing.assert_allclose(
      gradient_at_zero(half_square, jnp.array([label])), [-label]
    )


def test_cross_entropy_tells_the_label_and_a_batch_its_counts():
  ways = 4

  def loss(logits, label):
    return optax.softmax_cross_entropy_with_integer_labels(logits, label)

  labels = jnp.array([0, 2, 2, 3, 2])
  gradients = [gradient_at_zero(loss, label, ways) for label in labels]
  for label, gradient in zip(labels, gradients, strict=True):
    np.testing.assert_allclose(
      1 / ways - gradient, np.eye(ways)[label], atol=1e-12
    )
  np.testing.assert_allclose(
    5 * (1 / ways - np.mean(gradients, axis=0)), [1, 0, 3, 1], atol=1e-12
  )


@pytest.mark.parametrize(
  ('loss', 'labels'),
  [
    (lambda p, y: jnp.sum(jnp.abs(p - y)), (0.7, 2.5)),
    (lambda p, y: jnp.sum(optax.hinge_loss(p, jnp.sign(y))), (0.7, 2.5)),
    (lambda p, y: jnp.sum(optax.huber_loss(p, y, delta=0.5)), (0.7, 2.5)),
  ],
  ids=['absolute', 'hinge', 'huber'],
)
def test_other_losses_lose_the_label(loss, labels):
  first, second = (
    gradient_at_zero(loss, jnp.array([label])) for label in labels
  )
  np.testing.assert_array_equal(first, second)
  assert np.abs(first) > 0


# ------------------------------------------------------- what depth is good for


@pytest.mark.parametrize('num_layers', [1, 2, 4])
def test_the_update_of_a_product_has_the_rank_of_its_depth(num_layers):
  """One matrix is updated by rank one, a product of N by up to N."""
  size = 6
  keys = jax.random.split(jax.random.key(0), num_layers + 2)
  layers = [
    jax.random.normal(key, (size, size)) / np.sqrt(size) for key in keys[2:]
  ]
  x, y = (jax.random.normal(key, (size,)) for key in keys[:2])

  def product(layers):
    return jnp.linalg.multi_dot(layers) if len(layers) > 1 else layers[0]

  def loss(layers, data):
    return half_square(product(layers) @ x, data)

  # The first order in alpha, exactly.
  _, update = jax.jvp(
    lambda alpha: product(
      gradient_adapt(loss, layers, y, num_steps=1, inner_lr=alpha).params
    ),
    (jnp.float64(0.0),),
    (jnp.float64(1.0),),
  )
  assert np.linalg.matrix_rank(update, tol=1e-8) == num_layers
