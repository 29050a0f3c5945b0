"""The rope: its goals, its pushes, its distance, both engines."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.core.compilation import compile_hot
from metajax.core.validation import InputError
from metajax.envs.environment import held_out
from metajax.envs.rope import goal_shapes, placed_shape, rope, shape_distances
from metajax.testing.environments import check_environment

AWAY = jnp.asarray([-1.0, -1.0, -1.0, 1.0])


@pytest.fixture(scope='module')
def env():
  return rope(physics='c')


@pytest.fixture(scope='module')
def step(env):
  return jax.jit(env.step)


@pytest.fixture(scope='module')
def first(env):
  return env.reset(env.sample_task(jax.random.key(0)), jax.random.key(1))


def pearls_of(state):
  return np.asarray(state.observation[:24]).reshape(12, 2)


def crossing_pushes(count):
  """Returns pushes [n, 4] from one side of the straight rope to the other."""
  generator = np.random.default_rng(0)
  sides = generator.choice([-1.0, 1.0], count)
  heights = generator.uniform(-0.3, 0.1, (2, count))
  ends = [sides * 0.2, heights[0], -sides * 0.2, heights[1]]
  return jnp.asarray(np.stack(ends, axis=1) / 0.4, jnp.float32)


def test_the_contract_holds(env):
  check_environment(env, num_envs=8, num_steps=5)


def test_goals_are_apart_and_none_is_the_straight_rope(env, first):
  shapes = goal_shapes()
  assert shapes.shape == (250, 12, 2)
  train, test = shapes[:240], shapes[240:]
  between = np.linalg.norm(
    (train[:, None] - test[None]).reshape(240, 10, 24), axis=-1
  )
  assert between.min() >= 0.05
  line = pearls_of(first)
  from_line = np.linalg.norm(
    (shapes - (line - line.mean(axis=0))[None]).reshape(250, 24), axis=-1
  )
  assert from_line.min() > 0.1
  keys = jax.random.split(jax.random.key(0), 50)
  goals = jax.vmap(held_out(env).sample_task)(keys).goal_shape
  assert (
    np.abs(goals[:, None] - test[None]).max(axis=(2, 3)).min(1) == 0
  ).all()


def test_the_distance_by_hand():
  shape = jnp.asarray([[0.0, 0.0], [0.2, 0.0], [0.4, 0.0]])
  moved = shape + jnp.asarray([[3.0, 4.0]])
  np.testing.assert_allclose(shape_distances(moved, shape), 0.0, atol=1e-5)
  # One of three is 0.3 m off, so the means are 0.1 m apart.
  bent = shape.at[0, 1].add(0.3)
  np.testing.assert_allclose(
    shape_distances(bent, shape), [0.2, 0.1, 0.1], rtol=1e-4
  )


def test_reward_is_the_distance_of_all_pearls(first, step):
  state = step(first, AWAY)
  goal = np.asarray(first.task.goal_shape)
  pearls = pearls_of(state)
  away = (pearls - pearls.mean(axis=0)) - (goal - goal.mean(axis=0))
  np.testing.assert_allclose(state.reward, -np.linalg.norm(away), rtol=1e-4)
  np.testing.assert_allclose(
    state.metrics['mean_distance_m'],
    np.linalg.norm(away, axis=1).mean(),
    rtol=1e-4,
  )


def test_a_push_beside_the_rope_leaves_it(first, step):
  state = step(first, AWAY)
  np.testing.assert_allclose(pearls_of(state), pearls_of(first), atol=1e-6)


def test_a_push_takes_a_pearl_along(first, step):
  """From left to right through the seventh pearl, at its height."""
  height = pearls_of(first)[6, 1]
  push = jnp.asarray([-0.1, height, 0.1, height]) / 0.4
  state = step(first, push)
  pearl = pearls_of(state)[6]
  # The balls' centres stand 15 mm above each other: sqrt(45^2 - 15^2) mm.
  np.testing.assert_allclose(pearl, [0.1 + 0.0424, height], atol=0.015)
  assert np.abs(state.observation[24:48]).max() < 0.02
  np.testing.assert_allclose(state.observation[48:50], -0.5)


def test_neighbours_stay_tied(first, env):
  pushes = crossing_pushes(32)
  states = jax.jit(jax.vmap(env.step, in_axes=(None, 0)))(first, pushes)
  pearls = np.asarray(states.observation[:, :24]).reshape(-1, 12, 2)
  ties = np.linalg.norm(np.diff(pearls, axis=1), axis=-1)
  assert ties.min() > 0.028
  assert ties.max() < 0.042


def test_a_success_does_not_depend_on_the_place(env, first, step):
  qpos = placed_shape(env, first.task.goal_shape, jax.random.key(4))
  pearls = np.asarray(qpos[:24]).reshape(12, 2) + pearls_of(first)
  assert np.abs(pearls).max() <= 0.36 + 1e-6
  state = first.replace(physics=first.physics._replace(qpos=qpos))
  assert step(state, AWAY).metrics['success'] == 1.0
  assert step(first, AWAY).metrics['success'] == 0.0


@pytest.mark.slow
def test_both_engines_push_alike(first, env):
  pushes = crossing_pushes(16)
  ends = [
    compile_hot(
      jax.vmap(lambda push, e=e: e.step(first, push).observation[:24]),
      holds_physics=e.holds_physics,
    )(pushes)
    for e in (env, rope())
  ]
  errors = np.abs(np.asarray(ends[0]) - np.asarray(ends[1])).max(axis=1)
  # Contact makes a few go other ways.
  assert np.median(errors) < 1e-4
  assert errors.max() < 2e-2


@pytest.mark.parametrize('horizon', [0, 9])
def test_arguments_are_checked(horizon):
  with pytest.raises(InputError, match='horizon'):
    rope(horizon)
