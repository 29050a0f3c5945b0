"""How columns are shared among cores."""

import os
import subprocess
import sys

import jax
import pytest

from metajax.core.validation import InputError
from metajax.run.devices import choose_devices, even_number


@pytest.mark.parametrize(
  ('num_columns', 'num_cores', 'expected'),
  [
    (1, 2, 1),
    (2, 2, 2),
    (3, 2, 3),
    (11, 2, 1),
    (64, 2, 2),
    (64, 1, 1),
    (3, 16, 3),
    (24, 16, 24),
  ],
)
def test_columns_are_shared_evenly(num_columns, num_cores, expected):
  assert even_number(num_columns, num_cores) == expected


def test_one_run_takes_one_device():
  assert choose_devices(None, 1) == 1


def test_what_is_asked_for_is_taken():
  assert choose_devices(jax.device_count(), 1) == jax.device_count()


def test_more_than_there_are_is_refused():
  with pytest.raises(InputError, match='--devices: expected at most'):
    choose_devices(jax.device_count() + 1, 1)


@pytest.mark.parametrize('asked', [None, '3'])
def test_each_core_becomes_a_device_unless_asked_otherwise(asked):
  code = (
    'import jax; from metajax.run import devices;'
    ' devices._num_cores = lambda: 2; devices.make_each_core_a_device();'
    ' print(jax.device_count())'
  )
  environment = dict(os.environ)
  environment.pop('JAX_NUM_CPU_DEVICES', None)
  if asked:
    environment['JAX_NUM_CPU_DEVICES'] = asked
  told = subprocess.run(
    [sys.executable, '-c', code],
    env=environment,
    capture_output=True,
    text=True,
    check=True,
  )
  assert told.stdout.split() == [asked or '2']
