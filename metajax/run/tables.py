"""Tables of what was measured, beside the paper's values."""

from collections.abc import Mapping, Sequence
import math
from typing import Any


def print_table(
  rows: Sequence[tuple[str, Mapping[str, Any]]],
  reference: Mapping[str, str | float] | None = None,
  *,
  title: str = '',
  digits: int = 2,
) -> None:
  """Prints what was measured, as mean ± ci95 (n), beside the paper's values.

  Args:
    rows: name and `{'mean', 'ci95', 'n'}` of each row.
    reference: name to the paper's value, for the rows that have one.
    title: a line above the table.
    digits: significant digits of an interval, which decide those of a mean
      (at most; a mean has no more than six).
  """
  print(format_table(rows, reference, title=title, digits=digits), flush=True)


def format_table(
  rows: Sequence[tuple[str, Mapping[str, Any]]],
  reference: Mapping[str, str | float] | None = None,
  *,
  title: str = '',
  digits: int = 2,
) -> str:
  """Returns the text that `print_table` prints; its arguments are the same."""
  header = ['', 'mean', '± 95 %', 'n'] + (['paper'] if reference else [])
  lines = [header]
  for name, summary in rows:
    mean, half_width = _rounded(summary['mean'], summary['ci95'], digits)
    line = [name, mean, half_width, str(summary['n'])]
    if reference:
      value = reference.get(name, '')
      line.append(value if isinstance(value, str) else f'{value:g}')
    lines.append(line)
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  text = []
  for line in lines:
    cells = [line[0].ljust(widths[0])] + [
      cell.rjust(width)
      for cell, width in zip(line[1:], widths[1:], strict=True)
    ]
    text.append('  '.join(cells).rstrip())
  text.insert(1, '-' * max(map(len, text)))
  return '\n'.join(([title] if title else []) + text)


def _rounded(mean, half_width, digits: int) -> tuple[str, str]:
  """Returns both with as many decimals as the interval deserves."""
  if mean is None or not math.isfinite(mean):
    return 'not finite', '-'
  if half_width is None or not math.isfinite(half_width) or half_width == 0:
    return f'{mean:.4g}', '-' if half_width is None else f'{half_width:g}'
  decimals = digits - 1 - math.floor(math.log10(half_width))
  most = max(0, 5 - math.floor(math.log10(max(abs(mean), half_width))))
  decimals = min(max(decimals, 0), most)
  return f'{mean:.{decimals}f}', f'{half_width:.{decimals}f}'
