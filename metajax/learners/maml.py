"""MAML: meta-learning the initial parameters of a model.

Sources: Finn, Abbeel and Levine, "Model-Agnostic Meta-Learning for Fast
Adaptation of Deep Networks" (2017); Finn, "Learning to Learn with Gradients"
(2018), chapter 4. With `first_order`, section 4.3.

  phi_i = theta - alpha * grad_theta L(theta, D_tr_i)              (inner)
  min_theta  sum_i L(phi_i, D_test_i)                              (equation 1)

The baselines are learners too. Training with no inner step is pretraining on
all tasks at once; not training at all is learning from scratch; and on a
family that reveals the task, pretraining is the oracle.
"""

from collections.abc import Callable
from typing import NamedTuple

from flax import struct
import jax
import jax.numpy as jnp

from metajax.core.adaptation import gradient_adapt, learned_step_sizes
from metajax.core.learner import Learner, Metrics, Params, PyTree
from metajax.core.validation import check_count, check_positive
from metajax.learners.task_losses import (
  Measures,
  TaskLoss,
  loss_of_network,
  nothing,
  squared_error,
)

# Says of parameters theta which leaves adapt: a pytree of bools like them.
WhatAdapts = Callable[[Params], PyTree]


@struct.dataclass
class MamlConfig:
  """Settings of supervised MAML; the defaults are the sinusoid experiment's.

  Floats are leaves and may be swept; the rest is static.
  """

  inner_lr: float = 0.01  # alpha
  outer_lr: float = 1e-3  # beta, of Adam
  num_inner_steps: int = struct.field(pytree_node=False, default=1)
  first_order: bool = struct.field(pytree_node=False, default=False)
  learn_inner_lr: bool = struct.field(pytree_node=False, default=False)
  rematerialise: bool = struct.field(pytree_node=False, default=False)
  meta_batch_size: int = struct.field(pytree_node=False, default=25)
  task_chunk_size: int | None = struct.field(pytree_node=False, default=None)
  shots: int = struct.field(pytree_node=False, default=10)
  query_shots: int = struct.field(pytree_node=False, default=10)
  hidden_sizes: tuple[int, ...] = struct.field(
    pytree_node=False, default=(40, 40)
  )
  bias_transformation_size: int = struct.field(pytree_node=False, default=0)
  # Meta-iterations between validations, of which the best state is tested.
  validate_every: int = struct.field(pytree_node=False, default=2000)
  # Meta-test: gradient steps, held-out tasks, and the points of each task.
  num_test_steps: int = struct.field(pytree_node=False, default=10)
  num_test_tasks: int = struct.field(pytree_node=False, default=1000)
  test_shots: int = struct.field(pytree_node=False, default=5)
  test_query_shots: int = struct.field(pytree_node=False, default=100)
  # Step sizes with which the baselines are fine-tuned, chosen on tasks of the
  # training distribution for the loss after one step.
  pretrained_inner_lr: float = 0.005
  from_scratch_inner_lr: float = 0.005
  context_inner_lr: float = 0.1
  multi_task_inner_lr: float = 0.005
  # The context-vector baseline's free inputs.
  context_size: int = struct.field(pytree_node=False, default=5)
  # The multi-task baselines: 500 networks in 70,000 meta-iterations. Of the
  # penalties that were tried, a third of a decade apart, these are the greatest
  # that leave the mean error on a network's own task below 0.02.
  network_lr: float = 5e-3  # of Adam
  norm_penalty: float = 1e-3
  mean_penalty: float = 1e-2
  iterations_per_network: int = struct.field(pytree_node=False, default=140)
  updates_per_iteration: int = struct.field(pytree_node=False, default=10)
  network_batch_size: int = struct.field(pytree_node=False, default=25)


class FineTuned(NamedTuple):
  """What fine-tuning made of a task, after every step.

  Attributes:
    params: pytree like theta with a leading `[num_steps + 1]` axis.
    support_measures: name to `[num_steps + 1]`, measured on the support.
  """

  params: Params
  support_measures: Metrics


def maml(
  network,
  task_loss: TaskLoss = squared_error,
  *,
  inner_lr: float,
  measures: Measures = nothing,
  what_adapts: WhatAdapts | None = None,
  clip: float | None = None,
  num_inner_steps: int = 1,
  first_order: bool = False,
  learn_inner_lr: bool = False,
  rematerialise: bool = False,
) -> Learner:
  """Returns MAML around a network (Finn 2018, algorithm 2).

  Args:
    network: a flax module, `apply({'params': theta}, inputs) -> predictions`.
    task_loss: `(predictions, targets) -> scalar`, L.
    inner_lr: alpha, > 0; where it is learned, what it starts from.
    measures: `(predictions, targets) -> metrics` of the query, reported.
    what_adapts: says of theta which leaves adapt. None: all do.
    clip: bound on each element of the inner gradient, > 0. None: no bound.
    num_inner_steps: gradient steps, >= 0; with none, the learner does not
      adapt and training it is pretraining on all tasks.
    first_order: stop the outer gradient at the inner gradients.
    learn_inner_lr: learn a step size for every leaf and step.
    rematerialise: trade recomputation for memory in the outer backward pass.

  Returns:
    A `Learner` on `Examples` whose parameters are `{'model': theta}`, with
    `'inner_lr'` beside it where that is learned, and whose adapted is phi.

  Raises:
    InputError: for a step size or a count that is out of range.
  """
  check_positive('inner_lr', inner_lr)
  check_count('num_inner_steps', num_inner_steps, minimum=0)
  learns_step_sizes = learn_inner_lr and num_inner_steps > 0

  inner_loss = loss_of_network(network, task_loss)

  def init(key, episode):
    theta = network.init(key, episode.support.inputs)['params']
    params = {'model': theta}
    if learns_step_sizes:
      params['inner_lr'] = learned_step_sizes(theta, inner_lr, num_inner_steps)
    return params

  def adapt(params, support, key):
    del key
    step_sizes = params['inner_lr'] if learns_step_sizes else inner_lr
    return gradient_adapt(
      inner_loss,
      params['model'],
      support,
      num_steps=num_inner_steps,
      inner_lr=step_sizes,
      adapts=None if what_adapts is None else what_adapts(params['model']),
      clip=clip,
      first_order=first_order,
      rematerialise=rematerialise,
    ).params

  def loss(params, adapted, query, key):
    del params, key
    predictions = predict(adapted, query.inputs)
    return task_loss(predictions, query.targets), measures(
      predictions, query.targets
    )

  def predict(adapted, inputs):
    return network.apply({'params': adapted}, inputs)

  return Learner(init, adapt, loss, predict)


def fine_tuning_curve(
  network,
  task_loss: TaskLoss = squared_error,
  *,
  inner_lr: float,
  num_steps: int,
  measures: Measures = nothing,
  what_adapts: WhatAdapts | None = None,
  clip: float | None = None,
) -> Learner:
  """Returns the meta-test learner that reports every step of fine-tuning.

  It takes the parameters that `maml` trains. Learned step sizes serve the
  steps they were learned for, and their last one those beyond.

  Args:
    network: as of `maml`.
    task_loss: as of `maml`.
    inner_lr: alpha at meta-test, > 0.
    num_steps: gradient steps, all on the same support examples, >= 0.
    measures: as of `maml`; taken on the support, too.
    what_adapts: as of `maml`.
    clip: as of `maml`.

  Returns:
    A `Learner` whose adapted is a `FineTuned`, and whose metrics are
    `query_loss/step_0` and so on, and of each measure NAME `NAME/step_0` and
    `support_NAME/step_0` and so on. Its `predict` gives the predictions after
    every step.

  Raises:
    InputError: for a step size or a count that is out of range.
  """
  learner = maml(network, task_loss, inner_lr=inner_lr, num_inner_steps=0)
  check_count('num_steps', num_steps, minimum=0)

  def inner_loss(theta, examples):
    return task_loss(learner.predict(theta, examples.inputs), examples.targets)

  def measured(theta, examples):
    predictions = learner.predict(theta, examples.inputs)
    return measures(predictions, examples.targets)

  def adapt(params, support, key):
    del key
    theta = params['model']
    trajectory = gradient_adapt(
      inner_loss,
      theta,
      support,
      num_steps=num_steps,
      inner_lr=_extended(params.get('inner_lr', inner_lr), num_steps),
      adapts=None if what_adapts is None else what_adapts(theta),
      clip=clip,
      keep_trajectory=True,
    ).params
    return FineTuned(
      trajectory, _along(lambda theta: measured(theta, support), trajectory)
    )

  def loss(params, adapted, query, key):
    del params, key
    found = _along(
      lambda theta: {
        'query_loss': inner_loss(theta, query),
        **measured(theta, query),
      },
      adapted.params,
    )
    found |= {
      f'support_{name}': values
      for name, values in adapted.support_measures.items()
    }
    metrics = {
      f'{name}/step_{step}': values[step]
      for name, values in found.items()
      for step in range(num_steps + 1)
    }
    return found['query_loss'][-1], metrics

  def predict(adapted, inputs):
    return _along(lambda theta: learner.predict(theta, inputs), adapted.params)

  return Learner(learner.init, adapt, loss, predict)


def _along(function, trajectory):
  """Applies `function` to the parameters after every step, one by one."""
  # Not side by side: convolutions with weights of their own do not like that.
  return jax.lax.map(function, trajectory)


def _extended(step_sizes, num_steps):
  """Repeats the last of learned step sizes up to `num_steps`."""

  def extend(size):
    if jnp.ndim(size) == 0:
      return size
    index = jnp.minimum(jnp.arange(num_steps), size.shape[0] - 1)
    return size[index]

  return jax.tree.map(extend, step_sizes)
