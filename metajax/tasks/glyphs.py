"""Glyphs: characters of an alphabet that nobody reads, drawn by programs.

They stand in for Omniglot where nothing may be downloaded: as many classes,
as many drawings of each, as many pixels, and strokes of a pen. A class is a
program of a few strokes; a drawing is the program carried out by an unsteady
hand: every control point is off a little, and the whole is turned, sheared,
stretched, moved and drawn with another pen. (After the generative story of
Lake, Salakhutdinov and Tenenbaum 2015, in a much simpler form.)
"""

import functools

import numpy as np

from metajax.core.validation import check_choice, check_count, reject
from metajax.tasks.image_classification import LabelledImages, labelled_images

# First class and number of classes, as Omniglot is split (Finn 2018, 4.6.2).
SPLITS = {'train': (0, 1100), 'validation': (1100, 100), 'test': (1200, 423)}
NUM_DRAWINGS = 20

_MOST_STROKES = 4
_CONTROL_POINTS = 4  # of a stroke, a cubic Bezier curve
_POINTS = 24  # at which a stroke is inked
# Of the hand that draws, in units of the image's side.
_TREMOR = 0.02
_SHIFT = 0.05
_TURN = 0.12  # rad
_SHEAR = 0.12
_STRETCH = 0.1
_PEN = (0.016, 0.028)  # half of a line's width
_INK = 2.0  # how sharp its edge is
_SIZE = (0.5, 0.8)  # of a character's longer side
_DRAWN_AT_ONCE = 256


@functools.lru_cache(maxsize=8)
def glyphs(
  split: str, *, size: int = 28, num_classes: int | None = None, seed: int = 0
) -> LabelledImages:
  """Draws the classes of a split, 20 drawings of each.

  Args:
    split: 'train' (1100 classes), 'validation' (100) or 'test' (423); no
      class is in two of them.
    size: height and width of a drawing in pixels, >= 8.
    num_classes: only so many of the split's classes. None: all.
    seed: of the alphabet.

  Returns:
    `LabelledImages` of `[20 * num_classes, size, size, 1]` uint8, ink 255 on
    0.

  Raises:
    InputError: for an unknown split or a count out of its range.
  """
  check_choice('split', split, list(SPLITS))
  check_count('size', size, minimum=8)
  check_count('seed', seed, minimum=0)
  first, most = SPLITS[split]
  if num_classes is None:
    num_classes = most
  check_count('num_classes', num_classes)
  if num_classes > most:
    raise reject(
      'num_classes', f'at most {most}, those of {split}', num_classes
    )
  drawings = [
    _drawings(np.random.default_rng((seed, glyph)))
    for glyph in range(first, first + num_classes)
  ]
  points = np.concatenate([points for points, _, _ in drawings])
  weights = np.concatenate([weights for _, weights, _ in drawings])
  pens = np.concatenate([pens for _, _, pens in drawings])
  pictures = np.concatenate(
    [
      _inked(points[chunk], weights[chunk], pens[chunk], size)
      for chunk in _chunks(len(points))
    ]
  )
  return labelled_images(pictures, np.full(num_classes, NUM_DRAWINGS))


def _chunks(number: int) -> list[slice]:
  return [
    slice(start, start + _DRAWN_AT_ONCE)
    for start in range(0, number, _DRAWN_AT_ONCE)
  ]


def _drawings(
  generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Draws one class.

  Returns:
    `[drawings, points, 2]` where the pen goes, in [0, 1]; `[drawings,
    points]` the length of line that each point stands for; `[drawings]` half
    of the width of the line.
  """
  program = _program(generator)
  shape = (NUM_DRAWINGS, *program.shape)
  controls = program[None] + generator.normal(0.0, _TREMOR, shape)
  moments = np.linspace(0.0, 1.0, _POINTS)[:, None]
  basis = np.concatenate(
    [
      (1 - moments) ** 3,
      3 * moments * (1 - moments) ** 2,
      3 * moments**2 * (1 - moments),
      moments**3,
    ],
    axis=1,
  )
  lines = basis @ controls - 0.5  # [drawings, strokes, points, 2]
  lines = lines.reshape(NUM_DRAWINGS, -1, 2) @ _hands(generator)
  lines += 0.5 + generator.normal(0.0, _SHIFT, (NUM_DRAWINGS, 1, 2))
  lines = lines.reshape(NUM_DRAWINGS, -1, _POINTS, 2)
  lengths = np.linalg.norm(np.gradient(lines, axis=2), axis=-1)
  missing = _MOST_STROKES - len(program)  # of no length, hence of no ink
  points = np.pad(lines, ((0, 0), (0, missing), (0, 0), (0, 0)))
  weights = np.pad(lengths, ((0, 0), (0, missing), (0, 0)))
  return (
    points.reshape(NUM_DRAWINGS, -1, 2).astype(np.float32),
    weights.reshape(NUM_DRAWINGS, -1).astype(np.float32),
    generator.uniform(*_PEN, NUM_DRAWINGS).astype(np.float32),
  )


def _program(generator: np.random.Generator) -> np.ndarray:
  """Returns `[strokes, 4, 2]` control points of a new class."""
  strokes = []
  for _ in range(generator.integers(2, _MOST_STROKES + 1)):
    if strokes and generator.uniform() < 0.6:  # begin on an earlier stroke
      before = strokes[generator.integers(len(strokes))]
      start = before[generator.integers(_CONTROL_POINTS)]
    else:
      start = generator.uniform(0.15, 0.85, 2)
    heading = generator.uniform(0.0, 2 * np.pi)
    bend = generator.normal(0.0, 0.8)
    length = generator.uniform(0.12, 0.3)
    points = [start]
    for _ in range(_CONTROL_POINTS - 1):
      step = length * np.array([np.cos(heading), np.sin(heading)])
      points.append(points[-1] + step)
      heading += bend + generator.normal(0.0, 0.4)
    strokes.append(np.stack(points))
  program = np.stack(strokes)
  low, high = program.min((0, 1)), program.max((0, 1))
  scale = generator.uniform(*_SIZE) / np.max(high - low)
  return 0.5 + scale * (program - (low + high) / 2)


def _hands(generator: np.random.Generator) -> np.ndarray:
  """Returns `[drawings, 2, 2]` turns, shears and stretches."""
  turn = generator.normal(0.0, _TURN, NUM_DRAWINGS)
  shear = generator.normal(0.0, _SHEAR, NUM_DRAWINGS)
  stretch = np.exp(generator.normal(0.0, _STRETCH, (NUM_DRAWINGS, 2)))
  cosine, sine = np.cos(turn), np.sin(turn)
  turned = np.stack([cosine, sine, -sine, cosine], -1).reshape(-1, 2, 2)
  sheared = np.zeros((NUM_DRAWINGS, 2, 2))
  sheared[:, 0, 0], sheared[:, 1, 1] = stretch.T
  sheared[:, 1, 0] = shear
  return sheared @ turned


def _inked(
  points: np.ndarray, weights: np.ndarray, pens: np.ndarray, size: int
) -> np.ndarray:
  """Returns `[drawings, size, size, 1]` uint8.

  A point leaves a Gaussian blot, which is a product of one along each axis:
  the blots of a line add up to a matrix product. Their sum is one in the
  middle of a straight line, whatever its pen.
  """
  # A pixel is the finest pen there is, or lines would break up.
  pens = np.maximum(pens, 0.5 / size)[:, None, None]
  centres = (np.arange(size, dtype=np.float32) + 0.5) / size

  def blots(coordinates):
    offsets = (centres[None, :, None] - coordinates[:, None]) / pens
    return np.exp(-0.5 * offsets**2)

  rows = blots(points[:, :, 1]) * weights[:, None]
  density = rows @ blots(points[:, :, 0]).swapaxes(1, 2)
  density /= np.sqrt(2 * np.pi) * pens
  ink = np.clip(_INK * (density - 0.5) + 0.75, 0.0, 1.0)
  return np.round(255 * ink).astype(np.uint8)[..., None]
