"""Flags made from dataclasses, and what is wrong with them said in one line.

Every field of a config is one flag, `--config.FIELD=VALUE`; nothing is
declared twice. Flags hold the text that was typed; it becomes a value when the
config it belongs to is known, so that several experiments with configs of
several classes share one command line.
"""

from collections.abc import Callable, Iterable, Sequence
import dataclasses
import itertools
import math
import types
import typing
from typing import Any, NamedTuple, TypeVar

from absl import flags

from metajax.core.validation import InputError, did_you_mean, reject

Config = TypeVar('Config')


class FieldKind(NamedTuple):
  """How the value of a config's field is written on a command line.

  Attributes:
    expected: what it is, as an error message says it.
    parse: `(text) -> value`; raises ValueError if the text is not one.
    is_boolean: whether the flag may stand alone, as `--config.FIELD`.
    is_number: whether it is one float, which alone can be swept.
  """

  expected: str
  parse: Callable[[str], Any]
  is_boolean: bool = False
  is_number: bool = False


def field_kinds(config: Any) -> dict[str, FieldKind]:
  """Returns how each field of a dataclass is written.

  The kind is the annotation's; where that says nothing that can be typed (an
  array, Any), it is the value's.

  Args:
    config: instance of a dataclass.

  Raises:
    TypeError: if a field is of a kind that no flag can hold.
  """
  annotations = typing.get_type_hints(type(config))
  kinds = {}
  for field in dataclasses.fields(config):
    value = getattr(config, field.name)
    kind = _kind_of(annotations[field.name]) or _kind_of_value(value)
    if kind is None:
      raise TypeError(
        f'{type(config).__name__}.{field.name}: no flag can hold a '
        f'{annotations[field.name]}'
      )
    kinds[field.name] = kind
  return kinds


def is_static(config: Any, name: str) -> bool:
  """Says whether a field changes the program, so that it cannot be traced."""
  for field in dataclasses.fields(config):
    if field.name == name:
      return not field.metadata.get('pytree_node', True)
  raise KeyError(name)


def define_from(
  configs: Iterable[Any], prefix: str, flag_values: flags.FlagValues
) -> None:
  """Defines one flag `--PREFIX.FIELD` for every field of some dataclasses.

  Args:
    configs: instances; a field that several have gets one flag.
    prefix: what stands before the dot.
    flag_values: where the flags are defined.
  """
  for config in configs:
    for name, kind in field_kinds(config).items():
      flag = f'{prefix}.{name}'
      if flag in flag_values:
        continue
      define = flags.DEFINE_boolean if kind.is_boolean else flags.DEFINE_string
      # A flag given twice is a mistake, not a correction.
      define(
        flag,
        None,
        kind.expected,
        flag_values=flag_values,
        allow_overwrite=False,
      )


def parse(argv: Sequence[str], flag_values: flags.FlagValues) -> None:
  """Parses a command line.

  Args:
    argv: the program's name and its arguments.
    flag_values: the flags that it may hold.

  Raises:
    InputError: if a flag is unknown, given twice, without its value or with
      one of the wrong type, or if there is an argument that is not a flag.
  """
  try:
    rest = flag_values(argv)
  except flags.UnrecognizedFlagError as error:
    name = error.flagname
    hint = did_you_mean(f'--{name}', _spellings(flag_values))
    raise InputError(f'--{name}: no such flag{hint}') from None
  except flags.Error as error:
    raise InputError(' '.join(str(error).split())) from None
  if len(rest) > 1:
    hint = did_you_mean(f'--{rest[1]}', _spellings(flag_values))
    raise InputError(f'expected flags only, got {rest[1]!r}{hint}')


def override(
  config: Config, prefix: str, flag_values: flags.FlagValues
) -> Config:
  """Returns the config with what the command line says in place of it.

  Args:
    config: instance of a dataclass, with a preset's values.
    prefix: what stands before the dot.
    flag_values: flags, parsed.

  Raises:
    InputError: if a value is not of its field's type, or if a flag is given
      that is a field of another config only.
  """
  kinds = field_kinds(config)
  changes = {}
  for flag in flag_values:
    before, _, name = flag.partition('.')
    given = flag_values[flag].value
    if before != prefix or not name or given is None:
      continue
    if name not in kinds:
      raise InputError(
        f'--{flag}: no field of this {prefix}{did_you_mean(name, kinds)}'
      )
    changes[name] = _value(f'--{flag}', kinds[name], str(given))
  return dataclasses.replace(typing.cast(Any, config), **changes)


def parse_sweeps(
  texts: Sequence[str], config: Any
) -> dict[str, tuple[float, ...]]:
  """Parses `FIELD=a,b,c` for each field that a sweep varies.

  Args:
    texts: one text a field.
    config: config whose fields they are.

  Returns:
    The values of each field, in the order of the command line.

  Raises:
    InputError: if a text is not of that form, or if the field is unknown,
      given twice, static, or not a number.
  """
  kinds = field_kinds(config)
  sweeps = {}
  for text in texts:
    name, equals, listed = text.partition('=')
    name = name.strip().removeprefix('config.')
    if not equals:
      raise reject('--sweep', 'FIELD=a,b,c', text)
    if name not in kinds:
      raise InputError(
        f'--sweep: no field {name!r} in this config{did_you_mean(name, kinds)}'
      )
    if name in sweeps:
      raise InputError(f'--sweep: the field {name} is given twice')
    values = [value.strip() for value in listed.split(',')]
    if is_static(config, name):
      example = ', '.join(f'--config.{name}={value}' for value in values[:2])
      raise InputError(
        f'--sweep: {name} is static, it changes the program; start one run per'
        f' value ({example})'
      )
    if not kinds[name].is_number:
      raise InputError(
        f'--sweep: {name} is {kinds[name].expected}; only numbers are swept,'
        ' start one run per value'
      )
    numbers = tuple(
      _value(f'--sweep={name}', kinds[name], value) for value in values
    )
    if None in numbers or len(set(map(_written, numbers))) < len(numbers):
      raise reject(f'--sweep={name}', 'numbers that differ', listed)
    sweeps[name] = numbers
  return sweeps


def swept_configs(
  config: Config, sweeps: dict[str, tuple[float, ...]]
) -> dict[str, Config]:
  """Returns every setting of a sweep: the product of its fields' values.

  Args:
    config: what all settings share.
    sweeps: values of each field.

  Returns:
    The config of each setting, named as in `inner_lr=0.1,outer_lr=0.01`.
  """
  settings = {}
  for values in itertools.product(*sweeps.values()):
    changes = dict(zip(sweeps, values, strict=True))
    label = ','.join(f'{name}={_written(v)}' for name, v in changes.items())
    settings[label] = dataclasses.replace(typing.cast(Any, config), **changes)
  return settings


def _spellings(flag_values: flags.FlagValues) -> list[str]:
  """Returns the flags as they are typed; those that negate are last."""
  negated = [name for name in flag_values if flag_values[name].boolean]
  return [f'--{name}' for name in flag_values] + [
    f'--no{name}' for name in negated
  ]


def _written(number: float) -> str:
  return f'{number:.9g}'


def _value(flag: str, kind: FieldKind, text: str) -> Any:
  """Returns the value that a text says, or raises what it should have said."""
  try:
    return kind.parse(text)
  except ValueError:
    raise reject(flag, kind.expected, text) from None


def _number(text: str) -> float:
  number = float(text)
  if math.isnan(number):
    raise ValueError(text)
  return number


def _boolean(text: str) -> bool:
  answers = {'true': True, '1': True, 'false': False, '0': False}
  if text.lower() not in answers:
    raise ValueError(text)
  return answers[text.lower()]


_KINDS = {
  float: FieldKind('a number', _number, is_number=True),
  int: FieldKind('an integer', int),
  bool: FieldKind('true or false', _boolean, is_boolean=True),
  str: FieldKind('a text', str),
}


def _kind_of(annotation: Any) -> FieldKind | None:
  """Returns the kind of a type, or None if no text can be one."""
  if annotation in _KINDS:
    return _KINDS[annotation]
  origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
  if origin is tuple and arguments:
    return _tuple_kind(arguments)
  if origin is typing.Literal:
    return _choice_kind(arguments)
  if origin in (typing.Union, types.UnionType):
    # Of `float | Array`, a command line can only hold the float.
    kinds = [kind for kind in map(_kind_of, arguments) if kind is not None]
    if len(kinds) == 1 and type(None) in arguments:
      return _optional_kind(kinds[0])
    return kinds[0] if kinds else None
  return None


def _kind_of_value(value: Any) -> FieldKind | None:
  if isinstance(value, tuple) and value:
    return _kind_of(tuple[type(value[0]), ...])
  return _kind_of(type(value))


def _tuple_kind(arguments: Sequence[Any]) -> FieldKind | None:
  element = _kind_of(arguments[0])
  if element is None:
    return None
  length = None if arguments[-1] is Ellipsis else len(arguments)

  def parse_tuple(text):
    stripped = text.strip().removeprefix('(').removesuffix(')').rstrip(', ')
    parts = stripped.split(',') if stripped else []
    if length is not None and len(parts) != length:
      raise ValueError(text)
    return tuple(element.parse(part.strip()) for part in parts)

  nouns = {'a number': 'numbers', 'an integer': 'integers', 'a text': 'texts'}
  noun = nouns.get(element.expected, f'values, each {element.expected}')
  count = '' if length is None else f'{length} '
  return FieldKind(f'{count}{noun} separated by commas', parse_tuple)


def _choice_kind(choices: Sequence[Any]) -> FieldKind:
  by_text = {str(choice): choice for choice in choices}

  def parse_choice(text):
    if text not in by_text:
      raise ValueError(text)
    return by_text[text]

  return FieldKind(f'one of {", ".join(by_text)}', parse_choice)


def _optional_kind(kind: FieldKind) -> FieldKind:
  def parse_optional(text):
    return None if text.lower() == 'none' else kind.parse(text)

  # Not `is_boolean`: `--config.FIELD=none` must be a text of its own.
  return FieldKind(
    f'{kind.expected} or none', parse_optional, is_number=kind.is_number
  )
