"""Experiments whose images the user brings run on a small set of the format."""

import pytest

from tests.experiments.binaries import launch
from tests.experiments.test_smoke import check_smoke
from tests.tasks.image_writers import write_mini_imagenet, write_omniglot

METHODS = ('first_order', 'context_vector', 'pretrained', 'nearest_neighbour')


@pytest.mark.slow
@pytest.mark.parametrize(
  ('experiment', 'write', 'arguments'),
  [
    ('omniglot_5_way_1_shot', write_omniglot, {'characters': (40, 40)}),
    (
      'mini_imagenet_5_way_1_shot',
      write_mini_imagenet,
      {'images': 8, 'size': 84},
    ),
  ],
)
def test_smoke_on_a_small_set(tmp_path, experiment, write, arguments):
  write(tmp_path / 'images', **arguments)
  check_smoke(
    tmp_path / 'run',
    'maml',
    experiment,
    ['accuracy/step_3', *(f'{method}/accuracy' for method in METHODS)],
    ['figures/adaptation.png', 'figures/task.png'],
    f'--config.data_dir={tmp_path / "images"}',
  )


@pytest.mark.parametrize(
  ('experiment', 'expected'),
  [
    ('omniglot_20_way_5_shot', 'images_background and images_evaluation'),
    ('mini_imagenet_5_way_5_shot', 'folders train, val and test'),
  ],
)
def test_without_a_folder_one_line_says_what_is_expected(
  tmp_path, experiment, expected
):
  done = launch(
    'maml', f'--experiment={experiment}', f'--workdir={tmp_path / "run"}'
  )
  assert done.returncode == 2
  (line,) = done.stderr.strip().splitlines()
  assert f'data_dir: expected {expected}' in line
  assert 'github.com' in line
