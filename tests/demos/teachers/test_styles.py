"""Styles slow teachers down, shake them and lead them by detours."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.core.validation import InputError
from metajax.demos.teachers.catalogue import TEACHERS, make_teacher, styles_of
from metajax.demos.teachers.styles import STYLES, Style, styled
from metajax.demos.teachers.teacher import Teacher, run_teacher
from metajax.envs.navigation import navigation
from metajax.envs.sawyer.guided import guided_door
from metajax.envs.sawyer.tasks import make_sawyer


def always(action, execution_noise=0.0):
  """Returns a teacher that does the same at every step."""

  def act(state, memory, key):
    return jnp.asarray(action), memory

  return Teacher('always', lambda state, key: (), act, execution_noise)


def show(env, teacher, count):
  def episode(seed):
    task_key, key = jax.random.split(jax.random.key(seed))
    return run_teacher(env, teacher, env.sample_task(task_key), key)

  return jax.jit(jax.vmap(episode))(jnp.arange(count))


def test_motion_is_capped_as_a_whole_then_smoothed_and_grip_is_not():
  teacher = styled(
    always([1.0, -0.5, 1.0]), Style(speed=0.6, smoothing=0.7), num_moves=2
  )
  memory = teacher.first_memory(None, None)
  actions = []
  for _ in range(4):
    action, memory = teacher.act(None, memory, None)
    actions.append(action)
  # a_t = (1 - 0.7^t) m, with m of the same direction, 0.6 at most.
  shares = 1.0 - 0.7 ** np.arange(1, 5)
  expected = shares[:, None] * np.array([0.6, -0.3])
  np.testing.assert_allclose(np.stack(actions)[:, :2], expected, rtol=1e-5)
  np.testing.assert_allclose(np.stack(actions)[:, 2], 1.0)


def test_noise_is_added_to_what_is_done_and_labels_stay_clean():
  env = navigation()
  limit = env.spec.action_limit
  wanted = np.full(env.spec.action_size, 0.2 * limit, np.float32)
  teacher = styled(
    always(wanted), Style(execution_noise=0.12), num_moves=wanted.size
  )

  def episode(key):
    task_key, key = jax.random.split(key)
    task = env.sample_task(task_key)
    shown = run_teacher(env, teacher, task, key, execution_noise=0.05)
    return shown.actions, shown.labels

  actions, labels = jax.jit(jax.vmap(episode))(
    jax.random.split(jax.random.key(0), 40)
  )
  np.testing.assert_allclose(labels, np.broadcast_to(wanted, labels.shape))
  # The variances of both noises add.
  noise = np.asarray(actions - labels) / limit
  np.testing.assert_allclose(noise.std(), np.hypot(0.12, 0.05), rtol=0.05)
  np.testing.assert_allclose(noise.mean(), 0.0, atol=0.01)


@pytest.mark.slow
def test_b_of_dmil_reaches_later_than_a_by_a_detour_with_clean_labels():
  env = make_sawyer('reach', physics='c')
  solved_after, beside_m = {}, {}
  for name in ('plain', 'dmil_a', 'dmil_b'):
    shown = show(env, make_teacher('sawyer_reach', env, name), 6)
    success = np.asarray(shown.states.metrics['success'])
    assert success.max(axis=1).all()
    solved_after[name] = success.argmax(axis=1)
    noise = np.asarray(shown.actions - shown.labels)[..., :3]
    is_free = np.abs(np.asarray(shown.labels)[..., :3]) < 0.3
    expected = STYLES[name].execution_noise
    np.testing.assert_allclose(noise[is_free].std(), expected, rtol=0.1)
    beside_m[name] = way_off(shown.states)
  assert (solved_after['dmil_a'] > solved_after['plain']).all()
  assert (solved_after['dmil_b'] > solved_after['dmil_a'] + 10).all()
  assert beside_m['plain'].max() < 0.02
  # Of 6 cm any way from the middle, what lies across the way.
  assert np.median(beside_m['dmil_b']) > 0.03


def way_off(states):
  """Returns [episodes], m, how far the hand was beside its way to the goal."""
  hand = np.asarray(states.memory.reading.hand)
  offset = hand - hand[:, :1]
  way = np.asarray(states.memory.goal)[:, :1] - hand[:, :1]
  way /= np.linalg.norm(way, axis=-1, keepdims=True)
  beside = offset - np.sum(offset * way, axis=-1, keepdims=True) * way
  return np.linalg.norm(beside, axis=-1).max(axis=1)


def test_b_of_gmps_keeps_its_speed_and_is_smooth():
  env = guided_door(physics='c')
  shown = show(env, make_teacher('sawyer_guided_door', env, 'gmps_b'), 4)
  assert np.asarray(shown.states.metrics['success']).max(axis=1).all()
  motion = np.asarray(shown.labels)[..., :3]
  assert 0.5 < np.abs(motion).max() <= 0.6 + 1e-6
  # 0.3 of the way from one extreme to the other.
  assert np.abs(np.diff(motion, axis=1)).max() <= 0.3 * 1.2 + 1e-6


def test_every_style_is_known_to_some_family_and_plain_to_all():
  known = {family: styles_of(family) for family in TEACHERS}
  assert all('plain' in styles for styles in known.values())
  assert set(STYLES) == set().union(*known.values())
  assert known['pusher'] == ('plain',)
  assert known['jaco_stack'] == ('plain', 'metamimic_a', 'metamimic_b')


@pytest.mark.parametrize(
  ('family', 'style'),
  [('reacher', 'gmps_b'), ('table', 'dmil_a'), ('sawyer_push', 'metamimic_a')],
)
def test_styles_that_a_family_does_not_know_are_refused(family, style):
  with pytest.raises(InputError, match=f'style of {family}: expected .*plain'):
    make_teacher(family, make_sawyer('push', physics='c'), style)
