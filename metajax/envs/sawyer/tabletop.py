"""The Sawyer's environment: reset and step, around what a family asks."""

from collections.abc import Callable, Mapping
import dataclasses
from typing import NamedTuple

from flax import struct
from jax import Array
import jax.numpy as jnp

from metajax.core.validation import check_count
from metajax.envs.environment import (
  Env,
  EnvSpec,
  EnvState,
  PyTree,
  Task,
  checked,
  first_state,
)
from metajax.envs.sawyer.hand import NUM_SUBSTEPS, Layout, Reading, Sawyer


@struct.dataclass
class SawyerMemory:
  """What an environment of the Sawyer remembers from step to step."""

  setpoint: Array  # [3] float32, m, where the hand's servo is to bring it
  reading: Reading  # of this moment, for the next observation
  fixture: Array  # [3] float32, m, where what is fastened stands
  goal: Array  # [3] float32, m, where the object's point is to be
  record: PyTree  # pytree of arrays, what the family keeps of the episode


class Rules(NamedTuple):
  """What a family asks of the hand: pure functions of one task.

  Every task has `model_fields`. `before` and `now` are readings one control
  step apart, and the same one after a reset.

  Attributes:
    sample_task: `(key) -> task`.
    layout: `(task, key) -> Layout`.
    observe: `(task, before, now) -> observation`, [n] float32.
    judge: `(task, reading, record) -> (reward, metrics)` of one moment.
    first_record: `(task, reading) -> record`, what to keep of the episode.
    next_record: `(memory, now) -> record`; `memory` is of the step before.
    sample_test_task: `(key) -> task`, a held-out one, or None.
  """

  sample_task: Callable[[Array], Task]
  layout: Callable[[Task, Array], Layout]
  observe: Callable[[Task, Reading, Reading], Array]
  judge: Callable[[Task, Reading, PyTree], tuple[Array, Mapping[str, Array]]]
  first_record: Callable[[Task, Reading], PyTree] = lambda task, reading: ()
  next_record: Callable[[SawyerMemory, Reading], PyTree] = lambda memory, now: (
    memory.record
  )
  sample_test_task: Callable[[Array], Task] | None = None


def tabletop(
  name: str,
  sawyer: Sawyer,
  rules: Rules,
  *,
  observation_size: int,
  horizon: int,
  hide_goal: bool = False,
  is_closed: bool = False,
) -> Env:
  """Builds an environment of the hand in one scene.

  Args:
    name: what the family is called.
    sawyer: the hand in its scene.
    rules: what the family asks of it.
    observation_size: length of what `rules.observe` returns.
    horizon: control steps in an episode.
    hide_goal: whether the goal's marker is not drawn.
    is_closed: whether the gripper is closed for good; an action is then [3]
      instead of [4].

  Returns:
    The environment.

  Raises:
    InputError: if the horizon is no count.
  """
  check_count('horizon', horizon)

  def reset(task: Task, key: Array) -> EnvState:
    layout = rules.layout(task, key)
    state = sawyer.start(
      layout, opening=0.0 if is_closed else 1.0, hide_goal=hide_goal
    )
    measured = sawyer.measure(state, layout.fixture, task.model_fields)
    reading = sawyer.read(state, measured)
    record = rules.first_record(task, reading)
    return first_state(
      task,
      state,
      rules.observe(task, reading, reading),
      rules.judge(task, reading, record)[1],
      SawyerMemory(
        setpoint=layout.hand,
        reading=reading,
        fixture=layout.fixture,
        goal=layout.goal,
        record=record,
      ),
    )

  def step(state: EnvState, action: Array) -> EnvState:
    task, memory = state.task, state.memory
    physics_state, measured, setpoint = sawyer.move(
      state.physics,
      memory.setpoint,
      jnp.append(action, 1.0) if is_closed else action,
      memory.fixture,
      task.model_fields,
    )
    reading = sawyer.read(physics_state, measured)
    record = rules.next_record(memory, reading)
    reward, metrics = rules.judge(task, reading, record)
    return dataclasses.replace(
      state,
      physics=physics_state,
      observation=rules.observe(task, memory.reading, reading),
      reward=reward,
      metrics=metrics,
      memory=dataclasses.replace(
        memory, setpoint=setpoint, reading=reading, record=record
      ),
    )

  return checked(
    Env(
      spec=EnvSpec(
        name=f'sawyer_{name}',
        observation_size=observation_size,
        action_size=3 if is_closed else 4,
        horizon=horizon,
        control_period_s=NUM_SUBSTEPS * sawyer.world.time_step_s,
      ),
      sample_task=rules.sample_task,
      sample_test_task=rules.sample_test_task,
      reset=reset,
      step=step,
      model=sawyer.world.model,
      holds_physics=sawyer.world.needs_options,
      scene_fields=lambda state: sawyer.fields(
        state.memory.fixture, state.task.model_fields
      ),
    )
  )
