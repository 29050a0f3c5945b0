"""Paths in one task and in several."""

import numpy as np
import pytest

from metajax.run.figures.paths import PathFit, paths
from tests.run.figures.ink import share_of_ink


@pytest.mark.parametrize('num_tasks', [1, 4])
def test_paths(tmp_path, num_tasks):
  time = np.linspace(0.0, 1.0, 20)[:, None]
  goal = np.array([0.4, -0.3])
  fit = PathFit(goal=goal, before=[0.1 * time * [1, 1]], after=[time * goal])
  path = tmp_path / 'paths.png'
  paths(path, [fit] * num_tasks, title='Navigation')
  assert share_of_ink(path) > 0.005
