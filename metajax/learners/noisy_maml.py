"""MAML with noise on its inner gradients: models by chance, not by learning.

The baseline of Finn, Xu and Levine (2018), section 5:

  phi^{k+1} = phi^k - alpha * (grad L(phi^k, D_tr) + s e_k),  e_k ~ N(0, I)
"""

import jax
from jax import Array
import optax

from metajax.core.adaptation import gradient_adapt
from metajax.core.learner import Learner
from metajax.core.validation import check_count, check_positive, check_range
from metajax.learners.maml import maml
from metajax.learners.sampled_models import sampled_models
from metajax.learners.task_losses import (
  Measures,
  TaskLoss,
  loss_of_network,
  nothing,
  squared_error,
)

_LARGEST_NOISE = 1e6


def noisy_maml(
  network,
  task_loss: TaskLoss = squared_error,
  *,
  inner_lr: float,
  noise_std: float,
  num_inner_steps: int = 5,
  clip: float | None = None,
  first_order: bool = False,
) -> Learner:
  """Returns MAML that meets the noise in meta-training, too.

  Args:
    network: a flax module, `apply({'params': theta}, inputs) -> predictions`.
    task_loss: `(predictions, targets) -> scalar`, L.
    inner_lr: alpha, > 0.
    noise_std: s, standard deviation of the noise on each element of an inner
      gradient, >= 0.
    num_inner_steps: gradient steps, >= 0.
    clip: bound on each element of the inner gradient before the noise, > 0.
      None: no bound.
    first_order: stop the outer gradient at the inner gradients.

  Returns:
    A `Learner` as of `maml`, whose adapted differs by key.

  Raises:
    InputError: for a setting that is out of range.
  """
  learner = maml(
    network, task_loss, inner_lr=inner_lr, num_inner_steps=num_inner_steps
  )
  return learner._replace(
    adapt=_draw_model(
      network,
      task_loss,
      inner_lr=inner_lr,
      noise_std=noise_std,
      num_inner_steps=num_inner_steps,
      clip=clip,
      first_order=first_order,
    )
  )


def noisy_maml_samples(
  network,
  task_loss: TaskLoss = squared_error,
  *,
  inner_lr: float,
  noise_std: float,
  num_samples: int = 10,
  num_inner_steps: int = 5,
  clip: float | None = None,
  measures: Measures = nothing,
) -> Learner:
  """Returns the meta-test learner that draws models by noise alone.

  It takes the parameters that `maml` or `noisy_maml` trains. Without noise
  and with one sample it is MAML in the form of a sampler.

  Args:
    network: as of `noisy_maml`.
    task_loss: as of `noisy_maml`.
    inner_lr: as of `noisy_maml`.
    noise_std: as of `noisy_maml`.
    num_samples: models of a task, >= 1.
    num_inner_steps: as of `noisy_maml`.
    clip: as of `noisy_maml`.
    measures: as of `sampled_models`.

  Returns:
    A `Learner` as `sampled_models` makes it.

  Raises:
    InputError: for a setting that is out of range.
  """
  trained = maml(
    network, task_loss, inner_lr=inner_lr, num_inner_steps=num_inner_steps
  )
  return sampled_models(
    network,
    task_loss,
    trained.init,
    _draw_model(
      network,
      task_loss,
      inner_lr=inner_lr,
      noise_std=noise_std,
      num_inner_steps=num_inner_steps,
      clip=clip,
      first_order=False,
    ),
    num_samples=num_samples,
    measures=measures,
  )


def _draw_model(
  network, task_loss, *, inner_lr, noise_std, num_inner_steps, clip, first_order
):
  """Returns `(params, support, key) -> phi`."""
  check_positive('inner_lr', inner_lr)
  check_range('noise_std', noise_std, minimum=0.0, maximum=_LARGEST_NOISE)
  check_count('num_inner_steps', num_inner_steps, minimum=0)

  loss = loss_of_network(network, task_loss)

  def draw_model(params, support, key):
    return gradient_adapt(
      loss,
      params['model'],
      support,
      num_steps=num_inner_steps,
      optimizer=_noisy_descent(inner_lr, noise_std, key),
      clip=clip,
      first_order=first_order,
    ).params

  return draw_model


def _noisy_descent(
  inner_lr: float, noise_std: float, key: Array
) -> optax.GradientTransformation:
  """Returns gradient descent with fresh noise on every step's gradient."""

  def init(params):
    del params
    return key

  def update(updates, state, params=None):
    del params
    next_key, step_key = jax.random.split(state)
    leaves, structure = jax.tree.flatten(updates)
    keys = jax.random.split(step_key, len(leaves))
    noisy = [
      -inner_lr * (g + noise_std * jax.random.normal(k, g.shape, g.dtype))
      for g, k in zip(leaves, keys, strict=True)
    ]
    return jax.tree.unflatten(structure, noisy), next_key

  return optax.GradientTransformation(init, update)
