"""Around a wall: the contract, what counts as around, and held-out walls."""

import jax
import jax.numpy as jnp
import numpy as np

from metajax.envs.environment import held_out
from metajax.envs.sawyer.around_wall import push_around_wall
from metajax.testing.environments import check_environment

# Beside the wall's ends, behind it and before it, from the wall's middle, m.
RIGHT, BEHIND, LEFT, FRONT = (0.2, 0.0), (0.0, 0.15), (-0.2, 0.0), (0.0, -0.15)
HALF_PI = 0.5 * np.pi


def test_the_contract_holds():
  check_environment(
    push_around_wall(physics='c'),
    num_envs=8,
    silent_fields=('.appearance.geom_rgba', '.appearance.texture_seeds'),
  )


def begin():
  """Returns the step and the state of a cube right before the wall."""
  env = push_around_wall(physics='c')
  task = env.sample_task(jax.random.key(0))
  task = task.replace(object_pos=task.wall + jnp.array([*FRONT, 0.02]))
  step = jax.jit(env.step)

  def put(state, place, height=0.02):
    """Puts the cube somewhere, at rest."""
    there = task.wall + jnp.array([*place, height])
    physics = state.physics._replace(
      qpos=state.physics.qpos.at[5:8].set(there),
      qvel=jnp.zeros_like(state.physics.qvel),
    )
    return step(state.replace(physics=physics), jnp.zeros((4,)))

  return put, env.reset(task, jax.random.key(1))


def test_reward_and_success_of_a_round_by_hand():
  put, first = begin()
  for way in (1.0, -1.0):
    state = put(first, FRONT)
    assert state.metrics['success'] == 0.0
    places = [(0.2 * way, 0.0), BEHIND, (-0.2 * way, 0.0), (-0.1 * way, -0.15)]
    # Quarters, and then the last one's part that is behind the cube.
    angles = [1, 2, 3, 3 + np.arctan2(0.15, 0.1) / HALF_PI]
    for place, quarters in zip(places, angles, strict=True):
      state = put(state, place)
      turned = way * quarters * HALF_PI
      np.testing.assert_allclose(state.metrics['turned_rad'], turned, atol=0.01)
      assert state.metrics['success'] == 0.0
    # 10 cm from home: of 40 cm three quarters; the hand far above.
    reading = state.memory.reading
    near = 1 - np.tanh(10 * np.linalg.norm(reading.tool - reading.object))
    np.testing.assert_allclose(state.reward, near + 3 + 0.75, atol=0.01)
    state = put(state, (0.04 * way, -0.15))
    assert state.metrics['success'] == 1.0
    assert state.reward > 5.0 + 3.0 + 0.85


def test_what_goes_over_the_wall_or_back_is_not_around_it():
  put, first = begin()
  state = first
  for y in (-0.15, -0.05, 0.05, 0.15):
    state = put(state, (0.0, y), height=0.2)
  for place in (BEHIND, LEFT, FRONT):
    state = put(state, place)
  np.testing.assert_allclose(state.metrics['turned_rad'], np.pi, atol=0.01)
  assert state.metrics['success'] == 0.0
  assert state.metrics['object_to_goal_m'] < 0.01

  state = first
  for place in (RIGHT, BEHIND, LEFT, BEHIND, RIGHT, FRONT):
    state = put(state, place)
  np.testing.assert_allclose(state.metrics['turned_rad'], 0.0, atol=0.01)
  assert state.metrics['success'] == 0.0


def test_observations_tell_the_wall_and_the_way_home():
  env = push_around_wall(physics='c')
  task = env.sample_task(jax.random.key(0))
  state = env.reset(task, jax.random.key(1))
  wall = np.append(task.wall, [1.0, 0.0, 0.0, 0.0])
  for half in (0, 18):
    np.testing.assert_allclose(state.observation[half + 11 :][:7], wall)
  np.testing.assert_array_equal(state.observation[36:], task.object_pos)
  fixture = env.model.body('fixture').id
  body_pos = env.fields_in(state)['body_pos']
  np.testing.assert_array_equal(body_pos[fixture], task.wall)


def test_held_out_walls_lie_between_those_of_training():
  env = push_around_wall(physics='c')
  strips, seeds = [], []
  for seed, sample in enumerate((env.sample_task, held_out(env).sample_task)):
    task = jax.vmap(sample)(jax.random.split(jax.random.key(seed), 500))
    x = np.asarray(task.wall[:, 0])
    strips.append(set(np.floor((x + 0.1) / 0.025).astype(int)))
    seeds.append(set(np.asarray(task.appearance.texture_seeds).ravel()) - {0})
  assert strips == [{0, 1, 3, 4, 6, 7}, {2, 5}]
  assert not seeds[0] & seeds[1]
