"""How fast the simulated robots step, and what ours adds to bare MJX."""

from collections.abc import Callable
import functools
import time
from typing import Any

import jax
from jax import Array

from experiments.timing import time_in_turn
from metajax.core.compilation import compile_hot
from metajax.envs.catalogue import make_environment
from metajax.envs.engines import ENGINES
from metajax.envs.environment import Env, EnvState
from metajax.envs.physics import Physics
from metajax.envs.physics_mjx import mjx_physics


def print_speeds(
  names: list[str], engines: list[str], *, batch: int, seed: int
) -> None:
  """Prints steps a second, and what ours adds to bare `mjx.step`."""
  print(
    f'{"family":28} {"engine":6} {"steps/s":>9} {"physics/s":>9}'
    f' {"compile s":>9} {"over bare":>9}'
  )
  for name in names:
    for engine in engines:
      _print_speed(name, engine, batch, jax.random.key(seed))


def _print_speed(
  name: str, engine: str, batch: int, key: Array, num_steps: int = 20
) -> None:
  env = make_environment(name, physics=engine)
  if env.model is None and engine != 'mjx':
    return  # one row for a family without a body
  keys = jax.random.split(key, batch)
  states = compile_hot(
    jax.vmap(lambda key: env.reset(env.sample_task(key), key)),
    holds_physics=env.holds_physics,
  )(keys)
  limit = env.spec.action_limit
  actions = jax.random.uniform(
    key, (num_steps, batch, env.spec.action_size), minval=-limit, maxval=limit
  )

  def ours(states: EnvState, actions: Array) -> tuple[EnvState, Array]:
    def step(states, action):
      states = jax.vmap(env.step)(states, action)
      return states, states.reward

    return jax.lax.scan(step, states, actions)

  start = time.perf_counter()
  program = (
    compile_hot(ours, holds_physics=env.holds_physics)
    .lower(states, actions)
    .compile()
  )
  compile_s = time.perf_counter() - start
  calls: dict[str, Callable[[], Any]] = {
    'ours': functools.partial(program, states, actions)
  }
  if engine == 'mjx' and env.model is not None:
    bare = _bare_steps(name, states, actions)
    calls |= {'bare': bare} if bare else {}
  timings = time_in_turn(calls, rounds=3)
  rate = num_steps * batch / timings['ours'].median
  over = ''
  if 'bare' in timings:
    over = f'{timings["ours"].median / timings["bare"].median - 1:+.0%}'
  print(
    f'{name:28} {engine:6} {rate:9,.0f} {rate * _substeps_of(env):9,.0f}'
    f' {compile_s:9.1f} {over:>9}',
    flush=True,
  )


def _substeps_of(env: Env) -> int:
  """Returns physics steps in a control period; 1 without a body."""
  if env.model is None or not env.spec.control_period_s:
    return 1
  return round(env.spec.control_period_s / env.model.opt.timestep)


def _bare_steps(
  name: str, states: EnvState, actions: Array
) -> Callable[[], Array] | None:
  """Returns the call of `mjx.step` with the same inputs and nothing around it.

  Args:
    name: of the family.
    states: [batch] states to start from.
    actions: [steps, batch, action_size] that the environment plays; what it
      hands to its engine on the way is recorded and played again.

  Returns:
    The call; None where an environment steps its engine in a loop of its own.
  """
  from mujoco import mjx

  inputs: list[dict[str, Any]] = []
  substeps: list[int] = []

  def recording(model: Any) -> Physics:
    physics = mjx_physics(model)

    def step(state, ctrl, *, num_substeps: int = 1, **fields):
      inputs.append({'ctrl': ctrl, **fields})
      substeps.append(num_substeps)
      return physics.step(state, ctrl, num_substeps=num_substeps, **fields)

    return physics._replace(step=step)

  ENGINES['recording'] = recording
  try:
    env = make_environment(name, physics='recording')
  finally:
    del ENGINES['recording']

  def record(states, actions):
    def step(states, action):
      def one(state, action):
        inputs.clear()
        return env.step(state, action), tuple(inputs)

      return jax.vmap(one)(states, action)

    return jax.lax.scan(step, states, actions)[1]

  try:
    recorded = compile_hot(record, holds_physics=True)(states, actions)
  except jax.errors.UnexpectedTracerError:
    return None
  if len(recorded) != 1:
    return None
  device_model = mjx.put_model(env.model, impl='jax')
  blank = mjx.make_data(env.model, impl='jax')
  start = jax.vmap(lambda state: blank.replace(**state._asdict()))(
    states.physics
  )

  def replay(start, recorded):
    def control(data, given):
      def one(data, given):
        fields = dict(given.get('model_fields') or {})
        own = device_model.tree_replace(fields) if fields else device_model
        data = data.replace(ctrl=given['ctrl'])
        if given.get('body_forces') is not None:
          data = data.replace(xfrc_applied=given['body_forces'])
        if substeps[0] == 1:
          return mjx.step(own, data)
        return jax.lax.fori_loop(
          0, substeps[0], lambda _, data: mjx.step(own, data), data
        )

      return jax.vmap(one)(data, given), None

    return jax.lax.scan(control, start, recorded)[0].qpos

  program = compile_hot(replay, holds_physics=True)
  return functools.partial(program, start, recorded[0])
