"""Shows the simulated robots: what there is, how it moves, how fast it steps.

python -m experiments.robots --list
python -m experiments.robots --family=half_cheetah_velocity
python -m experiments.robots --family=jaco_stack --controller=teacher
python -m experiments.robots --family=pusher --actions=actions.npy
python -m experiments.robots --speed --physics=mjx,c
python -m experiments.robots --solve --num_tasks=20 --physics=c
python -m experiments.robots --solve --family=jaco_stack --style=metamimic_b
"""

from pathlib import Path
import time
from typing import Any

from absl import app, flags, logging
import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from experiments.robot_speeds import print_speeds
from metajax.core.compilation import compile_hot
from metajax.core.validation import InputError, check_choice, reject
from metajax.demos.teachers.catalogue import TEACHERS, make_teacher
from metajax.demos.teachers.styles import STYLES
from metajax.demos.teachers.teacher import Teacher, run_teacher
from metajax.envs.catalogue import FAMILIES, make_environment
from metajax.envs.engines import ENGINES
from metajax.envs.environment import Env, EnvState, held_out
from metajax.envs.motion import motion_of_states
from metajax.envs.views import camera_view
from metajax.run.errors import exit_in_one_line
from metajax.run.figures.filmstrips import filmstrip
from metajax.run.frames import write_frames
from metajax.run.videos import write_motion_page

_CONTROLLERS = ('random', 'teacher')
_STRIP_FRAMES = 6
_VIDEO_FRAMES = 60
_FRAME_SIZE = {'height': 120, 'width': 160}

_LIST = flags.DEFINE_boolean('list', False, 'print the families')
_FAMILY = flags.DEFINE_list('family', [], 'which families; all for tables')
_PHYSICS = flags.DEFINE_list('physics', ['mjx'], 'physics engines: mjx, c')
_CONTROLLER = flags.DEFINE_string(
  'controller', 'random', 'what acts: random, or teacher, which sees all'
)
_STYLE = flags.DEFINE_string('style', 'plain', 'how the teacher acts')
_ACTIONS = flags.DEFINE_string(
  'actions', None, 'a .npy file [steps, action_size] that is played'
)
_EPISODES = flags.DEFINE_integer('episodes', 2, 'tasks shown on the page', 1)
_HELD_OUT = flags.DEFINE_boolean('held_out', False, 'held-out tasks')
_SEED = flags.DEFINE_integer('seed', 0, 'seed of tasks and actions', 0)
_WORKDIR = flags.DEFINE_string('workdir', 'runs/robots', 'where pages go')
_SPEED = flags.DEFINE_boolean('speed', False, 'print the table of speeds')
_BATCH = flags.DEFINE_integer('batch', 128, 'robots at once, for the speed', 1)
_SOLVE = flags.DEFINE_boolean('solve', False, "print the teachers' successes")
_NUM_TASKS = flags.DEFINE_integer('num_tasks', 20, 'tasks of each family', 1)


def main(argv):
  """Does what the flags ask for; one line says what was wrong with them."""
  logging.set_verbosity(logging.WARNING)
  with exit_in_one_line('robots'):
    if argv[1:]:
      raise InputError(f'{argv[1]}: expected flags only')
    _execute()


def _execute() -> None:
  for name in _FAMILY.value:
    check_choice('--family', name, tuple(FAMILIES))
  for engine in _PHYSICS.value:
    check_choice('--physics', engine, tuple(ENGINES))
  check_choice('--controller', _CONTROLLER.value, _CONTROLLERS)
  check_choice('--style', _STYLE.value, tuple(STYLES))
  if _LIST.value:
    width = max(map(len, FAMILIES))
    for name, family in FAMILIES.items():
      print(f'{name:{width}}  {family.about}')
  elif _SPEED.value:
    print_speeds(
      _FAMILY.value or list(FAMILIES),
      _PHYSICS.value,
      batch=_BATCH.value,
      seed=_SEED.value,
    )
  elif _SOLVE.value:
    print_successes(_FAMILY.value or list(TEACHERS), _PHYSICS.value[0])
  elif not _FAMILY.value:
    raise reject('--family', f'some of {", ".join(FAMILIES)}', 'none')
  else:
    for name in _FAMILY.value:
      play(name)


def play(name: str) -> None:
  """Plays some episodes of one family, and writes the page that shows them."""
  env = make_environment(name, physics=_PHYSICS.value[0])
  env = held_out(env) if _HELD_OUT.value else env
  if _ACTIONS.value is not None:
    controller = given_actions(env, Path(_ACTIONS.value))
  elif _CONTROLLER.value == 'teacher':
    controller = make_teacher(name, env, _STYLE.value)
  else:
    controller = random_actions(env)
  keys = jax.random.split(jax.random.key(_SEED.value), _EPISODES.value)
  states = _episodes(env, controller)(keys)
  returns, successes = np.sum(states.reward, axis=1), _successes(states)
  for i in range(_EPISODES.value):
    said = '' if successes is None else f', success {bool(successes[i])}'
    print(f'{name}, task {i}: return {returns[i]:.2f}{said}')
  if env.model is None and env.picture is None:
    return
  strip = Path(_WORKDIR.value) / f'{name}.png'
  draw_pictures(strip, env, states, title=f'{name}, {controller.name}')
  if env.model is None:
    return
  page = strip.with_suffix('.html')
  motions = {
    f'task {i}': motion_of_states(
      env, jax.tree.map(lambda x, i=i: x[i], states)
    )
    for i in range(_EPISODES.value)
  }
  write_motion_page(page, motions, title=f'{name}, {controller.name}')
  print(page)


def draw_pictures(
  path: Path, env: Env, states: EnvState, *, title: str
) -> None:
  """Writes a filmstrip and a video, as the environment's camera sees it.

  Args:
    path: the PNG to write; the video is the GIF beside it.
    env: the environment.
    states: [episodes, frames] states.
    title: of the figure.
  """
  num_episodes, num_states = states.reward.shape[:2]
  num_frames = min(_VIDEO_FRAMES, num_states)
  chosen = np.linspace(0, num_states - 1, num_frames).round().astype(int)
  some = jax.tree.map(lambda x: x[:, chosen], states)
  view = camera_view(env, **_FRAME_SIZE, samples=2)
  program = compile_hot(
    jax.vmap(jax.vmap(lambda state: view(state).rgb)),
    holds_physics=env.holds_physics,
  )
  frames = jax.device_get(program(some))
  shown = np.linspace(0, num_frames - 1, _STRIP_FRAMES).round().astype(int)
  filmstrip(
    path,
    {f'task {i}': frames[i, shown] for i in range(num_episodes)},
    title=title,
  )
  print(path)
  video = path.with_suffix('.gif')
  # Side by side, and as fast as it happened.
  duration_s = (num_states - 1) * (env.spec.control_period_s or 0.1)
  write_frames(
    video,
    np.concatenate(list(frames), axis=2),
    frames_per_s=max(num_frames / duration_s, 1.0),
  )
  print(video)


def random_actions(env: Env) -> Teacher:
  """Returns the controller that acts at random."""
  limit = env.spec.action_limit

  def act(state: EnvState, memory: Any, key: Array) -> tuple[Array, Any]:
    del state
    shape = (env.spec.action_size,)
    return jax.random.uniform(key, shape, minval=-limit, maxval=limit), memory

  return Teacher('random actions', lambda state, key: (), act)


def given_actions(env: Env, path: Path) -> Teacher:
  """Returns the controller that plays a file's actions, the last for ever.

  Raises:
    InputError: if the file does not hold finite [steps, action_size] numbers.
  """
  try:
    actions = np.load(path, allow_pickle=False)
  except (OSError, ValueError) as error:
    raise InputError(f'--actions: {path}: {error}') from error
  size = env.spec.action_size
  if actions.ndim != 2 or actions.shape[1] != size or not len(actions):
    raise reject('--actions', f'an array [steps, {size}]', actions.shape)
  if not np.isfinite(actions).all():
    raise InputError(f'--actions: {path}: expected finite numbers')
  actions = jnp.asarray(actions, jnp.float32)

  def act(state: EnvState, memory: Array, key: Array) -> tuple[Array, Array]:
    del state, key
    return actions[jnp.minimum(memory, len(actions) - 1)], memory + 1

  return Teacher(path.name, lambda state, key: jnp.zeros((), jnp.int32), act)


def print_successes(names: list[str], engine: str) -> None:
  """Prints how many of some tasks each family's teacher solves."""
  print(f'{"family":28} solved of {_NUM_TASKS.value}  mean return  seconds')
  for name in names:
    check_choice('--family', name, tuple(TEACHERS))
    env = make_environment(name, physics=engine)
    env = held_out(env) if _HELD_OUT.value else env
    keys = jax.random.split(jax.random.key(_SEED.value), _NUM_TASKS.value)
    start = time.perf_counter()
    states = _episodes(env, make_teacher(name, env, _STYLE.value))(keys)
    solved, returns = _successes(states), np.sum(states.reward, axis=1)
    seconds = time.perf_counter() - start
    print(
      f'{name:28} {int(np.sum(solved)):9d}  {returns.mean():11.2f}'
      f'  {seconds:7.0f}',
      flush=True,
    )


def _episodes(env: Env, controller: Teacher):
  """Returns the compiled `(keys) -> states` of one episode a key."""

  def episode(key):
    task_key, episode_key = jax.random.split(key)
    task = env.sample_task(task_key)
    return run_teacher(env, controller, task, episode_key).states

  program = compile_hot(jax.vmap(episode), holds_physics=env.holds_physics)
  return lambda keys: jax.device_get(program(keys))


def _successes(states: EnvState) -> np.ndarray | None:
  """Returns [episodes] bool, whether each once was a success; None: untold."""
  if 'success' not in states.metrics:
    return None
  return np.max(states.metrics['success'], axis=1) > 0


if __name__ == '__main__':
  app.run(main)
