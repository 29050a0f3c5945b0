"""What is installed, what an import brings in, what the source may not say."""

import ast
import doctest
import importlib
import importlib.metadata
import pathlib
import re
import subprocess
import sys

from packaging.requirements import Requirement
import pytest

ROOT = pathlib.Path(__file__).parents[1]
SOURCES = sorted(
  path
  for folder in ('metajax', 'experiments')
  for path in (ROOT / folder).rglob('*.py')
)
HEAVY = ('tensorflow', 'torch', 'tfp-nightly', 'tensorflow-probability')


def _canonical(name: str) -> str:
  return re.sub(r'[-_.]+', '-', name).lower()


def _base_requirements() -> list[str]:
  """Returns `install_requires` as setup.py declares it."""
  for node in ast.walk(ast.parse((ROOT / 'setup.py').read_text())):
    if isinstance(node, ast.keyword) and node.arg == 'install_requires':
      return ast.literal_eval(node.value)
  raise AssertionError('setup.py declares no install_requires')


def test_base_install_pulls_no_other_framework():
  seen = set()
  waiting = [Requirement(text) for text in _base_requirements()]
  while waiting:
    requirement = waiting.pop()
    name = _canonical(requirement.name)
    for extra in requirement.extras or {''}:
      if (name, extra) in seen:
        continue
      seen.add((name, extra))
      for text in importlib.metadata.requires(name) or ():
        needed = Requirement(text)
        if needed.marker is None or needed.marker.evaluate({'extra': extra}):
          waiting.append(needed)
  names = {name for name, _ in seen}
  assert {'jax', 'flax', 'mujoco', 'jaxlib'} <= names
  assert not names & {_canonical(name) for name in HEAVY}


def test_versions_are_those_of_the_constraints():
  pins = {}
  for line in (ROOT / 'constraints.txt').read_text().splitlines():
    if line and not line.startswith('#'):
      name, version = line.split('==')
      pins[_canonical(name)] = version
  for name in ('jax', 'flax', 'optax', 'mujoco', 'mujoco-mjx'):
    assert importlib.metadata.version(name) == pins[name]


def test_import_brings_in_nothing_heavy():
  program = (
    'import sys, time, jax\n'
    'start = time.perf_counter()\n'
    'import metajax\n'
    'print(time.perf_counter() - start)\n'
    'print(*sorted(sys.modules))\n'
    'from jax._src import xla_bridge\n'
    'print(xla_bridge.backends_are_initialized())\n'
  )
  answer = subprocess.run(
    [sys.executable, '-c', program],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
  )
  seconds, modules, initialized = answer.stdout.splitlines()
  loaded = {name.partition('.')[0] for name in modules.split()}
  assert not loaded & {'brax', 'tensorflow', 'torch', 'tensorflow_probability'}
  assert initialized == 'False', 'importing metajax touched a device'
  # 1.5 s on an idle machine; the tests share theirs with each other.
  assert float(seconds) < 6.0


@pytest.mark.parametrize(
  'path', SOURCES, ids=lambda path: str(path.relative_to(ROOT))
)
def test_source_says_nothing_unsafe(path):
  unsafe = re.compile(
    r'\b(c?pickle|cloudpickle|dill)\b|allow_pickle=True|yaml\.load\('
    r'|(?<![\w.])(eval|exec)\(|os\.system|shell=True'
  )
  found = [
    f'{path.name}:{number}: {line.strip()}'
    for number, line in enumerate(path.read_text().splitlines(), start=1)
    if unsafe.search(line)
  ]
  assert not found


@pytest.mark.physics  # some examples step MJX
@pytest.mark.parametrize(
  'path',
  [path for path in SOURCES if '>>>' in path.read_text()],
  ids=lambda path: str(path.relative_to(ROOT)),
)
def test_examples_in_docstrings(path):
  parts = path.relative_to(ROOT).with_suffix('').parts
  module = importlib.import_module('.'.join(parts).removesuffix('.__init__'))
  assert doctest.testmod(module).failed == 0
