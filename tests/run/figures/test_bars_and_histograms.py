"""Figures of conditions: bars with intervals, histograms, time courses."""

import numpy as np
from PIL import Image
import pytest

from metajax.core.validation import InputError
from metajax.run.figures.bars import bars
from metajax.run.figures.histograms import histograms
from metajax.run.figures.time_courses import time_courses


def test_bars_are_drawn_though_a_method_is_missing_somewhere(tmp_path):
  path = tmp_path / 'new' / 'bars.png'
  bars(
    path,
    {
      'seen': {'ours': (3.0, 0.5), 'theirs': (-1.0, 0.2)},
      'unseen': {'ours': (1.0, 0.5)},
    },
    title='Return',
    ylabel='return',
  )
  assert np.asarray(Image.open(path)).std() > 5
  with pytest.raises(InputError, match='groups: expected at least one bar'):
    bars(path, {'seen': {}})


def test_histograms_leave_out_what_has_no_logarithm(tmp_path):
  path = tmp_path / 'errors.png'
  values = np.random.default_rng(0).lognormal(size=200)
  values[:3] = [np.nan, 0.0, np.inf]
  histograms(
    path, {'one': {'before': values, 'after': 0.1 * values}}, xlabel='error'
  )
  assert np.asarray(Image.open(path)).std() > 5
  with pytest.raises(InputError, match="panels.'one'.: expected positive"):
    histograms(path, {'one': {'before': [0.0, np.nan]}})


def test_time_courses_leave_out_episodes_that_ended(tmp_path):
  path = tmp_path / 'courses.png'
  values = np.random.default_rng(0).lognormal(size=(20, 6))
  values[:3, 4:] = np.nan
  values[:, 5] = np.nan  # none has got so far
  panels = {'one': {'before': values, 'after': 0.1 * values}}
  time_courses(path, np.arange(6.0), panels, ylabel='error')
  assert np.asarray(Image.open(path)).std() > 5
  with pytest.raises(InputError, match=r"'before'\]: expected \[episodes, 5\]"):
    time_courses(path, np.arange(5.0), panels)
  with pytest.raises(InputError, match='panels: expected at least one'):
    time_courses(path, np.arange(5.0), {})
