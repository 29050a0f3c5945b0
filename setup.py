"""Installs metajax, a meta-learning framework for robots in JAX."""

import pathlib

import setuptools

HERE = pathlib.Path(__file__).parent
README = HERE / 'README.md'

VIDEO = ['imageio-ffmpeg>=0.5']
TENSORBOARD = ['tensorboardX>=2.6.5']
DEMOS = ['minari[hdf5]>=0.5.4']
# It imports packaging without asking for it.
GYMNASIUM = ['gymnasium>=1.2', 'packaging']
TEST = [
  'pytest>=9.0',
  'pytest-xdist>=3.8',
  'hypothesis>=6.100',
  'nbclient>=0.10',
  'nbformat>=5.10',
  'ipykernel>=7.0',
  *DEMOS,
]
DEV = ['ruff>=0.17', 'pyright>=1.1.400', 'pre-commit>=4.0']

setuptools.setup(
  name='metajax',
  version='0.1.0',
  description='Meta-learning for robots, compiled whole in JAX.',
  long_description=README.read_text() if README.exists() else '',
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  license_files=['LICENSE'],
  packages=setuptools.find_packages(
    include=['metajax', 'metajax.*', 'experiments', 'experiments.*']
  ),
  package_data={'metajax': ['envs/models/*.xml', 'run/*.html']},
  python_requires='>=3.11,<3.14',
  install_requires=[
    'jax>=0.10.2',
    'flax>=0.12',
    'optax>=0.2.8',
    'chex>=0.1.92',
    'brax>=0.14.2',
    # Simulated numbers do not carry over between versions of the engine.
    'mujoco==3.17.0',
    'mujoco-mjx==3.17.0',
    'orbax-checkpoint>=0.12.3',
    'absl-py>=2.3',
    'numpy>=2.0',
    'rich>=13.0',
    'matplotlib>=3.9',
    'pillow>=11.0',
  ],
  extras_require={
    'video': VIDEO,
    'tensorboard': TENSORBOARD,
    'demos': DEMOS,
    'gymnasium': GYMNASIUM,
    'test': TEST,
    'dev': DEV,
  },
  classifiers=[
    'Development Status :: 3 - Alpha',
    'Intended Audience :: Science/Research',
    'Programming Language :: Python :: 3.11',
    'Programming Language :: Python :: 3.12',
    'Programming Language :: Python :: 3.13',
    'Topic :: Scientific/Engineering :: Artificial Intelligence',
  ],
)
