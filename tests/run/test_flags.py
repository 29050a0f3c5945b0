"""Flags from dataclasses: every type, every mistake in one line."""

import dataclasses
from typing import Literal

from absl import flags
from flax import struct
from hypothesis import given, strategies
import jax
import pytest

from metajax.core.validation import InputError, check_choice, did_you_mean
from metajax.run.flags import (
  define_from,
  field_kinds,
  is_static,
  override,
  parse,
  parse_sweeps,
  swept_configs,
)
from metajax.run.schedule import Schedule


def _static(default):
  return struct.field(pytree_node=False, default=default)


@struct.dataclass
class Config:
  inner_lr: float = 0.1
  clip_norm: float | None = None
  damping: float | jax.Array = 0.0
  num_inner_steps: int = _static(1)
  shots: int | None = _static(None)
  first_order: bool = _static(False)
  activation: str = _static('relu')
  loss: Literal['mse', 'nll'] = _static('mse')
  hidden_sizes: tuple[int, ...] = _static((40, 40))
  image_size: tuple[int, int] = _static((64, 64))
  rates: tuple[float, ...] = _static((0.1,))


@struct.dataclass
class OtherConfig:
  inner_lr: float = 0.5
  horizon: int = _static(10)


def _flags() -> flags.FlagValues:
  flag_values = flags.FlagValues()
  define_from([Config(), OtherConfig()], 'config', flag_values)
  define_from([Schedule(num_steps=10)], 'schedule', flag_values)
  return flag_values


def _config(*arguments: str, config=None):
  flag_values = _flags()
  parse(['program', *arguments], flag_values)
  return override(config or Config(), 'config', flag_values)


def _message(*arguments: str, config=None) -> str:
  with pytest.raises(InputError) as caught:
    _config(*arguments, config=config)
  message = str(caught.value)
  assert '\n' not in message
  return message


@pytest.mark.parametrize(
  ('argument', 'field', 'value'),
  [
    ('--config.inner_lr=1e-3', 'inner_lr', 1e-3),
    ('--config.inner_lr=2', 'inner_lr', 2.0),
    ('--config.clip_norm=0.5', 'clip_norm', 0.5),
    ('--config.damping=0.25', 'damping', 0.25),
    ('--config.num_inner_steps=5', 'num_inner_steps', 5),
    ('--config.shots=10', 'shots', 10),
    ('--config.shots=none', 'shots', None),
    ('--config.first_order', 'first_order', True),
    ('--config.first_order=true', 'first_order', True),
    ('--noconfig.first_order', 'first_order', False),
    ('--config.activation=tanh', 'activation', 'tanh'),
    ('--config.loss=nll', 'loss', 'nll'),
    ('--config.hidden_sizes=100', 'hidden_sizes', (100,)),
    ('--config.hidden_sizes=8,16,8', 'hidden_sizes', (8, 16, 8)),
    ('--config.hidden_sizes=(8, 16)', 'hidden_sizes', (8, 16)),
    ('--config.hidden_sizes=', 'hidden_sizes', ()),
    ('--config.image_size=32,48', 'image_size', (32, 48)),
    ('--config.rates=0.1,2', 'rates', (0.1, 2.0)),
  ],
)
def test_values_of_every_type(argument, field, value):
  config = _config(argument)
  got = getattr(config, field)
  assert got == value
  assert type(got) is type(value)
  assert config.replace(**{field: getattr(Config(), field)}) == Config()


def test_no_flags_change_nothing():
  assert _config() == Config()


@given(strategies.floats(allow_nan=False), strategies.integers())
def test_numbers_survive_the_command_line(number, integer):
  config = _config(
    f'--config.inner_lr={number!r}', f'--config.num_inner_steps={integer}'
  )
  assert config.inner_lr == number
  assert config.num_inner_steps == integer


@pytest.mark.parametrize(
  ('argument', 'expected'),
  [
    ('--config.inner_lr=abc', 'a number'),
    ('--config.inner_lr=nan', 'a number'),
    ('--config.inner_lr=', 'a number'),
    ('--config.num_inner_steps=2.5', 'an integer'),
    ('--config.num_inner_steps=true', 'an integer'),
    ('--config.shots=x', 'an integer or none'),
    ('--config.clip_norm=x', 'a number or none'),
    ('--config.hidden_sizes=40,x', 'integers separated by commas'),
    ('--config.hidden_sizes=40,,40', 'integers separated by commas'),
    ('--config.image_size=32', '2 integers separated by commas'),
    ('--config.loss=mae', 'one of mse, nll'),
    ('--config.first_order=maybe', 'boolean'),
  ],
)
def test_wrong_types_name_the_flag_and_what_it_expects(argument, expected):
  message = _message(argument)
  flag, _, text = argument.partition('=')
  assert flag in message
  assert expected in message
  assert text in message


def test_wrong_command_lines():
  assert 'no such flag' in _message('--unheard_of=1')
  assert 'Missing value' in _message('--config.inner_lr')
  assert 'already defined' in _message(
    '--config.inner_lr=1', '--config.inner_lr=2'
  )
  message = _message('config.inner_lr=1')
  assert "got 'config.inner_lr=1'" in message
  assert '--config.inner_lr?' in message


def test_field_of_another_config_only():
  message = _message('--config.horizon=5')
  assert '--config.horizon: no field of this config' in message
  assert _config('--config.horizon=5', config=OtherConfig()).horizon == 5
  assert _config('--config.inner_lr=2', config=OtherConfig()).inner_lr == 2


def test_schedule_is_checked_where_it_is_built():
  flag_values = _flags()
  parse(['program', '--schedule.log_every=0'], flag_values)
  with pytest.raises(InputError, match='log_every: expected an integer >= 1'):
    override(Schedule(num_steps=10), 'schedule', flag_values)


def _misspellings(word: str) -> list[str]:
  """Drops, swaps and adds one letter, at each place of the word's last part."""
  start = word.rfind('.') + 1
  typos = []
  for i in range(start, len(word)):
    typos.append(word[:i] + word[i + 1 :])
    typos.append(word[:i] + 'x' + word[i:])
    if i + 1 < len(word):
      typos.append(word[:i] + word[i + 1] + word[i] + word[i + 2 :])
  return typos


def test_misspelt_flags_are_refused_and_corrected():
  names = list(_flags())
  refused = right = 0
  for name in names:
    for typo in _misspellings(name):
      if typo in names or len(typo) < 3:
        continue
      message = _message(f'--{typo}=1')
      refused += 1
      right += message.endswith(f'did you mean --{name}?')
  assert refused > 200
  assert right >= 0.9 * refused


def test_misspelt_names():
  known = ['sinusoid', 'navigation', 'half_cheetah_velocity']
  for name in known:
    for typo in _misspellings(name):
      if typo not in known:
        with pytest.raises(InputError, match=f'did you mean {name}[?]'):
          check_choice('--experiment', typo, known)
  check_choice('--experiment', 'sinusoid', known)
  assert did_you_mean('qqqq', known) == ''
  assert did_you_mean('Sinusoid', known) == '; did you mean sinusoid?'


def test_sweeps():
  config = Config()
  sweeps = parse_sweeps(['inner_lr=0.1,1', 'config.clip_norm=5,10'], config)
  assert sweeps == {'inner_lr': (0.1, 1.0), 'clip_norm': (5.0, 10.0)}
  settings = swept_configs(config, sweeps)
  assert list(settings) == [
    'inner_lr=0.1,clip_norm=5',
    'inner_lr=0.1,clip_norm=10',
    'inner_lr=1,clip_norm=5',
    'inner_lr=1,clip_norm=10',
  ]
  assert settings['inner_lr=1,clip_norm=5'] == config.replace(
    inner_lr=1.0, clip_norm=5.0
  )
  assert swept_configs(config, {}) == {'': config}


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('inner_lr', r'expected FIELD=a,b,c'),
    ('iner_lr=1,2', r'no field .*did you mean inner_lr[?]'),
    ('inner_lr=1,x', r'expected a number'),
    ('inner_lr=1,1.0', r'numbers that differ'),
    ('clip_norm=none,1', r'numbers that differ'),
    (
      'num_inner_steps=1,5',
      r'static.*start one run per value .*--config.num_inner_steps=1',
    ),
  ],
)
def test_wrong_sweeps(text, message):
  with pytest.raises(InputError, match=message):
    parse_sweeps([text], Config())


def test_a_field_swept_twice():
  with pytest.raises(InputError, match='given twice'):
    parse_sweeps(['inner_lr=1,2', 'inner_lr=3'], Config())


def test_which_fields_are_static():
  assert not is_static(Config(), 'inner_lr')
  assert is_static(Config(), 'num_inner_steps')
  with pytest.raises(KeyError):
    is_static(Config(), 'absent')


def test_a_field_that_no_flag_can_hold():
  @dataclasses.dataclass(frozen=True)
  class Unspeakable:
    table: dict[str, int]

  with pytest.raises(TypeError, match='Unspeakable.table'):
    field_kinds(Unspeakable(table={}))
