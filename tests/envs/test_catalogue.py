"""What every family in the catalogue keeps, on both engines."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.core.compilation import compile_hot
from metajax.core.validation import InputError
from metajax.envs.catalogue import FAMILIES, make_environment
from metajax.envs.engines import make_physics
from metajax.envs.environment import held_out
from metajax.envs.physics import PhysicsState
from metajax.testing.environments import check_stays_finite

# A scene of each kind of contact on every machine; the others are slow.
_SCENES = (
  'ant_velocity',
  'peg2d',
  'rope',
  'sawyer_push',
)
_BOX, _CAPSULE, _SPHERE = 6, 3, 2  # mjtGeom

build = functools.cache(functools.partial(make_environment, physics='c'))


def scenes():
  return [
    name if name in _SCENES else pytest.param(name, marks=pytest.mark.slow)
    for name in FAMILIES
  ]


@pytest.mark.slow
@pytest.mark.parametrize('name', FAMILIES)
def test_random_actions_stay_finite_for_long(name):
  check_stays_finite(build(name), num_envs=64, num_steps=1000)


@pytest.mark.parametrize('name', FAMILIES)
def test_a_held_out_task_is_of_the_same_form(name):
  env = build(name)
  task, other = (
    jax.eval_shape(x.sample_task, jax.random.key(0))
    for x in (env, held_out(env))
  )
  assert jax.tree.map(jnp.shape, task) == jax.tree.map(jnp.shape, other)
  state = jax.eval_shape(env.reset, other, jax.random.key(0))
  assert state.observation.shape == (env.spec.observation_size,)


@pytest.mark.parametrize('name', scenes())
def test_one_step_of_mjx_equals_c_mujoco(name):
  """From 100 states of episodes under random actions."""
  env = build(name)
  if env.model is None:
    pytest.skip('it has no body')
  states, fields, touches_boxes = states_of(env)
  controls = jax.random.uniform(
    jax.random.key(1), (100, env.model.nu), minval=-1.0
  )
  low, high = env.model.actuator_ctrlrange.T
  limited = env.model.actuator_ctrllimited.astype(bool)
  controls = jnp.where(
    limited[None],
    low[None] + (controls + 1) / 2 * (high - low)[None],
    controls,
  ).astype(jnp.float32)
  after = {}
  for engine in ('mjx', 'c'):
    physics = make_physics(env.model, engine)

    def step(state, ctrl, fields, physics=physics):
      return physics.step(state, ctrl, model_fields=fields)

    compiled = compile_hot(jax.vmap(step), holds_physics=physics.needs_options)
    after[engine] = compiled(states, controls, fields)
  (mjx_state, mjx_measured), (c_state, c_measured) = after.values()
  change = np.linalg.norm(c_state.qvel - states.qvel, axis=1)
  scale = np.linalg.norm(c_state.qvel, axis=1) + change + 1e-2
  error = np.linalg.norm(mjx_state.qvel - c_state.qvel, axis=1) / scale
  # Boxes and capsules meet by another algorithm in MJX than in C.
  tolerance = 2e-2 if touches_boxes else 1e-4
  distances = np.abs(mjx_measured.xpos - c_measured.xpos).max(axis=(1, 2))
  if name == 'ant_crippled_leg':  # which stands on such legs most of the time
    level = ~has_upright_capsules(env.model, c_measured)
    assert level.sum() >= 10
    error, distances = error[level], distances[level]
  assert np.median(error) < 1e-4
  assert np.quantile(error, 0.9) < tolerance, f'{np.sort(error)[-12:]}'
  assert np.quantile(distances, 0.9) < (1e-3 if touches_boxes else 1e-4)


def has_upright_capsules(model, measured):
  """Says where a capsule stands within 30 degrees of upright on the ground.

  MJX and C then turn the pyramid of its friction otherwise.
  """
  capsules = np.unique(
    [
      geom
      for geom in (*model.pair_geom1, *model.pair_geom2)
      if model.geom_type[geom] == _CAPSULE
    ]
  )
  upright = np.abs(measured.geom_xmat[:, capsules, 2, 2])
  return (upright > np.cos(np.pi / 6)).any(axis=1)


def states_of(env):
  """Returns 100 states of ten tasks, their model fields, and if boxes meet."""
  size, limit = env.spec.action_size, env.spec.action_limit
  num_steps = min(env.spec.horizon, 40)

  def episode(key):
    task_key, reset_key, action_key = jax.random.split(key, 3)
    task = env.sample_task(task_key)
    actions = jax.random.uniform(
      action_key, (num_steps, size), minval=-limit, maxval=limit
    )

    def step(state, action):
      state = env.step(state, action)
      return state, (state.physics, dict(env.fields_in(state)))

    first = env.reset(task, reset_key)
    _, met = jax.lax.scan(step, first, actions)
    picked = jnp.linspace(0, num_steps - 1, 10).astype(int)
    return jax.tree.map(lambda x: x[picked], met)

  keys = jax.random.split(jax.random.key(0), 10)
  physics, fields = jax.tree.map(
    lambda x: x.reshape(100, *x.shape[2:]), jax.jit(jax.vmap(episode))(keys)
  )
  model = env.model
  kinds = {
    frozenset((int(model.geom_type[a]), int(model.geom_type[b])))
    for a, b in zip(model.pair_geom1, model.pair_geom2, strict=True)
  }
  touches_boxes = any(_BOX in kind and 0 not in kind for kind in kinds)
  assert isinstance(physics, PhysicsState)
  return physics, fields, touches_boxes


def test_unknown_families_and_foreign_tasks_are_named():
  with pytest.raises(InputError, match='half_cheetah_velocity[?]'):
    make_environment('half_cheetah_velocty')
  with pytest.raises(InputError, match='physics: expected one of mjx, c'):
    make_environment('half_cheetah_velocity', physics='bullet')
  cheetah = build('half_cheetah_velocity')
  task = make_environment('navigation').sample_task(jax.random.key(0))
  with pytest.raises(InputError, match='task: .*half_cheetah.*Navigation'):
    cheetah.reset(task, jax.random.key(0))


def test_actions_that_do_not_fit_are_named():
  env = make_environment('navigation')
  state = env.reset(env.sample_task(jax.random.key(0)), jax.random.key(1))
  with pytest.raises(InputError, match=r'action: .*\[2\] for navigation.*3'):
    env.step(state, jnp.zeros((3,)))
  with pytest.raises(InputError, match='action: expected finite numbers'):
    env.step(state, jnp.array([0.0, jnp.nan]))
