"""The Jaco's teacher does what it is asked for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.demos.jaco_teacher import JacoStyle, jaco_teacher
from metajax.demos.teacher import run_teacher
from metajax.envs.jaco.stacking import jaco

# Steps by which it has always been done: 2 to 3 times what it takes.
_HORIZONS = {'reach': 100, 'lift': 150, 'stack': 250}


def draw(env, num_tasks):
  keys = jax.random.split(jax.random.key(0), (2, num_tasks))
  return jax.jit(jax.vmap(env.sample_task))(keys[0]), keys[1]


@pytest.mark.parametrize(
  ('stage', 'blocks'),
  [
    ('reach', 'equal'),
    ('lift', 'equal'),
    ('stack', 'equal'),
    ('stack', 'varied'),
  ],
)
def test_it_succeeds_and_stays_so(stage, blocks):
  env = jaco(stage, blocks=blocks, horizon=_HORIZONS[stage], physics='c')
  teacher = jaco_teacher(env, stage)
  states = jax.jit(
    jax.vmap(lambda task, key: run_teacher(env, teacher, task, key).states)
  )(*draw(env, 8))
  assert np.asarray(states.metrics['success'])[:, -10:].min() == 1.0


def test_its_style_shows():
  """A slower hand takes longer; a lower one carries lower."""
  env = jaco(horizon=_HORIZONS['stack'], physics='c')
  speeds, lifts = jnp.array([0.2, 0.1]), jnp.array([0.1, 0.07])

  def show(speed, lift, task, key):
    style = JacoStyle(speed_m_per_s=speed, lift_m=lift)
    return run_teacher(env, jaco_teacher(env, style=style), task, key).states

  over_tasks = jax.vmap(show, in_axes=(None, None, 0, 0))
  over_styles = jax.vmap(over_tasks, in_axes=(0, 0, None, None))
  states = jax.jit(over_styles)(speeds, lifts, *draw(env, 4))
  quick, slow = np.asarray(states.metrics['success']).argmax(axis=2)
  high, low = np.asarray(states.metrics['height_m']).max(axis=2)
  assert (slow > quick + 20).all()
  assert (low < high - 0.01).all()
