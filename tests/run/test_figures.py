"""Figures are drawn from whatever a run can hold."""

from matplotlib import image
import numpy as np
import pytest

from metajax.run.figures import (
  Curve,
  FunctionFit,
  PathFit,
  adaptation_curve,
  function_fits,
  learning_curve,
  paths,
)


def _ink(path) -> float:
  """Returns the share of a PNG that is not white."""
  pixels = image.imread(path)[..., :3]
  assert pixels.shape[0] > 200
  assert pixels.shape[1] > 200
  return float((pixels.min(axis=-1) < 0.95).mean())


def _rows(values) -> list[dict]:
  return [
    {'step': 10 * (i + 1), 'meta/loss': value} for i, value in enumerate(values)
  ]


@pytest.mark.parametrize('log_scale', [False, True])
@pytest.mark.parametrize(
  'values',
  [
    [3.0],
    [3.0, 2.0, 1.0],
    [3.0, None, 1.0],
    [[3.0, 2.0], [1.0, None]],
    list(np.linspace(3.0, 1.0, 200)),
    [[3.0, 2.0, 2.5]] * 100,
  ],
  ids=['one', 'three', 'gap', 'seeds', 'many', 'many_seeds'],
)
def test_learning_curve(tmp_path, values, log_scale):
  path = tmp_path / 'figures' / 'learning.png'
  learning_curve(
    path, {'ours': _rows(values)}, 'meta/loss', log_scale=log_scale
  )
  assert _ink(path) > 0.005


def test_learning_curve_of_a_metric_that_was_never_logged(tmp_path):
  path = tmp_path / 'learning.png'
  learning_curve(path, {'ours': _rows([1.0])}, 'absent')
  assert path.exists()


def test_smoothing_keeps_the_level_up_to_the_ends(tmp_path):
  from metajax.run.figures import _running_mean

  np.testing.assert_allclose(_running_mean(np.full(500, 3.0)), 3.0)
  few = np.arange(20.0)
  np.testing.assert_array_equal(_running_mean(few), few)


def test_adaptation_curve_with_and_without_reference(tmp_path):
  plain, marked = tmp_path / 'plain.png', tmp_path / 'marked.png'
  curves = {
    'MAML': ([3.0, 0.5, 0.2], [0.3, 0.1, None]),
    'pretrained': Curve([3.0, 2.5], [0.3, 0.3], steps=[0, 2]),
  }
  adaptation_curve(plain, curves)
  adaptation_curve(
    marked,
    curves,
    reference={'MAML': {1: 0.6}, 'another': {2: 1.0}},
    title='Loss against adaptation',
    ylabel='mean squared error',
    log_scale=True,
  )
  assert _ink(plain) > 0.01
  assert _ink(marked) > 0.01


@pytest.mark.parametrize('num_tasks', [1, 4])
def test_function_fits(tmp_path, num_tasks):
  inputs = np.linspace(-5.0, 5.0, 50)
  fit = FunctionFit(
    inputs=inputs,
    truth=np.sin(inputs),
    support_inputs=inputs[::10],
    support_targets=np.sin(inputs[::10]),
    predictions={'before': 0 * inputs, 'after 1 step': 0.9 * np.sin(inputs)},
  )
  path = tmp_path / 'fits.png'
  function_fits(path, [fit] * num_tasks, title='Sinusoids')
  assert _ink(path) > 0.01


@pytest.mark.parametrize('num_tasks', [1, 4])
def test_paths(tmp_path, num_tasks):
  time = np.linspace(0.0, 1.0, 20)[:, None]
  goal = np.array([0.4, -0.3])
  fit = PathFit(goal=goal, before=[0.1 * time * [1, 1]], after=[time * goal])
  path = tmp_path / 'paths.png'
  paths(path, [fit] * num_tasks, title='Navigation')
  assert _ink(path) > 0.005


def test_a_figure_is_whole_or_not_there(tmp_path):
  learning_curve(tmp_path / 'a.png', {'ours': _rows([1.0])}, 'meta/loss')
  assert [entry.name for entry in tmp_path.iterdir()] == ['a.png']
