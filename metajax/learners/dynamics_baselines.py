"""The baselines of online adaptation: a fixed model, and dynamic evaluation.

Source: Finn, "Learning to Learn with Gradients" (2018), chapter 5. They are
dynamics models as GBAC is (`metajax.learners.dynamics`), of the same network
and with the same parameters.
"""

from collections.abc import Sequence

from flax import struct

from metajax.core.learner import Params
from metajax.learners.dynamics import DynamicsModel, gradient_dynamics
from metajax.learners.transitions import Window


def fixed_dynamics(
  observation_size: int,
  action_size: int,
  *,
  hidden_sizes: Sequence[int] = (512, 512, 512),
  invariant: Sequence[int] = (),
) -> DynamicsModel:
  """Returns MB: one model for all environments, which does not adapt.

    min_theta  mean over transitions of L                          (equation 14)

  Args:
    observation_size: length of an observation.
    action_size: length of an action.
    hidden_sizes: units of each hidden layer, with rectifiers.
    invariant: elements of the observation that the network does not see.

  Returns:
    The dynamics model; its memory is `()`, its adapted the parameters. It
    learns from the queries.

  Raises:
    InputError: for an argument that is out of its range.
  """
  model = gradient_dynamics(
    observation_size,
    action_size,
    hidden_sizes=hidden_sizes,
    inner_lr=1.0,  # of no step
    window=1,
    num_inner_steps=0,
    invariant=invariant,
  )

  def adapt(params, memory):
    del memory
    return {'model': params['model'], 'normaliser': params['normaliser']}

  return model._replace(
    first_memory=lambda params: (),
    observe=lambda params, memory, transition: (),
    adapt=adapt,
  )


@struct.dataclass
class CarriedModel:
  """The memory of dynamic evaluation that does not restart."""

  phi: Params  # pytree of arrays, the parameters after all steps so far
  window: Window  # [window, ...], the last transitions


def evaluated_dynamics(
  observation_size: int,
  action_size: int,
  *,
  hidden_sizes: Sequence[int] = (512, 512, 512),
  inner_lr: float,
  window: int,
  restart: bool,
  invariant: Sequence[int] = (),
) -> DynamicsModel:
  """Returns MB+DE: dynamic evaluation of the parameters of `fixed_dynamics`.

  One gradient step at every control step, on the last M transitions, once M
  are seen (Krause et al. 2017):

    phi_t = theta - alpha * grad L(tau(t-M, t-1), theta)           (restart)
    phi_t = phi_{t-1} - alpha * grad L(tau(t-M, t-1), phi_{t-1})   (carried)

  The two agree at the first step, and on an episode of one window.

  Args:
    observation_size: length of an observation.
    action_size: length of an action.
    hidden_sizes: units of each hidden layer, as of the trained model.
    inner_lr: alpha, > 0.
    window: M, >= 1.
    restart: whether every step starts from theta; else where the last ended.
    invariant: elements of the observation that the network does not see.

  Returns:
    The dynamics model. Its memory is a `Window` or a `CarriedModel`.

  Raises:
    InputError: for an argument that is out of its range.
  """
  restarting = gradient_dynamics(
    observation_size,
    action_size,
    hidden_sizes=hidden_sizes,
    inner_lr=inner_lr,
    window=window,
    invariant=invariant,
  )
  if restart:
    return restarting

  def first_memory(params):
    return CarriedModel(params['model'], restarting.first_memory(params))

  def observe(params, memory: CarriedModel, transition) -> CarriedModel:
    seen = restarting.observe(params, memory.window, transition)
    adapted = restarting.adapt({**params, 'model': memory.phi}, seen)
    return CarriedModel(adapted['model'], seen)

  def adapt(params, memory: CarriedModel):
    return {'model': memory.phi, 'normaliser': params['normaliser']}

  return restarting._replace(
    first_memory=first_memory, observe=observe, adapt=adapt
  )
