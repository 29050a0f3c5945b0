"""How columns are shared among cores."""

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
