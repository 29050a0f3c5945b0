"""A run that does not fit is refused before it starts, with one that does."""

import jax
import jax.numpy as jnp
import pytest

from experiments import adaptive_control, maml_rl
from experiments.maml import EXPERIMENTS
from metajax.run import launch as launching
from metajax.run import memory
from metajax.run.errors import MemoryLimitError
from metajax.run.memory import (
  bytes_free,
  bytes_to_allocate,
  check_fits,
  largest_that_fits,
)


def test_what_a_program_needs_is_the_compilers_plan():
  def product(x):
    return jnp.sin(x)[:, None] * x[None, :]

  program = jax.jit(product).lower(jnp.ones(1000)).compile()
  assert 4e6 <= bytes_to_allocate(program) < 8.1e6


def test_the_host_says_what_it_has_left():
  free = bytes_free(jax.devices('cpu')[0])
  assert free is None or 2**20 < free < 2**50


def test_a_program_that_does_not_fit_is_refused(monkeypatch):
  program = (
    jax.jit(lambda x: x[:, None] + x[None]).lower(jnp.ones(512)).compile()
  )
  assert 'GiB of memory' in check_fits(program)
  monkeypatch.setattr(memory, 'bytes_free', lambda device: 1000)
  with pytest.raises(MemoryLimitError, match=r'needs 0\.00 GiB of memory, of'):
    check_fits(program)
  monkeypatch.setattr(memory, 'bytes_free', lambda device: None)
  assert check_fits(program)


@pytest.mark.parametrize('free', [150, 999, 1000, 1001, 5000, 9999])
@pytest.mark.parametrize('multiple', [1, 4])
def test_the_largest_that_fits_is_found_by_few_compilations(free, multiple):
  tried = []

  def bytes_of(size):
    tried.append(size)
    return 90 + 10 * size

  found = largest_that_fits(bytes_of, 1000, free, multiple)
  assert found == (free - 90) // 10 // multiple * multiple
  assert len(tried) <= 4


def test_nothing_fits_where_nothing_does():
  assert largest_that_fits(lambda size: 100 + size, 64, free=50) == 0


def test_too_large_a_batch_names_one_that_fits(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(memory, 'bytes_free', lambda device: 100_000_000)
  monkeypatch.setattr(launching, 'bytes_free', lambda device: 100_000_000)

  def run(size):
    with pytest.raises(SystemExit) as caught:
      launching.launch(
        EXPERIMENTS,
        [
          'maml',
          '--experiment=sinusoid',
          '--preset=smoke',
          '--baselines=none',
          '--config.first_order=true',
          f'--config.meta_batch_size={size}',
          f'--workdir={tmp_path / str(size)}',
          '--schedule.num_steps=1',
          '--nocompilation_cache',
        ],
      )
    return caught.value.code, capsys.readouterr().err

  code, said = run(20_000)
  assert code == 6, said
  advised = int(said.split('--config.meta_batch_size=')[1].split(' fits')[0])
  assert 25 <= advised < 20_000


@pytest.mark.parametrize('module', [adaptive_control, maml_rl])
def test_what_the_advice_would_name_is_a_count_of_the_config(module):
  for experiment in module.EXPERIMENTS:
    for preset in experiment.presets.values():
      assert getattr(preset.config, experiment.memory_field) >= 1
