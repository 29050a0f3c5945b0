"""Over how many devices a run is laid."""

import contextlib
import os

import jax

from metajax.core.validation import reject

# More devices than cores share the work more evenly, up to some point.
_MOST_DEVICES_A_CORE = 4


def choose_devices(wanted: int | None, num_columns: int) -> int:
  """Returns over how many devices to lay a run, and makes them if it can.

  A CPU is one device with all cores, or several that share them. The columns
  of a sweep go over several, since one column seldom keeps all cores busy.

  Args:
    wanted: how many were asked for. None: on CPU what shares the columns
      evenly among the cores, on accelerators one.
    num_columns: columns of the sweep; 1 for a run that is not one.

  Returns:
    A number of devices, at most as many as there are.

  Raises:
    InputError: if there are not as many as were asked for.
  """
  number = wanted or even_number(num_columns, _num_cores())
  if number > 1:
    # Without effect on accelerators, and too late once a device was touched.
    with contextlib.suppress(RuntimeError):
      jax.config.update('jax_num_cpu_devices', number)
  if wanted is None:
    on_cpu = number > 1 and jax.default_backend() == 'cpu'
    return number if on_cpu and number <= jax.device_count() else 1
  if number > jax.device_count():
    raise reject('--devices', f'at most {jax.device_count()}', number)
  return number


def make_each_core_a_device() -> None:
  """Makes as many devices of a CPU as it has cores.

  For programs of many small loops, as those that draw pictures: two devices
  draw 2.6 times as much as one that shares every loop among two threads.
  Without effect on accelerators, and once a device was touched.
  """
  if 'JAX_NUM_CPU_DEVICES' not in os.environ:
    with contextlib.suppress(RuntimeError):
      jax.config.update('jax_num_cpu_devices', _num_cores())


def even_number(num_columns: int, num_cores: int) -> int:
  """Returns the number of devices that shares columns evenly among cores.

  Args:
    num_columns: columns, of which each device takes as many.
    num_cores: cores that are to be kept busy.

  Returns:
    The least divisor of `num_columns` that gives every core a device, or,
    where that is many more, the greatest that does not.
  """
  divisors = [n for n in range(1, num_columns + 1) if num_columns % n == 0]
  for number in divisors:
    if num_cores <= number <= _MOST_DEVICES_A_CORE * num_cores:
      return number
  return max(number for number in divisors if number <= num_cores)


def _num_cores() -> int:
  """Returns the cores that this process may use."""
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1
