"""Learning curves of whatever a run can have logged."""

import numpy as np
import pytest

from metajax.run.figures.learning_curves import _running_mean, learning_curve
from tests.run.figures.ink import share_of_ink


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
  assert share_of_ink(path) > 0.005


def test_learning_curve_of_a_metric_that_was_never_logged(tmp_path):
  path = tmp_path / 'learning.png'
  learning_curve(path, {'ours': _rows([1.0])}, 'absent')
  assert path.exists()


def test_smoothing_keeps_the_level_up_to_the_ends():
  np.testing.assert_allclose(_running_mean(np.full(500, 3.0)), 3.0)
  few = np.arange(20.0)
  np.testing.assert_array_equal(_running_mean(few), few)
