"""RBAC: a recurrent dynamics model, whose hidden state is what adapts.

Sources: Finn, "Learning to Learn with Gradients" (2018), chapter 5; Nagabandi,
Clavera et al. (2019). See `metajax.learners.dynamics` for the objective. The
update rule is learned and the prior is not: theta is the hidden state of zeros,
and psi, the weights of an LSTM, are what is trained.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from metajax.core.learner import Learner
from metajax.learners.dynamics import DynamicsModel
from metajax.learners.transitions import (
  check_sizes,
  mean_squared_error,
  unit_normaliser,
)
from metajax.nets.recurrent import StackedLstm


def recurrent_dynamics(
  observation_size: int,
  action_size: int,
  *,
  hidden_sizes: Sequence[int] = (256, 256),
  invariant: Sequence[int] = (),
) -> DynamicsModel:
  """Returns RBAC: the model adapts by its hidden state (Finn 2018, chapter 5).

    h_0 = 0,  (h_{k+1}, D_k) = LSTM_psi(h_k, (s_k, a_k))
    phi = h_t

  with D_k the standardised change of the observation. A controller's phi has
  seen the whole episode (M = t); in training, the support. What the last
  action did is told by the observation that comes next, so the network sees
  it one step later.

  Args:
    observation_size: length of an observation.
    action_size: length of an action.
    hidden_sizes: units of each LSTM layer.
    invariant: elements of the observation that the network does not see. Their
      change is predicted.

  Returns:
    The dynamics model. Its memory, its carry and phi are a hidden state, the
    `Carry` of `metajax.nets.recurrent`; its adapted is `{'model': psi,
    'normaliser': Normaliser, 'carry': phi}`.

  Raises:
    InputError: for an argument that is out of its range.
  """
  check_sizes(observation_size, action_size, invariant)
  network = StackedLstm(hidden_sizes, observation_size)
  input_size = observation_size + action_size - len(invariant)

  def init(key, episode):
    del episode  # the sizes are known
    inputs = jnp.zeros((input_size,))
    return {
      'model': network.init(key, network.first_carry(), inputs)['params'],
      'normaliser': unit_normaliser(observation_size, action_size),
    }

  def unroll(adapted, carry, observations, actions):
    """Predicts standardised changes `[steps, observation_size]`."""
    inputs = adapted['normaliser'].normalised_inputs(
      observations, actions, invariant
    )
    return network.unroll(adapted['model'], carry, inputs)

  def adapt(params, memory):
    normaliser = jax.lax.stop_gradient(params['normaliser'])
    return {'model': params['model'], 'normaliser': normaliser, 'carry': memory}

  def learn(params, support, key):
    del key
    prior = adapt(params, network.first_carry())
    carry, _ = unroll(
      prior, prior['carry'], support.observations, support.actions
    )
    return {**prior, 'carry': carry}

  def loss(params, adapted, query, key):
    del params, key
    _, predicted = unroll(
      adapted, adapted['carry'], query.observations, query.actions
    )
    return mean_squared_error(adapted['normaliser'], predicted, query), {}

  def predict_steps(adapted, inputs):
    observations, actions = inputs
    _, predicted = unroll(adapted, adapted['carry'], observations, actions)
    return adapted['normaliser'].next_observations(observations, predicted)

  def observe(params, memory, transition):
    one = jax.tree.map(lambda x: x[None], transition)
    return unroll(params, memory, one.observations, one.actions)[0]

  def predict(adapted, carry, observations, actions):
    inputs = adapted['normaliser'].normalised_inputs(
      observations, actions, invariant
    )
    carry, predicted = network.apply(
      {'params': adapted['model']}, carry, inputs
    )
    normaliser = adapted['normaliser']
    return normaliser.next_observations(observations, predicted), carry

  return DynamicsModel(
    learner=Learner(init, learn, loss, predict_steps),
    first_memory=lambda params: network.first_carry(),
    observe=observe,
    adapt=adapt,
    first_carry=lambda adapted: adapted['carry'],
    predict=predict,
  )
