"""Checks of what a user passes in, made before anything is compiled.

Every check names the argument, what was expected and what came, in one line.
A traced value (inside `jit` or under a sweep's `vmap`) has no number yet and
passes; its concrete twin was checked when the config was built.
"""

from collections.abc import Iterable, Sequence
import difflib
import numbers
from typing import Any

import jax
from jax.core import Tracer
import numpy as np


class InputError(ValueError):
  """What a user passed in cannot be used; the message is one line."""


def reject(name: str, expected: str, got: Any) -> InputError:
  """Returns the error that says what was expected of `name` and what came."""
  one_line = ' '.join(repr(got).split())
  return InputError(f'{name}: expected {expected}, got {one_line}')


def is_traced(value: Any) -> bool:
  """Says whether `value` is an abstract value inside a JAX transformation."""
  return isinstance(value, Tracer)


def check_count(name: str, value: Any, *, minimum: int = 1) -> None:
  """Checks that `value` is an integer of at least `minimum`.

  Raises:
    InputError: if it is not.
  """
  is_integer = isinstance(value, numbers.Integral) and not isinstance(
    value, bool
  )
  if not is_integer or value < minimum:
    raise reject(name, f'an integer >= {minimum}', value)


def check_positive(name: str, value: Any) -> None:
  """Checks that `value` is one or several finite numbers greater than zero.

  Raises:
    InputError: if it is not.
  """
  _check_numbers(name, value, 'a finite number > 0', lambda x: x > 0)


def check_range(
  name: str, value: Any, *, minimum: float, maximum: float
) -> None:
  """Checks that `value` lies in `[minimum, maximum]`.

  Raises:
    InputError: if it does not.
  """
  _check_numbers(
    name,
    value,
    f'a number in [{minimum:g}, {maximum:g}]',
    lambda x: (minimum <= x) & (x <= maximum),
  )


def did_you_mean(name: str, known: Iterable[str]) -> str:
  """Returns '; did you mean X?' for the closest known name, or nothing.

  Args:
    name: what was typed.
    known: names that would have been right.
  """
  lower_case = {candidate.lower(): candidate for candidate in known}
  close = difflib.get_close_matches(name.lower(), lower_case, n=1, cutoff=0.6)
  return f'; did you mean {lower_case[close[0]]}?' if close else ''


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
  """Checks that `value` is one of `choices`.

  Raises:
    InputError: if it is not, with the closest one that is.
  """
  if value not in choices:
    rejection = reject(name, f'one of {", ".join(choices)}', value)
    raise InputError(f'{rejection}{did_you_mean(str(value), choices)}')


def check_same_structure(name: str, tree: Any, like: Any) -> None:
  """Checks that two pytrees have the same structure.

  Raises:
    InputError: if they differ.
  """
  got, expected = jax.tree.structure(tree), jax.tree.structure(like)
  if got != expected:
    raise InputError(f'{name}: expected the structure {expected}, got {got}')


def _check_numbers(name, value, expected, holds):
  """Applies `holds` to every concrete number in the array or scalar `value`."""
  if is_traced(value):
    return
  try:
    array = np.asarray(value)
  except (TypeError, ValueError):
    raise reject(name, expected, value) from None
  # Text and truth values are none, though NumPy would make numbers of them.
  if not any(
    jax.numpy.issubdtype(array.dtype, kind)
    for kind in (np.integer, np.floating)
  ):
    raise reject(name, expected, value)
  array = array.astype(float)
  if not np.all(np.isfinite(array)) or not np.all(holds(array)):
    got = array.item() if array.ndim == 0 else array.tolist()
    raise reject(name, expected, got if _is_short(got) else 'an array')


def _is_short(value) -> bool:
  return not isinstance(value, list) or len(str(value)) <= 60
