"""Dynamics models against steps by hand, while acting, and as methods."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax.core.algorithm import init_key, step_key
from metajax.core.learner import Episode, TaskFamily
from metajax.core.meta_training import meta_train
from metajax.core.validation import InputError
from metajax.learners.dynamics import gradient_dynamics, model_errors
from metajax.learners.dynamics_baselines import (
  evaluated_dynamics,
  fixed_dynamics,
)
from metajax.learners.recurrent_dynamics import recurrent_dynamics
from metajax.learners.transitions import Transitions, normaliser_of
from metajax.rl.planning import model_returns, random_shooting
from metajax.testing.learners import check_learner

M, K, ALPHA = 8, 6, 0.05


def rotations(data, key, support_steps=M, query_steps=K):
  """x' = A x + B u, with A a rotation by the task's own angle, shrunk."""
  del data
  task_key, first_key, action_key = jax.random.split(key, 3)
  angle = jax.random.uniform(task_key, (), minval=-2.0, maxval=2.0)
  cosine, sine = jnp.cos(angle), jnp.sin(angle)
  matrix = 0.95 * jnp.array([[cosine, -sine], [sine, cosine]])

  def step(state, action):
    following = matrix @ state + jnp.array([0.5, -0.3]) * action[0]
    return following, Transitions(state, action, following)

  _, transitions = jax.lax.scan(
    step,
    jax.random.normal(first_key, (2,)),
    jax.random.normal(action_key, (support_steps + query_steps, 1)),
  )
  return Episode(
    task=angle,
    support=jax.tree.map(lambda x: x[:support_steps], transitions),
    query=jax.tree.map(lambda x: x[support_steps:], transitions),
  )


TASKS = TaskFamily(rotations)
GRADIENT = functools.partial(
  gradient_dynamics, 2, 1, hidden_sizes=(16, 16), inner_lr=ALPHA, window=M
)
EVALUATED = functools.partial(
  evaluated_dynamics, 2, 1, hidden_sizes=(16, 16), inner_lr=ALPHA, window=M
)
FIXED = functools.partial(fixed_dynamics, 2, 1, hidden_sizes=(16, 16))
RECURRENT = functools.partial(recurrent_dynamics, 2, 1, hidden_sizes=(6, 5))
MODELS = {
  'gbac': GRADIENT(),
  'gbac_learned_step_sizes': GRADIENT(learn_inner_lr=True, num_inner_steps=2),
  'gbac_first_order': GRADIENT(first_order=True),
  'rbac': RECURRENT(),
  'fixed': FIXED(),
  'evaluated_restarting': EVALUATED(restart=True),
  'evaluated_carried': EVALUATED(restart=False),
}


def episode_of(steps, seed=0):
  return rotations((), jax.random.key(seed), steps, K)


def params_of(model, seed=1):
  """Parameters with the statistics of a few episodes."""
  params = model.learner.init(jax.random.key(seed), episode_of(M))
  seen = jax.vmap(lambda key: rotations((), key).query)(
    jax.random.split(jax.random.key(5), 20)
  )
  normaliser = normaliser_of(seen, jnp.ones((20, K), bool))
  return {**params, 'normaliser': normaliser}


def one(transitions, t):
  return jax.tree.map(lambda x: x[t], transitions)


def acted(model, params, transitions):
  """Returns the memory after every number of transitions, from 0 on."""
  observe = jax.jit(model.observe)
  memories = [model.first_memory(params)]
  for t in range(transitions.actions.shape[0]):
    memories.append(observe(params, memories[-1], one(transitions, t)))
  return memories


def assert_trees_close(one, other, **tolerances):
  assert jax.tree.structure(one) == jax.tree.structure(other)
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
    np.testing.assert_allclose(
      a, b, **{'rtol': 1e-5, 'atol': 1e-6} | tolerances
    )


def error_by_hand(theta, normaliser, transitions):
  """The mean squared error of equation 16, written out."""
  observations, actions, following = transitions
  hidden = jnp.concatenate(
    [
      (observations - normaliser.observation_mean[None])
      / normaliser.observation_std[None],
      (actions - normaliser.action_mean[None]) / normaliser.action_std[None],
    ],
    axis=1,
  )
  for layer in ('Dense_0', 'Dense_1'):
    hidden = hidden @ theta[layer]['kernel'] + theta[layer]['bias'][None]
    hidden = jnp.maximum(hidden, 0.0)
  predicted = (
    hidden @ theta['Dense_2']['kernel'] + theta['Dense_2']['bias'][None]
  )
  change = following - observations - normaliser.change_mean[None]
  return jnp.mean((predicted - change / normaliser.change_std[None]) ** 2)


def stepped(theta, normaliser, transitions, alpha=ALPHA):
  gradient = jax.grad(error_by_hand)(theta, normaliser, transitions)
  return jax.tree.map(lambda p, g: p - alpha * g, theta, gradient)


@pytest.mark.parametrize(
  'name',
  [
    name if name == 'gbac' else pytest.param(name, marks=pytest.mark.slow)
    for name in MODELS
  ],
)
def test_dynamics_models_keep_the_contract_of_a_learner(name):
  check_learner(
    MODELS[name].learner,
    TASKS,
    inputs=lambda query: (query.observations, query.actions),
    num_tasks=2,
    tolerance=1e-4,
  )


@pytest.mark.parametrize('name', MODELS)
def test_the_statistics_are_never_trained(name):
  learner, params = MODELS[name].learner, params_of(MODELS[name])
  episode = episode_of(M)

  def objective(params):
    adapted = learner.adapt(params, episode.support, jax.random.key(0))
    return learner.loss(params, adapted, episode.query, jax.random.key(0))[0]

  gradient = jax.grad(objective)(params)
  assert all((g == 0).all() for g in jax.tree.leaves(gradient['normaliser']))
  # And of all else, step sizes too, every leaf is.
  del gradient['normaliser']
  assert all((g != 0).any() for g in jax.tree.leaves(gradient))


def test_gbac_adapts_by_the_gradient_step_of_the_paper():
  model, episode = MODELS['gbac'], episode_of(M + 5)
  params = params_of(model)
  theta, normaliser = params['model'], params['normaliser']
  memories = acted(model, params, episode.support)
  adapt = jax.jit(model.adapt)
  for seen, memory in enumerate(memories):
    expected = theta
    if seen >= M:
      # From theta, whatever was adapted to before.
      window = jax.tree.map(lambda x, t=seen: x[t - M : t], episode.support)
      expected = stepped(theta, normaliser, window)
      assert_trees_close(
        model.learner.adapt(params, window, jax.random.key(0)),
        {'model': expected, 'normaliser': normaliser},
      )
    got = adapt(params, memory)['model']
    assert_trees_close(got, expected, rtol=0 if seen < M else 1e-5)
    query_loss, _ = model.learner.loss(
      params, adapt(params, memory), episode.query, jax.random.key(0)
    )
    np.testing.assert_allclose(
      query_loss, error_by_hand(expected, normaliser, episode.query), rtol=1e-5
    )


def test_several_steps_with_learned_step_sizes_by_hand():
  model, episode = MODELS['gbac_learned_step_sizes'], episode_of(M)
  params = params_of(model)
  sizes = jnp.array([0.02, 0.08])
  params['inner_lr'] = jax.tree.map(lambda _: sizes, params['inner_lr'])
  expected = params['model']
  for size in sizes:
    expected = stepped(expected, params['normaliser'], episode.support, size)
  memory = acted(model, params, episode.support)[-1]
  assert_trees_close(model.adapt(params, memory)['model'], expected)


@pytest.mark.parametrize('restart', [True, False])
def test_dynamic_evaluation_takes_one_step_a_control_step(restart):
  model, episode = EVALUATED(restart=restart), episode_of(M + 4)
  # The parameters are those of the fixed model.
  params = params_of(MODELS['fixed'])
  phi, normaliser = params['model'], params['normaliser']
  for seen, memory in enumerate(acted(model, params, episode.support)):
    if seen >= M:
      window = jax.tree.map(lambda x, t=seen: x[t - M : t], episode.support)
      start = params['model'] if restart else phi
      phi = stepped(start, normaliser, window)
    adapted = model.adapt(params, memory)
    assert_trees_close(adapted, {'model': phi, 'normaliser': normaliser})


def test_a_fixed_model_stays_as_it_is():
  model, params = MODELS['fixed'], params_of(MODELS['fixed'])
  memories = acted(model, params, episode_of(M).support)
  assert memories == [()] * (M + 1)
  assert_trees_close(model.adapt(params, ()), params, rtol=0, atol=0)
  support = episode_of(M).support
  adapted = model.learner.adapt(params, support, jax.random.key(0))
  assert_trees_close(adapted, params, rtol=0, atol=0)


def test_rbac_ingests_step_by_step_what_one_scan_ingests():
  model, episode = MODELS['rbac'], episode_of(20)
  params = params_of(model)
  memories = acted(model, params, episode.support)
  for seen in (0, 1, 7, 20):
    start = jax.tree.map(lambda x, t=seen: x[:t], episode.support)
    whole = model.learner.adapt(params, start, jax.random.key(0))
    assert_trees_close(model.adapt(params, memories[seen]), whole)
  # The loss goes on from there, through all steps of the query.
  adapted = model.adapt(params, memories[-1])
  carry, errors = model.first_carry(adapted), []
  carry = jax.tree.map(lambda x: x[None], carry)
  for t in range(K):
    step = one(episode.query, slice(t, t + 1))
    following, carry = model.predict(
      adapted, carry, step.observations, step.actions
    )
    scale = params['normaliser'].change_std[None]
    errors.append((following - step.next_observations) / scale)
  loss, _ = model.learner.loss(
    params, adapted, episode.query, jax.random.key(0)
  )
  np.testing.assert_allclose(loss, np.mean(np.square(errors)), rtol=1e-4)


def test_the_order_of_the_window_matters_to_rbac_alone():
  episode = episode_of(M)
  order = jnp.array([3, 0, 7, 5, 1, 2, 6, 4])
  shuffled = jax.tree.map(lambda x: x[order], episode.support)
  for name, sees_order in (('gbac', False), ('rbac', True)):
    model = MODELS[name]
    params = params_of(model)
    errors = [
      model_errors(model, params, support, episode.query)['adapted']
      for support in (episode.support, shuffled)
    ]
    assert sees_order == (abs(errors[0] - errors[1]) > 1e-4 * errors[0])
    # Another episode's window makes a difference to both.
    other = model_errors(model, params, episode_of(M, 3).support, episode.query)
    assert abs(errors[0] - other['adapted']) > 1e-3 * errors[0]


@pytest.mark.parametrize('name', MODELS)
def test_errors_before_and_after_adaptation(name):
  model, episode = MODELS[name], episode_of(M)
  params = params_of(model)
  got = model_errors(model, params, episode.support, episode.query)
  if name == 'rbac':
    prior = model.adapt(params, model.first_memory(params))
    before = model.learner.loss(
      params, prior, episode.query, jax.random.key(0)
    )[0]
  else:
    before = error_by_hand(params['model'], params['normaliser'], episode.query)
  np.testing.assert_allclose(got['unadapted'], before, rtol=1e-5)
  memory = acted(model, params, episode.support)[-1]
  after = model.learner.loss(
    params, model.adapt(params, memory), episode.query, jax.random.key(0)
  )[0]
  np.testing.assert_allclose(got['adapted'], after, rtol=1e-5)
  assert (got['adapted'] == got['unadapted']) == (name == 'fixed')


@pytest.mark.parametrize('name', ['gbac', 'rbac', 'evaluated_carried'])
def test_planning_leaves_the_live_memory_alone(name):
  model, episode = MODELS[name], episode_of(M + 1)
  params = params_of(model)
  memory = acted(model, params, episode.support)[-1]
  before = jax.tree.map(np.array, memory)
  adapted = model.adapt(params, memory)
  carry = model.first_carry(adapted)

  @jax.jit
  def score(sequences):
    return model_returns(
      model.predict,
      lambda observation, action, following: following[0] - action[0] ** 2,
      adapted,
      carry,
      episode.query.observations[0],
      sequences,
    )

  sequences = jax.random.normal(jax.random.key(0), (5, 4, 1))
  returns = score(sequences)
  assert np.unique(returns).size == 5
  # Each begins at the live hidden state, whoever is rolled out beside it.
  for i in range(5):
    alone = score(sequences[i : i + 1])
    np.testing.assert_allclose(returns[i], alone[0], rtol=1e-4, atol=1e-5)
  random_shooting(
    score,
    jax.random.key(1),
    num_sequences=20,
    horizon=4,
    action_size=1,
    action_limit=1.0,
  )
  np.testing.assert_array_equal(score(sequences), returns)
  assert_trees_close(memory, before, rtol=0, atol=0)
  assert_trees_close(model.adapt(params, memory), adapted, rtol=0, atol=0)


def test_a_plan_of_rbac_rolls_the_hidden_state_forward():
  model, episode = MODELS['rbac'], episode_of(M)
  params = params_of(model)
  adapted = model.adapt(params, acted(model, params, episode.support)[-1])
  carry = jax.tree.map(lambda x: x[None], model.first_carry(adapted))
  step = one(episode.query, slice(0, 1))
  first, rolled = model.predict(adapted, carry, step.observations, step.actions)
  # As if the predicted step had happened.
  seen = Transitions(step.observations[0], step.actions[0], first[0])
  lived = model.observe(params, adapted['carry'], seen)
  assert_trees_close(jax.tree.map(lambda x: x[0], rolled), lived)
  second, _ = model.predict(adapted, carry, step.observations, step.actions)
  np.testing.assert_array_equal(first, second)
  third, _ = model.predict(adapted, rolled, step.observations, step.actions)
  assert jnp.max(jnp.abs(third - first)) > 1e-4


@pytest.mark.parametrize('make', [GRADIENT, FIXED, RECURRENT])
def test_changes_are_clipped_to_the_range_seen(make):
  model = make()
  params = params_of(model)
  # The first change is predicted too small, the second too large.
  normaliser = params['normaliser'].replace(
    change_mean=jnp.array([-50.0, 50.0])
  )
  params['normaliser'] = normaliser
  adapted = model.adapt(params, model.first_memory(params))
  carry = jax.tree.map(lambda x: x[None], model.first_carry(adapted))
  observations = jnp.array([[3.0, -2.0]])
  following, _ = model.predict(adapted, carry, observations, jnp.ones((1, 1)))
  np.testing.assert_allclose(
    (following - observations)[0],
    [normaliser.change_low[0], normaliser.change_high[1]],
    rtol=1e-5,
  )
  inputs = (observations, jnp.ones((1, 1)))
  np.testing.assert_allclose(
    model.learner.predict(adapted, inputs), following, rtol=1e-5
  )


@pytest.mark.parametrize('make', [GRADIENT, FIXED, RECURRENT])
def test_an_invariant_element_moves_along_but_changes_nothing(make):
  model = make(invariant=(1,))
  params = params_of(model)
  adapted = model.adapt(params, model.first_memory(params))
  observations = jnp.array([[0.3, -0.2], [0.3, 40.0], [0.5, -0.2]])
  carry = jax.tree.map(lambda x: jnp.stack([x] * 3), model.first_carry(adapted))
  following, _ = model.predict(adapted, carry, observations, jnp.ones((3, 1)))
  changes = following - observations
  np.testing.assert_allclose(changes[0], changes[1], atol=1e-5)
  assert jnp.max(jnp.abs(changes[0] - changes[2])) > 1e-3
  assert (jnp.abs(changes[:, 1]) > 1e-3).all()


@pytest.mark.parametrize(
  'settings', [{'inner_lr': 0.0}, {'window': 0}, {'invariant': (2,)}]
)
def test_wrong_settings_are_named(settings):
  with pytest.raises(InputError, match=next(iter(settings))):
    GRADIENT(**settings)


@pytest.fixture(name='errors', scope='module')
def fixture_errors():
  """Errors of trained models on held-out tasks, `[tasks]` each."""
  steps = 16
  tasks = TaskFamily(
    lambda data, key: rotations(
      data, key, support_steps=steps, query_steps=steps
    )
  )
  sizes = {'hidden_sizes': (32, 32)}
  models = {
    'gbac': gradient_dynamics(2, 1, inner_lr=0.1, window=steps, **sizes),
    'rbac': recurrent_dynamics(2, 1, hidden_sizes=(32,)),
    'fixed': fixed_dynamics(2, 1, **sizes),
  }

  def errors(model):
    algorithm = meta_train(
      model.learner, tasks, optax.adam(5e-3), meta_batch_size=16
    )

    @jax.jit
    def trained(key_data):
      key = jax.random.wrap_key_data(key_data)
      state = algorithm.init(algorithm.data, init_key(key))

      def step(state, i):
        return algorithm.step(algorithm.data, state, step_key(key, i))[0], None

      params = jax.lax.scan(step, state, jnp.arange(250))[0].params

      def test(key):
        episode = tasks.sample((), key)
        return model_errors(model, params, episode.support, episode.query)

      return jax.vmap(test)(jax.random.split(jax.random.key(99), 200))

    return trained(jax.random.key_data(jax.random.key(0)))

  return {name: errors(model) for name, model in models.items()}


@pytest.mark.slow
def test_gbac_learns_to_adapt_to_unknown_dynamics(errors):
  before = errors['gbac']['unadapted'].mean()
  after = errors['gbac']['adapted'].mean()
  fixed = errors['fixed']['adapted'].mean()
  assert after < 0.5 * before
  assert after < 0.5 * fixed
  # Post-update errors lie left of the others task by task too.
  is_less = errors['gbac']['adapted'] < errors['gbac']['unadapted']
  assert is_less.mean() > 0.9


@pytest.mark.slow
def test_rbac_learns_to_adapt_to_unknown_dynamics(errors):
  after = errors['rbac']['adapted'].mean()
  # From nothing it still adapts along the query.
  assert after < 0.5 * errors['rbac']['unadapted'].mean()
  assert after < 0.3 * errors['fixed']['adapted'].mean()
