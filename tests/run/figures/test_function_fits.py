"""Fitted functions of one task and of several."""

import numpy as np
import pytest

from metajax.run.figures.function_fits import FunctionFit, function_fits
from tests.run.figures.ink import share_of_ink


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
  assert share_of_ink(path) > 0.01
