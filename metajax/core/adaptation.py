"""The inner loop: gradient descent on a task, itself differentiable.

Source: Finn, "Learning to Learn with Gradients" (2018), section 4.1; Finn,
Abbeel and Levine (2017), equation 1. One inner step is

  phi^{k+1} = phi^k - alpha * grad_{phi^k} L(phi^k, D_tr)

and nothing here stops the outer gradient from passing through it, unless
first order is asked for (Finn 2018, section 4.3).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
from jax import Array
import jax.numpy as jnp
import optax

from metajax.core.learner import Params, PyTree
from metajax.core.validation import (
  InputError,
  check_count,
  check_positive,
  check_same_structure,
)

# Unrolled loops let XLA fuse across steps (15 to 25 % faster); beyond these
# many steps compile time and memory say scan.
_MAX_UNROLLED_STEPS = 5


class Adaptation(NamedTuple):
  """What the inner loop did.

  Attributes:
    params: the adapted parameters phi; with `keep_trajectory`, every leaf has
      a leading `[num_steps + 1]` axis, from theta to phi.
    losses: [num_steps] float, the support loss before each inner step.
  """

  params: Params
  losses: Array


def gradient_adapt(
  loss: Callable[[Params, PyTree], Array],
  params: Params,
  data: PyTree,
  *,
  num_steps: int,
  inner_lr: PyTree | None = None,
  optimizer: optax.GradientTransformation | None = None,
  adapts: PyTree | None = None,
  clip: float | None = None,
  first_order: bool = False,
  rematerialise: bool = False,
  data_axis: int | None = None,
  keep_trajectory: bool = False,
) -> Adaptation:
  """Adapts `params` to one task by gradient steps on `loss`.

  Differentiable with respect to `params`, `inner_lr` and `data`: an outer
  `jax.grad` sees through every inner step.

  >>> import jax.numpy as jnp
  >>> loss = lambda w, x: jnp.sum((w - x) ** 2)
  >>> float(gradient_adapt(loss, 1.0, 0.0, num_steps=2, inner_lr=0.25).params)
  0.25

  Args:
    loss: `(params, data) -> scalar`, L of the inner step.
    params: pytree of arrays, theta.
    data: pytree of arrays, D_tr.
    num_steps: inner gradient steps, >= 0.
    inner_lr: alpha of plain gradient descent: a scalar, a `[num_steps]` array
      (one size a step), or a pytree like `params` whose leaves are either, one
      size a leaf (and step). It may be learned: see `learned_step_sizes`.
    optimizer: an optax transformation to take the steps with, in place of
      plain gradient descent. Its state starts afresh for every task.
    adapts: pytree of bools like `params`: which leaves adapt. None: all do.
    clip: bound on each element of the inner gradient, > 0. None: no bound.
    first_order: treat the inner gradients as constants in the outer gradient
      (first-order MAML, phi = theta + const).
    rematerialise: recompute each inner step in the outer backward pass, so
      that memory grows with the parameters and not with the activations.
    data_axis: 0 if every leaf of `data` has a leading `[num_steps]` axis of
      fresh data for each step, as in reinforcement learning; None if every
      step sees the same data.
    keep_trajectory: return the parameters after every step.

  Returns:
    The adapted parameters and the support loss before every step.

  Raises:
    InputError: for a negative number of steps, a step size or bound that is
      not positive, both or neither of `inner_lr` and `optimizer`, or trees
      that do not match.
  """
  _check(params, num_steps, inner_lr, optimizer, adapts, clip, data_axis, data)
  take_step = _descent(num_steps, inner_lr, optimizer, params)

  def inner_step(carry, index):
    phi, optimizer_state = carry
    step_data = data
    if data_axis is not None:
      step_data = jax.tree.map(lambda x: jnp.asarray(x)[index], data)
    value, gradient = jax.value_and_grad(loss)(phi, step_data)
    chex.assert_rank(value, 0)
    if adapts is not None:
      gradient = _where_adapts(adapts, gradient)
    if clip is not None:
      gradient = optax.tree.clip(gradient, min_value=-clip, max_value=clip)
    if first_order:
      gradient = jax.lax.stop_gradient(gradient)
    updates, optimizer_state = take_step(gradient, optimizer_state, phi, index)
    if adapts is not None:
      updates = _where_adapts(adapts, updates)
    phi = optax.apply_updates(phi, updates)
    return (phi, optimizer_state), (value, phi if keep_trajectory else ())

  optimizer_state = () if optimizer is None else optimizer.init(params)
  (phi, _), (losses, trajectory) = _loop(
    inner_step, (params, optimizer_state), num_steps, rematerialise
  )
  if not keep_trajectory:
    return Adaptation(phi, losses)
  if num_steps == 0:
    first = jax.tree.map(lambda x: jnp.asarray(x)[None], params)
    return Adaptation(first, losses)
  trajectory = jax.tree.map(
    lambda first, rest: jnp.concatenate([jnp.asarray(first)[None], rest]),
    params,
    trajectory,
  )
  return Adaptation(trajectory, losses)


def learned_step_sizes(
  params: Params, inner_lr: float, num_steps: int
) -> PyTree:
  """Returns initial step sizes to be meta-learned, one a leaf and step.

  Put them beside the model's parameters in `Learner.init` and hand them to
  `gradient_adapt` as `inner_lr`.

  Args:
    params: pytree of arrays that will adapt.
    inner_lr: alpha to begin with, > 0.
    num_steps: inner gradient steps, >= 1.

  Returns:
    A pytree like `params` with `[num_steps]` float32 leaves.

  Raises:
    InputError: if `inner_lr` or `num_steps` is not positive.
  """
  check_positive('inner_lr', inner_lr)
  check_count('num_steps', num_steps)
  return jax.tree.map(
    lambda _: jnp.full((num_steps,), inner_lr, jnp.float32), params
  )


def _descent(num_steps, inner_lr, optimizer, params):
  """Returns `(gradient, state, phi, index) -> (updates, state)`."""
  if optimizer is not None:
    return lambda gradient, state, phi, _: optimizer.update(
      gradient, state, phi
    )
  one_size = jax.tree.structure(inner_lr) == jax.tree.structure(0.0)
  sizes = jax.tree.map(lambda _: inner_lr, params) if one_size else inner_lr

  def take_step(gradient, state, phi, index):
    del phi

    def update(size, g):
      size = jnp.asarray(size)[index] if jnp.ndim(size) == 1 else size
      return -size * g

    return jax.tree.map(update, sizes, gradient), state

  return take_step


def _loop(body, carry, num_steps, rematerialise):
  """Runs `body` for `num_steps`: unrolled if few, else as a scan."""
  if rematerialise:
    # Checkpointing pays only inside a scan: across unrolled steps XLA merges
    # the recomputation with the original again.
    return jax.lax.scan(jax.checkpoint(body), carry, jnp.arange(num_steps))
  if num_steps > _MAX_UNROLLED_STEPS:
    return jax.lax.scan(body, carry, jnp.arange(num_steps))
  outputs = []
  for index in range(num_steps):
    carry, output = body(carry, index)
    outputs.append(output)
  if not outputs:
    return carry, (jnp.zeros((0,)), ())
  return carry, jax.tree.map(lambda *leaves: jnp.stack(leaves), *outputs)


def _where_adapts(adapts, tree):
  """Keeps the leaves of `tree` that adapt; the others become zeros."""
  return jax.tree.map(
    lambda adapt, leaf: leaf if adapt else jnp.zeros_like(leaf), adapts, tree
  )


def _check(
  params, num_steps, inner_lr, optimizer, adapts, clip, data_axis, data
):
  check_count('num_steps', num_steps, minimum=0)
  if (inner_lr is None) == (optimizer is None):
    raise InputError(
      'inner_lr, optimizer: expected exactly one of them, got '
      + ('neither' if inner_lr is None else 'both')
    )
  if inner_lr is not None:
    _check_step_sizes(inner_lr, params, num_steps)
  if adapts is not None:
    check_same_structure('adapts', adapts, params)
  if clip is not None:
    check_positive('clip', clip)
  if data_axis not in (None, 0):
    raise InputError(f'data_axis: expected None or 0, got {data_axis!r}')
  if data_axis == 0:
    for leaf in jax.tree.leaves(data):
      if jnp.ndim(leaf) == 0 or leaf.shape[0] != num_steps:
        raise InputError(
          f'data: expected a leading axis of num_steps = {num_steps}, '
          f'got the shape {jnp.shape(leaf)}'
        )


def _check_step_sizes(inner_lr: Any, params: Params, num_steps: int) -> None:
  sizes = jax.tree.leaves(inner_lr)
  if len(sizes) != 1 or jax.tree.structure(inner_lr) != jax.tree.structure(0.0):
    check_same_structure('inner_lr', inner_lr, params)
  for size in sizes:
    # An array of a device may have been learned, and then it may be negative.
    if not isinstance(size, jax.Array):
      check_positive('inner_lr', size)
    if jnp.shape(size) not in ((), (num_steps,)):
      raise InputError(
        f'inner_lr: expected a scalar or an array of shape ({num_steps},), '
        f'got the shape {jnp.shape(size)}'
      )
