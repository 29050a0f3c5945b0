"""Dynamics models that learn while they act, and GBAC among them.

Sources: Finn, "Learning to Learn with Gradients" (2018), chapter 5; Nagabandi,
Clavera et al., "Learning to Adapt in Dynamic, Real-World Environments through
Meta-Reinforcement Learning" (2019). Every moment is a task: learn from the
last M transitions, predict the next K.

  min_theta  E_{environment, t}[ L(tau(t, t+K-1), phi) ]           (equation 15)
             with phi = u(tau(t-M, t-1), theta)
  L(tau, phi) = mean over steps and elements of
                (D_k - f_phi(s_k, a_k))^2                          (equation 16)

D_k is the change s_{k+1} - s_k, standardised, and f_phi what the network makes
of the standardised observation and action: a Gaussian of fixed variance around
it, whose negative log-likelihood L is up to constants. GBAC is here, RBAC in
`metajax.learners.recurrent_dynamics`, and what they are compared with in
`metajax.learners.dynamics_baselines`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
from jax import Array
import jax.numpy as jnp

from metajax.core.adaptation import gradient_adapt, learned_step_sizes
from metajax.core.learner import Adapted, Learner, Params, PyTree
from metajax.core.validation import check_count, check_positive
from metajax.learners.transitions import (
  Transitions,
  Window,
  check_sizes,
  empty_window,
  mean_squared_error,
  unit_normaliser,
)
from metajax.nets.perceptrons import Perceptron


class DynamicsModel(NamedTuple):
  """A learner of dynamics, and the same learner step by step as it acts.

  A controller keeps one `memory` an episode: it observes every transition,
  adapts before every action, and plans with what it adapted to.

  >>> import jax
  >>> import jax.numpy as jnp
  >>> model = gradient_dynamics(
  ...   3, 1, hidden_sizes=(8,), inner_lr=0.01, window=4
  ... )
  >>> seen = Transitions(jnp.ones(3), jnp.ones(1), jnp.ones(3))
  >>> params = model.learner.init(jax.random.key(0), None)
  >>> memory = model.first_memory(params)
  >>> memory = model.observe(params, memory, seen)
  >>> adapted = model.adapt(params, memory)
  >>> carry = model.first_carry(adapted)
  >>> model.predict(adapted, carry, jnp.ones((5, 3)), jnp.ones((5, 1)))[0].shape
  (5, 3)

  Attributes:
    learner: the learner of episodes of `Transitions`, M in the support and the
      K that follow in the query. Its parameters are `{'model': theta,
      'normaliser': Normaliser}`; `init` gives statistics that change nothing,
      to be replaced by those of data. Its `predict` takes the observations
      `[K, o]` and actions `[K, a]` of consecutive steps and returns the next
      observations `[K, o]`, each predicted from the one before it that is
      given. Its loss has no metrics.
    first_memory: `(params) -> memory` at the start of an episode.
    observe: `(params, memory, transition) -> memory` after every step;
      `transition` is `Transitions` without the axis of steps.
    adapt: `(params, memory) -> adapted` before every step.
    first_carry: `(adapted) -> carry`, what a plan rolls forward beside the
      observation: `()`, or a copy of the live hidden state, of one rollout.
    predict: `(adapted, carry, observations [n, o], actions [n, a]) ->
      (next_observations [n, o], carry)`, of n rollouts whose carries have the
      axis n in front. Changes are clipped to the range that was seen.
  """

  learner: Learner
  first_memory: Callable[[Params], PyTree]
  observe: Callable[[Params, PyTree, Transitions], PyTree]
  adapt: Callable[[Params, PyTree], Adapted]
  first_carry: Callable[[Adapted], PyTree]
  predict: Callable[[Adapted, PyTree, Array, Array], tuple[Array, PyTree]]


def model_errors(
  model: DynamicsModel,
  params: Params,
  support: Transitions,
  query: Transitions,
) -> dict[str, Array]:
  """Returns what adaptation does to the error of one-step predictions.

  Args:
    model: the dynamics model.
    params: its parameters.
    support: [M] transitions to adapt to.
    query: [K] transitions to be judged on, those that follow.

  Returns:
    `unadapted` with theta and `adapted` with phi, each [] float32: the mean
    squared error of standardised changes, over elements and the K steps.
  """
  unadapted = model.adapt(params, model.first_memory(params))
  # The dynamics models draw nothing: their keys serve the learner's signature.
  adapted = model.learner.adapt(params, support, jax.random.key(0))

  def error(adapted):
    return model.learner.loss(params, adapted, query, jax.random.key(0))[0]

  return {'unadapted': error(unadapted), 'adapted': error(adapted)}


def gradient_dynamics(
  observation_size: int,
  action_size: int,
  *,
  hidden_sizes: Sequence[int] = (512, 512, 512),
  inner_lr: float,
  window: int,
  num_inner_steps: int = 1,
  invariant: Sequence[int] = (),
  first_order: bool = False,
  learn_inner_lr: bool = False,
) -> DynamicsModel:
  """Returns GBAC: the model adapts by gradient steps (Finn 2018, chapter 5).

    phi = theta - alpha * grad_theta L(tau(t-M, t-1), theta)       (equation 18)

  with M = `window` and, before every control step, always from theta. Until M
  transitions of the episode are seen, phi = theta. The order of the window
  does not matter.

  Args:
    observation_size: length of an observation.
    action_size: length of an action.
    hidden_sizes: units of each hidden layer, with rectifiers.
    inner_lr: alpha, > 0; where it is learned, what it starts from.
    window: M, transitions to adapt to, >= 1.
    num_inner_steps: gradient steps, >= 0.
    invariant: elements of the observation that the network does not see, as
      the way travelled, which grows without bound. Their change is predicted.
    first_order: stop the outer gradient at the inner gradients.
    learn_inner_lr: learn a step size for every leaf and step, as
      `params['inner_lr']`.

  Returns:
    The dynamics model; its memory is a `Window`, its adapted `{'model': phi,
    'normaliser': Normaliser}`.

  Raises:
    InputError: for an argument that is out of its range.
  """
  check_sizes(observation_size, action_size, invariant)
  check_positive('inner_lr', inner_lr)
  check_count('window', window)
  check_count('num_inner_steps', num_inner_steps, minimum=0)
  learns_step_sizes = learn_inner_lr and num_inner_steps > 0
  network = Perceptron(hidden_sizes, observation_size)
  input_size = observation_size + action_size - len(invariant)

  def init(key, episode):
    del episode  # the sizes are known
    theta = network.init(key, jnp.zeros((input_size,)))['params']
    params = {
      'model': theta,
      'normaliser': unit_normaliser(observation_size, action_size),
    }
    if learns_step_sizes:
      params['inner_lr'] = learned_step_sizes(theta, inner_lr, num_inner_steps)
    return params

  def changes(adapted, observations, actions):
    inputs = adapted['normaliser'].normalised_inputs(
      observations, actions, invariant
    )
    predicted = network.apply({'params': adapted['model']}, inputs)
    assert isinstance(predicted, Array)
    return predicted

  def error(adapted, transitions):
    predicted = changes(adapted, transitions.observations, transitions.actions)
    return mean_squared_error(adapted['normaliser'], predicted, transitions)

  def update(params, transitions):
    normaliser = jax.lax.stop_gradient(params['normaliser'])
    phi = gradient_adapt(
      lambda phi, data: error({'model': phi, 'normaliser': normaliser}, data),
      params['model'],
      transitions,
      num_steps=num_inner_steps,
      inner_lr=params['inner_lr'] if learns_step_sizes else inner_lr,
      first_order=first_order,
    ).params
    return {'model': phi, 'normaliser': normaliser}

  def adapt(params, memory: Window):
    adapted = update(params, memory.transitions)
    phi = jax.tree.map(
      lambda new, old: jnp.where(memory.is_full(), new, old),
      adapted['model'],
      params['model'],
    )
    return {**adapted, 'model': phi}

  def predict(adapted, carry, observations, actions):
    predicted = changes(adapted, observations, actions)
    normaliser = adapted['normaliser']
    return normaliser.next_observations(observations, predicted), carry

  return DynamicsModel(
    learner=Learner(
      init=init,
      adapt=lambda params, support, key: update(params, support),
      loss=lambda params, adapted, query, key: (error(adapted, query), {}),
      predict=lambda adapted, inputs: predict(adapted, (), *inputs)[0],
    ),
    first_memory=lambda params: empty_window(
      window, observation_size, action_size
    ),
    observe=lambda params, memory, transition: memory.push(transition),
    adapt=adapt,
    first_carry=lambda adapted: (),
    predict=predict,
  )
