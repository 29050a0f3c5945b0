"""The experiments of PLATIPUS run to their end at `smoke`."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from experiments.platipus_circles import boundary_measures, grid
from experiments.sampled_functions import function_measures, rank_correlation
from metajax.core.learner import Examples
from tests.experiments.binaries import launch
from tests.tasks.image_writers import write_celeba, write_mini_imagenet

METHODS = ('', 'unconditional_prior/', 'maml/', 'maml/noise/', 'maml_noise/')


def test_list():
  done = launch('platipus', '--list')
  assert done.returncode == 0, done.stderr
  names = [line.split()[0] for line in done.stdout.splitlines()]
  assert names == [
    'ambiguous_regression',
    'circles',
    'celeba',
    'mini_imagenet_5_way_1_shot',
  ]


@pytest.mark.slow
@pytest.mark.parametrize(
  ('experiment', 'metrics', 'pictures'),
  [
    (
      'ambiguous_regression',
      ['variance_far', 'joint_mixture_nll', 'fitted_std'],
      ['variance.png', 'samples_5_points.png', 'learning_curve.png'],
    ),
    (
      'circles',
      ['area_covered', 'joint_mixture_nll', 'contains_support'],
      ['boundaries.png', 'learning_curve.png'],
    ),
  ],
)
def test_smoke(tmp_path, experiment, metrics, pictures):
  workdir = tmp_path / 'run'
  done = launch(
    'platipus',
    '--preset=smoke',
    f'--experiment={experiment}',
    f'--workdir={workdir}',
  )
  assert done.returncode == 0, done.stderr
  found = json.loads((workdir / 'evaluation.json').read_text())['metrics']
  for method in METHODS:
    for metric in metrics:
      assert found[method + metric]['n'] == 20
  if experiment == 'ambiguous_regression':
    assert all(f'{shots}_shot/variance' in found for shots in (1, 3, 10, 20))
  for picture in pictures:
    assert (workdir / 'figures' / picture).stat().st_size > 1000


def test_rank_correlation_is_scipys():
  first, second = np.random.default_rng(0).normal(size=(2, 40))
  second += first
  np.testing.assert_allclose(
    rank_correlation(jnp.float32(first), jnp.float32(second)),
    stats.spearmanr(first, second).statistic,
    rtol=1e-4,
  )


def test_measures_of_functions_by_hand():
  """Two samples, a line and a sinusoid, that part on the right."""
  inputs = np.linspace(-5.0, 5.0, 80, dtype=np.float32)
  line, sinusoid = 0.5 * inputs, 2.0 * np.sin(inputs)
  truth = 0.5 * inputs
  outputs = jnp.stack([line, sinusoid])[..., None]
  query = Examples(jnp.array(inputs)[:, None], jnp.array(truth)[:, None])
  support = Examples(jnp.array([[0.0]]), jnp.array([[0.0]]))
  got = function_measures(outputs, query, support)
  variance = np.var([line, sinusoid], axis=0)
  order = np.argsort(np.abs(inputs))
  expected = {
    'squared_error': np.mean((sinusoid - truth) ** 2) / 2,
    'best_error': 0.0,
    'variance': variance.mean(),
    'variance_near': variance[order[:20]].mean(),
    'variance_far': variance[order[-20:]].mean(),
    'variance_tells_error': 1.0,
    'are_lines': 0.5,
    'are_sinusoids': 0.5,
    'holds_both_kinds': 1.0,
  }
  assert set(got) == set(expected)
  for name, value in expected.items():
    np.testing.assert_allclose(
      got[name], value, rtol=1e-3, atol=1e-3, err_msg=name
    )
  assert function_measures(outputs[:1], query, support)['holds_both_kinds'] == 0


def test_measures_of_boundaries_by_hand():
  """Two classifiers: the left third of the square, and all of it."""
  points = grid()
  assert points.shape == (41 * 41, 2)
  logits = jnp.stack(
    [jnp.where(points[:, 0] < 5 / 3, 1.0, -1.0), jnp.ones(len(points))]
  )
  labels = jnp.array([[1.0], [0.0]])
  query_logits = jnp.array([[[1.0], [-1.0]], [[1.0], [1.0]]])
  got = boundary_measures(
    query_logits, labels, logits, jnp.float32(10.0), -query_logits[:, :1]
  )
  third = 25.0 * 14 / 41  # so many columns of the grid
  log_right, log_wrong = jax.nn.log_sigmoid(jnp.array([1.0, -1.0]))
  right, wrong = np.exp(log_right), np.exp(log_wrong)
  expected = {
    'accuracy': 0.75,
    'best_accuracy': 1.0,
    'area': (third + 25.0) / 2,
    'area_spread': (25.0 - third) / 2,
    'area_covered': 1.0,
    'area_error': 10.0 - third,
    'contains_support': 0.0,
    'mixture_nll': -(np.log(right) + np.log((right + wrong) / 2)) / 2,
    'joint_mixture_nll': -np.log((right**2 + right * wrong) / 2) / 2,
  }
  assert set(got) == set(expected)
  for name, value in expected.items():
    np.testing.assert_allclose(got[name], value, rtol=1e-4, err_msg=name)


@pytest.mark.slow
def test_smoke_on_small_sets_of_images(tmp_path):
  attributes = np.random.default_rng(0).random((120, 40)) < 0.5
  write_celeba(tmp_path / 'celeba', attributes)
  write_mini_imagenet(tmp_path / 'mini_imagenet', images=4, size=32)
  for experiment, folder, measure in (
    ('celeba', 'celeba', 'coverage'),
    ('mini_imagenet_5_way_1_shot', 'mini_imagenet', 'accuracy'),
  ):
    workdir = tmp_path / experiment
    done = launch(
      'platipus',
      f'--experiment={experiment}',
      '--preset=smoke',
      f'--workdir={workdir}',
      f'--config.data_dir={tmp_path / folder}',
      '--baselines=maml',  # each takes minutes to compile
    )
    assert done.returncode == 0, done.stderr
    metrics = json.loads((workdir / 'evaluation.json').read_text())['metrics']
    for method in ('', 'maml/', 'maml/noise/'):
      assert metrics[f'{method}{measure}']['n'] == 4
    assert (workdir / 'figures' / 'learning_curve.png').exists()
