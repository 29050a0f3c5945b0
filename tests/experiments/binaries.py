"""How the tests run an experiment: its binary, as a user would start it."""

import os
from pathlib import Path
import subprocess
import sys

ROOT = Path(__file__).parents[2]


def launch(
  module: str, *flags: str, timeout_s: float = 580
) -> subprocess.CompletedProcess[str]:
  """Runs `python -m experiments.<module>` to its end, on one device.

  The cache of compiled programs is the tests'. The programs run for moments
  and would compile for minutes, so XLA leaves most optimisations out.
  """
  return subprocess.run(
    [sys.executable, '-m', f'experiments.{module}', *flags],
    cwd=ROOT,
    env=os.environ
    | {'JAX_NUM_CPU_DEVICES': '1', 'JAX_DISABLE_MOST_OPTIMIZATIONS': '1'},
    capture_output=True,
    text=True,
    check=False,
    timeout=timeout_s,
  )
