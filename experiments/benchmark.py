"""Measures metajax against the same mathematics written by hand.

Every comparison is a ratio of medians in one process, the two sides asked in
turn, so that it holds on a machine whose speed drifts.

  python -m experiments.benchmark --part=sinusoid,sweep,navigation,host,cheetah
  python -m experiments.benchmark --part=control
  python -m experiments.benchmark --part=camera
  python -m experiments.benchmark --part=images
"""

import functools
import resource
import statistics
import time

from absl import app, flags
import jax
import jax.numpy as jnp

from experiments import bare
from experiments.camera_speed import camera_frames
from experiments.image_speed import image_memory, image_steps
from experiments.maml_sinusoids import sinusoid_maml
from experiments.timing import Timing, time_in_turn
from metajax.core.algorithm import Algorithm, init_key, step_key
from metajax.core.compilation import compile_hot
from metajax.core.sharding import shard
from metajax.core.sweeps import sweep
from metajax.envs.locomotion.damage import half_cheetah_disabled_joint
from metajax.envs.locomotion.goals import half_cheetah
from metajax.envs.navigation import navigation
from metajax.learners.adaptive_control_config import AdaptiveControlConfig
from metajax.learners.dynamics import gradient_dynamics
from metajax.learners.maml import MamlConfig
from metajax.learners.maml_rl import collect_and_adapt, maml_rl
from metajax.learners.maml_rl_config import MamlRlConfig
from metajax.learners.policy_adaptation import (
  collect,
  gaussian_policy,
  repeat_task,
  update_once,
)
from metajax.learners.policy_outer_step import outer_step
from metajax.learners.predictive_control import predictive_controller
from metajax.run import Schedule, run
from metajax.run.devices import choose_devices, make_each_core_a_device

_PARTS = (
  'sinusoid',
  'sweep',
  'navigation',
  'host',
  'cheetah',
  'control',
  'camera',
  'images',
)
_PART = flags.DEFINE_list('part', list(_PARTS), 'what to measure')
_ROUNDS = flags.DEFINE_integer('rounds', 7, 'timed rounds of each side')

_SINUSOID_STEPS = 2000
_SWEPT_STEPS = 5000
_NUM_SETTINGS, _NUM_SEEDS = 16, 4
_NUM_ROBOTS = 32
_NUM_COLUMNS = _NUM_SETTINGS * _NUM_SEEDS


def main(argv):
  """Runs the parts that were asked for."""
  del argv
  if _PART.value == ['camera']:
    make_each_core_a_device()
  num_devices = choose_devices(None, _NUM_COLUMNS)
  device = jax.devices()[0]
  print(f'{device.device_kind}, {jax.device_count()} device(s)')
  rate = matrix_product_rate()
  print(f'matrix product, 2048 x 2048, float32: {rate / 1e9:.0f} GFLOP/s')
  parts = {
    'sinusoid': lambda: sinusoid(rate),
    'sweep': lambda: sweep_of_sinusoids(num_devices),
    'navigation': lambda: navigation_step(rate),
    'host': host_loop,
    'cheetah': cheetah,
    'control': control_step,
    'camera': lambda: camera_frames(_ROUNDS.value),
    'images': lambda: images(_ROUNDS.value),
  }
  for name in _PART.value:
    if name not in parts:
      raise app.UsageError(f'--part: one of {", ".join(parts)}, got {name!r}')
    print(f'\n{name}')
    parts[name]()
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
  print(f'\npeak memory of the process: {peak:.0f} MiB')


def matrix_product_rate() -> float:
  """Returns FLOP/s of a large float32 matrix product on this device."""
  size = 2048
  product = compile_hot(lambda a, b: a @ b)
  a = jax.random.normal(jax.random.key(0), (size, size))
  timing = time_in_turn({'product': lambda: product(a, a)}, rounds=15)
  return 2 * size**3 / timing['product'].least


def images(rounds: int) -> None:
  """Compares MAML on images with one by hand, and the memory it plans."""
  image_steps(rounds)
  image_memory()


def sinusoid(rate: float) -> None:
  """Compares the sinusoid meta-step with one written in bare JAX."""
  config = MamlConfig()
  ours = _Chunk(sinusoid_maml(config), _SINUSOID_STEPS)
  theirs = _Chunk(bare.sinusoid_maml(config), _SINUSOID_STEPS)
  _compare(ours, theirs, _SINUSOID_STEPS)
  # Of the one by hand: it has no loops inside, so that XLA's own count holds.
  algorithm = bare.sinusoid_maml(config)
  key = jax.random.key(0)
  state = compile_hot(algorithm.init)(algorithm.data, init_key(key))
  step = compile_hot(algorithm.step).lower(algorithm.data, state, key).compile()
  flops = step.cost_analysis()['flops']
  per_step = ours.timing.median / _SINUSOID_STEPS
  print(
    f'  {flops / 1e6:.1f} MFLOP a step, '
    f'{flops / per_step / rate:.0%} of the matrix product'
  )


def sweep_of_sinusoids(num_devices: int) -> None:
  """Compares 16 settings times 4 seeds at once with one after another."""
  steps = 200
  configs = [MamlConfig(inner_lr=0.002 * (i + 1)) for i in range(_NUM_SETTINGS)]
  columns = sweep(sinusoid_maml, configs, range(_NUM_SEEDS))
  mesh = jax.make_mesh(
    (num_devices,), ('tasks',), devices=jax.devices()[:num_devices]
  )
  at_once = _Chunk(shard(columns, mesh), steps)
  alone = _Chunk(sinusoid_maml(configs[0]), steps)
  timings = time_in_turn(
    {'at once': at_once.call, 'one alone': alone.call}, rounds=_ROUNDS.value
  )
  one_after_another = _NUM_COLUMNS * timings['one alone'].median
  ratio = timings['at once'].median / one_after_another
  chunks = _SWEPT_STEPS / steps
  with_compiling = (timings['at once'].median * chunks + at_once.compile_s) / (
    one_after_another * chunks + _NUM_COLUMNS * alone.compile_s
  )
  print(f'  {_NUM_COLUMNS} runs at once over one after another: {ratio:.2f}')
  print(f'  the same, {_SWEPT_STEPS} steps and compiling: {with_compiling:.2f}')


def navigation_step(rate: float) -> None:
  """Compares the navigation meta-step with one written in bare JAX."""
  # The paper's network, and that of the peers' published scripts.
  for hidden_sizes in ((100, 100), (64, 64)):
    config = MamlRlConfig(budget='episodes', hidden_sizes=hidden_sizes)
    print(f'  2-{hidden_sizes[0]}-{hidden_sizes[1]}-2')
    env = navigation()
    ours = _Chunk(maml_rl(env, config), 1)
    theirs = _Chunk(bare.navigation_maml(config), 1)
    _compare(ours, theirs, 1)
    steps = 2 * config.meta_batch_size * config.num_rollouts * env.spec.horizon
    seconds = ours.timing.median
    # U: one forward pass of the policy over one batch of all tasks.
    sizes = (2, *config.hidden_sizes, 2)
    unit = steps * sum(a * b for a, b in zip(sizes, sizes[1:], strict=False))
    # Rollouts 2 U, advantages' old policy 1, inner steps 3, gradient 12,
    # eleven Fisher products of 16 each, two candidates of the search, 4 each.
    flops = unit * (2 + 1 + 3 + 12 + 11 * 16 + 2 * 4)
    print(
      f'  {steps / seconds:,.0f} environment steps/s, {flops / 1e9:.0f} GFLOP '
      f'(by hand), {flops / seconds / rate:.0%} of the matrix product'
    )


def host_loop() -> None:
  """Measures what the host's loop adds to the compiled chunks it runs."""
  algorithm = sinusoid_maml(MamlConfig())
  chunks = 10
  schedule = Schedule(
    num_steps=chunks * _SINUSOID_STEPS, log_every=_SINUSOID_STEPS
  )
  bare_chunk = _Chunk(algorithm, _SINUSOID_STEPS)

  def chunks_alone():
    for _ in range(chunks):
      last = bare_chunk.call()
    return last

  overheads = []
  # A percent is less than what the machine's speed drifts in one round.
  for _ in range(3 * _ROUNDS.value):
    alone = time_in_turn({'alone': chunks_alone}, rounds=1)['alone'].median
    history = run(algorithm, schedule, quiet=True).history
    # The first row holds the compilation; the rest is steady.
    steady = history[-1]['time/elapsed_s'] - history[0]['time/elapsed_s']
    overheads.append(steady / (alone * (chunks - 1) / chunks) - 1)
  print(f'  host loop over its chunks: {statistics.median(overheads):+.1%}')


def cheetah() -> None:
  """Prints how a cheetah meta-iteration's time divides into its parts."""
  env = half_cheetah('direction')
  config = MamlRlConfig(max_kl=0.02, budget='episodes')
  network = gaussian_policy(env, config)
  key = jax.random.key(0)
  algorithm = maml_rl(env, config)
  params = compile_hot(algorithm.init)((), init_key(key)).params['model']
  keys = jax.random.split(key, config.meta_batch_size)

  def tasks_of(key):
    return repeat_task(env.sample_task(key), config.num_rollouts)

  def sample(params, keys):
    def in_task(params, key):
      return collect(env, config, params, tasks_of(key), key)[0]

    axis = 0 if params['log_std'].ndim == 2 else None
    return jax.vmap(in_task, in_axes=(axis, 0))(params, keys)

  def inner(params, batches):
    return jax.vmap(
      lambda batch: update_once(network, params, batch, config.inner_lr)
    )(batches)

  def experience_of(params, keys):
    tasks = jax.vmap(tasks_of)(keys)
    return collect_and_adapt(env, config, {'model': params}, tasks, keys, 1)

  def compiled(function):
    return compile_hot(function, holds_physics=True)

  sample, inner = compiled(sample), compiled(inner)
  outer = compiled(
    lambda params, experience: outer_step(
      network, config, {'model': params}, (), experience
    )
  )
  batches = sample(params, keys)
  adapted = inner(params, batches)
  experience = compiled(experience_of)(params, keys)
  whole = _Chunk(algorithm, 1)
  times = time_in_turn(
    {
      'whole meta-iteration': whole.call,
      'sampling before adaptation': lambda: sample(params, keys),
      'inner updates': lambda: inner(params, batches),
      'sampling after adaptation': lambda: sample(adapted, keys),
      'outer update': lambda: outer(params, experience),
    },
    rounds=min(_ROUNDS.value, 5),
  )
  for name, timing in times.items():
    print(f'  {name:28} {timing.median:6.2f} s')
  print(
    f'  compile {whole.compile_s:.0f} s, {whole.temp_mib:.0f} MiB of buffers'
  )
  steps = config.meta_batch_size * config.num_rollouts * env.spec.horizon
  seconds = times['sampling before adaptation'].median
  print(
    f'  {steps / seconds:,.0f} environment steps/s with policy and baseline'
  )


def control_step() -> None:
  """Compares a control step of GBAC with the forward passes of its planning.

  32 half-cheetahs at the paper's sizes: every one adapts its model to 32
  transitions and searches among 1,000 sequences of 10 actions.
  """
  config = AdaptiveControlConfig()
  env = half_cheetah_disabled_joint(physics='c')
  assert env.observed_reward is not None
  spec, key = env.spec, jax.random.key(0)
  model = gradient_dynamics(
    spec.observation_size,
    spec.action_size,
    hidden_sizes=config.hidden_sizes,
    inner_lr=config.inner_lr,
    window=config.past,
    invariant=spec.invariant,
  )
  params = model.learner.init(key, None)
  policy, memory = predictive_controller(
    spec, env.observed_reward, model, params, config.planning
  )
  # As in the midst of an episode: the window is full.
  window = memory.learned
  memory = memory.replace(
    has_acted=jnp.ones((), bool),
    learned=window.replace(count=jnp.asarray(config.past, jnp.int32)),
  )
  memories, weights = jax.tree.map(
    lambda x: jnp.broadcast_to(x, (_NUM_ROBOTS, *x.shape)) + 0,
    (memory, params['model']),
  )
  observations = jax.random.normal(key, (_NUM_ROBOTS, spec.observation_size))
  keys = jax.random.split(key, _NUM_ROBOTS)
  act = compile_hot(jax.vmap(policy))
  inputs = jax.random.normal(
    key,
    (
      _NUM_ROBOTS,
      config.num_sequences,
      spec.observation_size - len(spec.invariant) + spec.action_size,
    ),
  )
  passes = compile_hot(
    jax.vmap(
      functools.partial(bare.planning_passes, horizon=config.plan_horizon)
    )
  )
  timings = time_in_turn(
    {
      'control step': lambda: act(observations, memories, keys),
      'forward passes': lambda: passes(weights, inputs),
    },
    rounds=_ROUNDS.value,
  )
  for name, timing in timings.items():
    print(f'  {name:16} {timing.median:6.2f} s for {_NUM_ROBOTS} robots')
  ratio = timings['control step'].median / timings['forward passes'].median
  period = spec.control_period_s
  print(f'  ratio {ratio:.2f}; the control period is {1e3 * period:.0f} ms')


class _Chunk:
  """A compiled chunk of an algorithm's steps, as `run` compiles it."""

  def __init__(self, algorithm: Algorithm, num_steps: int):
    self._key = jax.random.key(0)
    self._data = algorithm.data
    self._state = compile_hot(algorithm.init)(self._data, init_key(self._key))

    def chunk(data, state, key):
      def body(state, step):
        return algorithm.step(data, state, step_key(key, step))

      return jax.lax.scan(body, state, jnp.arange(num_steps))

    start = time.perf_counter()
    self._program = (
      compile_hot(
        chunk, holds_physics=algorithm.holds_physics, donate_argnums=(1,)
      )
      .lower(self._data, self._state, self._key)
      .compile()
    )
    self.compile_s = time.perf_counter() - start
    self.temp_mib = self._program.memory_analysis().temp_size_in_bytes / 2**20
    self.timing = Timing(0.0, 0.0)

  def call(self):
    self._state, metrics = self._program(self._data, self._state, self._key)
    return metrics


def _compare(ours: _Chunk, theirs: _Chunk, num_steps: int) -> None:
  """Prints both sides' times and what ours adds."""
  timings = time_in_turn(
    {'ours': ours.call, 'by hand': theirs.call}, rounds=_ROUNDS.value
  )
  ours.timing, theirs.timing = timings['ours'], timings['by hand']
  for name, chunk in (('ours', ours), ('by hand', theirs)):
    print(
      f'  {name:8} {num_steps / chunk.timing.median:10,.2f} meta-steps/s, '
      f'compiled in {chunk.compile_s:.1f} s, {chunk.temp_mib:.1f} MiB'
    )
  overhead = ours.timing.median / theirs.timing.median - 1
  print(f'  ours over by hand: {overhead:+.1%}')


if __name__ == '__main__':
  app.run(main)
