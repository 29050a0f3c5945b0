"""Sampled functions and decision boundaries of one task and of several."""

import numpy as np
import pytest

from metajax.run.figures.decision_boundaries import (
  DecisionBoundaries,
  decision_boundaries,
)
from metajax.run.figures.sampled_functions import (
  SampledFunctions,
  sampled_functions,
)
from tests.run.figures.ink import share_of_ink


@pytest.mark.parametrize('num_tasks', [1, 3])
def test_sampled_functions(tmp_path, num_tasks):
  inputs = np.linspace(-5.0, 5.0, 50)
  task = SampledFunctions(
    inputs=inputs,
    truth=np.sin(inputs),
    support_inputs=inputs[::10],
    support_targets=np.sin(inputs[::10]),
    samples=np.sin(inputs + np.linspace(0, 1, 5)[:, None]),
    single=0.8 * np.sin(inputs),
  )
  path = tmp_path / 'samples.png'
  sampled_functions(path, [task] * num_tasks, title='Sinusoids')
  assert share_of_ink(path) > 0.01


@pytest.mark.parametrize('num_tasks', [1, 3])
def test_decision_boundaries(tmp_path, num_tasks):
  axis = np.linspace(0.0, 5.0, 21)
  distance = np.hypot(axis - 2.5, axis[:, None] - 2.5)
  task = DecisionBoundaries(
    axis=axis,
    truth=distance < 1.0,
    support=np.array([[2.5, 2.5]]),
    # The last one is positive everywhere and has no boundary.
    samples=np.stack([radius - distance for radius in (0.5, 1.5, 9.0)]),
    single=1.2 - distance,
  )
  path = tmp_path / 'boundaries.png'
  decision_boundaries(path, [task] * num_tasks, title='Circles')
  assert share_of_ink(path) > 0.01
