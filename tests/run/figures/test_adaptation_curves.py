"""Adaptation curves, with and without the paper's values."""

from metajax.run.figures.adaptation_curves import Curve, adaptation_curve
from tests.run.figures.ink import share_of_ink


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
  assert share_of_ink(plain) > 0.01
  assert share_of_ink(marked) > 0.01
