"""How every test runs: on CPU, two devices, strict, with a shared cache."""

import ctypes.util
import os
import pathlib

# Read by JAX when it is first imported, and inherited by the processes that
# tests start.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('JAX_NUM_CPU_DEVICES', '2')
# MuJoCo's renderer draws without a screen where OSMesa is installed.
if ctypes.util.find_library('OSMesa'):
  os.environ.setdefault('MUJOCO_GL', 'osmesa')
# The workers of pytest-xdist share compiled programs. Whoever writes into the
# cache decides what runs, so it is the user's alone.
CACHE = pathlib.Path(__file__).parents[1] / '.pytest_cache' / 'compilation'
CACHE.mkdir(mode=0o700, parents=True, exist_ok=True)
CACHE.chmod(0o700)
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(CACHE))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.3')

import hypothesis  # noqa: E402
import jax  # noqa: E402
import pytest  # noqa: E402

# Set here and not in the environment: what the tests start runs as a user
# would run it.
jax.config.update('jax_numpy_rank_promotion', 'raise')
jax.config.update('jax_debug_key_reuse', True)

hypothesis.settings.register_profile(
  'metajax', deadline=None, derandomize=True, max_examples=50
)
hypothesis.settings.load_profile('metajax')


def pytest_collection_modifyitems(items):
  """Marks all of tests/envs as physics and all of tests/nets as compiled fully.

  XLA's optimisations have made second derivatives of layers wrong before.
  """
  here = pathlib.Path(__file__).parent
  for item in items:
    if item.path.is_relative_to(here / 'envs'):
      item.add_marker('physics')
    elif item.path.is_relative_to(here / 'nets'):
      item.add_marker('compiled_fully')


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item, nextitem):
  """Sets how JAX treats a test, its fixtures of every scope with it.

  Most of a test's time goes into compiling what then runs for moments, so XLA
  leaves most optimisations out, but for the slow tests, which compile as users
  do, and those marked `compiled_fully`.

  Of this stack MJX alone promotes ranks (`[3, 3] * [3]` in its kinematics): it
  may in the tests that step it, and nowhere else.
  """
  fully = ('slow', 'compiled_fully')
  quickly = not any(item.get_closest_marker(mark) for mark in fully)
  jax.config.update('jax_disable_most_optimizations', quickly)
  if item.get_closest_marker('physics') is None:
    return (yield)
  with jax.numpy_rank_promotion('allow'):
    return (yield)
