"""Every experiment runs to its end at `smoke`, from its own command line."""

import json

import pytest

from tests.experiments.binaries import launch


@pytest.mark.parametrize(
  ('module', 'names'),
  [
    (
      'maml',
      [
        'sinusoid',
        'sinusoid_5_shot',
        *(
          f'{images}_{ways}_way_{shots}_shot'
          for images in ('glyphs', 'omniglot')
          for ways in (5, 20)
          for shots in (1, 5)
        ),
        'mini_imagenet_5_way_1_shot',
        'mini_imagenet_5_way_5_shot',
      ],
    ),
    (
      'inductive_bias',
      [
        'sinusoid_curves',
        'polynomial_depth',
        'extra_steps_5_way',
        'extra_steps_20_way',
        'image_distortions',
      ],
    ),
    (
      'maml_rl',
      [
        'navigation',
        'cheetah_direction',
        'cheetah_velocity',
        'cheetah_position',
        'ant_direction',
        'ant_velocity',
        'ant_position',
      ],
    ),
  ],
)
def test_list(module, names):
  done = launch(module, '--list')
  assert done.returncode == 0, done.stderr
  assert [line.split()[0] for line in done.stdout.splitlines()] == names


@pytest.mark.parametrize(
  ('module', 'experiment', 'metrics', 'pictures'),
  [
    pytest.param(
      'maml',
      'sinusoid',
      ['query_loss/step_10', '20_shot/query_loss/step_1', 'oracle/query_loss'],
      ['figures/adaptation.png', 'figures/fits.png'],
      marks=pytest.mark.slow,
    ),
    pytest.param(
      'maml',
      'glyphs_5_way_1_shot',
      [
        f'{method}accuracy'
        for method in (
          '',
          'first_order/',
          'context_vector/',
          'pretrained/',
          'from_scratch/',
          'nearest_neighbour/',
        )
      ],
      ['figures/adaptation.png', 'figures/task.png'],
      marks=pytest.mark.slow,
    ),
    pytest.param(
      'inductive_bias',
      'sinusoid_curves',
      [
        'in distribution/query_loss/step_10',
        'task_conditioned/slow/phase 2 pi/query_loss/step_10',
        'snail/amplitude 10/query_loss',
        'recurrent/amplitude 5 to 10/query_loss',
      ],
      ['figures/in_distribution.png', 'figures/by_phase.png'],
      marks=pytest.mark.slow,
    ),
    pytest.param(
      'inductive_bias',
      'polynomial_depth',
      ['query_loss', 'maml_1_layers/query_loss'],
      ['figures/maml.png', 'figures/task_conditioned.png'],
      marks=pytest.mark.slow,
    ),
    pytest.param(
      'inductive_bias',
      'extra_steps_20_way',
      ['accuracy/step_6', 'from_scratch/support_accuracy/step_6'],
      ['figures/extra_steps.png'],
      marks=pytest.mark.slow,
    ),
    pytest.param(
      'inductive_bias',
      'image_distortions',
      [
        'undistorted/accuracy/step_3',
        'snail/scale 1/3/accuracy',
        'meta_networks/shear 1/4 pi/accuracy',
      ],
      ['figures/by_scale.png', 'figures/distortions.png'],
      marks=pytest.mark.slow,
    ),
    pytest.param(
      'maml_rl',
      'navigation',
      ['return/step_3', 'context_vector/return/step_3', 'oracle/return/step_0'],
      ['figures/adaptation.png', 'figures/paths.png'],
      marks=pytest.mark.slow,
    ),
    pytest.param(
      'maml_rl',
      'cheetah_direction',
      ['return/step_3', 'random/return/step_3', 'oracle/return/step_0'],
      ['figures/adaptation.png', 'videos/adaptation.html'],
      marks=pytest.mark.slow,
    ),
    pytest.param(
      'maml_rl',
      'cheetah_velocity',
      ['return/step_3'],
      ['figures/learning_curve.png', 'videos/adaptation.html'],
      marks=pytest.mark.slow,
    ),
  ],
)
def test_smoke(tmp_path, module, experiment, metrics, pictures):
  check_smoke(tmp_path / 'run', module, experiment, metrics, pictures)


def test_smoke_of_one_baseline(tmp_path):
  check_smoke(
    tmp_path / 'run',
    'maml',
    'sinusoid_5_shot',
    ['query_loss/step_10', 'oracle/query_loss'],
    ['figures/adaptation.png', 'figures/fits.png'],
    '--baselines=oracle',
  )


@pytest.mark.slow
@pytest.mark.parametrize(
  'experiment',
  ['cheetah_position', 'ant_direction', 'ant_velocity', 'ant_position'],
)
def test_smoke_of_bodies_in_c(tmp_path, experiment):
  check_smoke(
    tmp_path / 'run',
    'maml_rl',
    experiment,
    ['return/step_3', 'context_vector/return/step_3', 'oracle/return/step_0'],
    ['figures/adaptation.png', 'videos/adaptation.html'],
    '--physics=c',
  )


@pytest.mark.slow
@pytest.mark.parametrize(
  ('experiment', 'condition'),
  [
    ('cheetah_disabled_joint', 'unseen joint'),
    ('cheetah_slope', 'steep'),
    ('cheetah_pier', 'one pier'),
    ('ant_crippled_leg', 'leg fails'),
    ('arm_forces', 'strong force'),
  ],
)
def test_smoke_of_adaptive_control(tmp_path, experiment, condition):
  methods = ('', 'rbac/', 'mb/', 'mb/carried/', 'trpo/', 'mb_oracle/')
  check_smoke(
    tmp_path / 'run',
    'adaptive_control',
    experiment,
    [f'{method}return/{condition}' for method in methods]
    + [f'error/{condition}/adapted'],
    [
      'figures/returns.png',
      'figures/errors.png',
      'figures/errors_over_time.png',
      'figures/learning_curve.png',
      'videos/adaptive_control.html',
    ],
  )


@pytest.mark.slow
def test_smoke_of_the_study_of_force_ranges(tmp_path):
  check_smoke(
    tmp_path / 'run',
    'adaptive_control',
    'arm_force_ranges',
    ['return/force 4', 'no_force/return/force 4', '0_to_1/error/force 4'],
    ['figures/returns.png', 'figures/errors.png'],
  )


def check_smoke(workdir, module, experiment, metrics, pictures, *more):
  flags = [f'--experiment={experiment}', f'--workdir={workdir}', *more]
  done = launch(module, '--preset=smoke', *flags)
  assert done.returncode == 0, done.stderr
  evaluation = json.loads((workdir / 'evaluation.json').read_text())
  for name in metrics:
    cells = [
      cell
      for found, cell in evaluation['metrics'].items()
      if found.startswith(name)
    ]
    assert cells, name
    assert all(cell['n'] >= 2 for cell in cells)
  for picture in pictures:
    assert (workdir / picture).stat().st_size > 1000
  again = launch(module, '--preset=smoke', *flags)
  assert again.returncode == 2
  assert len(again.stderr.strip().splitlines()) == 1
  assert 'resume' in again.stderr
