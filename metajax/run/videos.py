"""Shows motions: a page that plays them, a picture, a moving picture."""

import base64
from collections.abc import Mapping
import html
from importlib import resources
import io
import json
import os

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
import numpy as np

from metajax.core.durable_files import write_whole
from metajax.core.motion import SHAPES, Motion
from metajax.core.validation import InputError, check_choice, check_count
from metajax.run.frames import write_frames

_INK = '#1f2933'
_GROUND = '#8a97a3'
_ROW_WIDTH_INCHES = 9.0
_MIN_ASPECT = 4.0  # width over height of a row of poses
_FRAME_WIDTH_INCHES = 3.6
_FRAME_ASPECT = 1.8


def write_motion_page(
  path: str | os.PathLike[str],
  motions: Mapping[str, Motion],
  *,
  title: str = 'Motions',
) -> None:
  """Writes one HTML file that plays motions side by side in three dimensions.

  It holds its own renderer (WebGL) and data, asks nothing of any network and
  opens from disk. The camera follows each body, all at one scale; dragging
  turns it, the wheel zooms. `#t=SECONDS` after the address opens it at a time.

  Args:
    path: the file; its folder is made if it is not there.
    motions: caption to motion; at least one.
    title: heading of the page.

  Raises:
    InputError: if there is no motion, or one is malformed.
  """
  check_motions(motions)
  data = [
    {
      'caption': caption,
      'shapes': motion.shapes,
      'sizes': np.round(np.asarray(motion.sizes, float), 5).tolist(),
      'colours': np.round(np.asarray(motion.colours, float), 4).tolist(),
      'period': float(motion.frame_period_s),
      'poses': _base64(motion.poses),
      'focus': _base64(motion.focus),
      'eye': np.round(np.asarray(motion.eye, float), 4).tolist(),
    }
    for caption, motion in motions.items()
  ]
  # Inside a script element only `<` could end it.
  text = json.dumps(data).replace('<', '\\u003c')
  template = resources.files('metajax.run') / 'motion_page.html'
  page = template.read_text(encoding='utf-8')
  page = page.replace('$TITLE', html.escape(title)).replace('$MOTIONS', text)
  write_whole(path, page.encode())


def write_motion_image(
  path: str | os.PathLike[str],
  motions: Mapping[str, Motion],
  *,
  num_poses: int = 8,
) -> None:
  """Draws each motion as one row of poses seen from the side (x and z).

  All rows share their scale, and the poses stand where the body was, so that
  the eye compares how far each has come.

  Args:
    path: the picture, `.png`.
    motions: caption to motion; at least one.
    num_poses: poses drawn of each motion, evenly spaced in time.

  Raises:
    InputError: if there is no motion, one is malformed, or `num_poses` is
      not a count.
  """
  check_motions(motions)
  check_count('num_poses', num_poses)
  drawn = {
    caption: np.linspace(0, len(motion.focus) - 1, num_poses)
    .round()
    .astype(int)
    for caption, motion in motions.items()
  }
  low, high = _bounds(motions, drawn)
  # At least so wide that a body which stays where it is does not fill a page.
  spare = max(0.0, _MIN_ASPECT * (high[1] - low[1]) - (high[0] - low[0])) / 2
  left, right = low[0] - spare - 0.1, high[0] + spare + 0.1
  row_inches = _ROW_WIDTH_INCHES * (high[1] - low[1]) / (right - left) + 0.35
  figure = _new_figure(_ROW_WIDTH_INCHES, row_inches * len(motions) + 0.45)
  axes_column = figure.subplots(
    len(motions), 1, sharex=True, sharey=True, squeeze=False
  )[:, 0]
  for axes, (caption, motion) in zip(axes_column, motions.items(), strict=True):
    for i, frame in enumerate(drawn[caption]):
      strength = 0.25 + 0.75 * (i + 1) / num_poses
      _draw_frame(axes, motion, frame, strength=strength, order=i)
    _dress(axes, caption, low[1], high[1])
    axes.set_xlim(left, right)
    if axes is not axes_column[-1]:
      axes.tick_params(bottom=False)
  axes_column[-1].set_xlabel('x (m)', color=_INK)
  png = io.BytesIO()
  figure.savefig(png, format='png', dpi=160)
  write_whole(path, png.getvalue())


def write_motion_gif(
  path: str | os.PathLike[str],
  motions: Mapping[str, Motion],
  *,
  frames_per_s: float = 20.0,
) -> None:
  """Writes a looping GIF of motions side by side, each followed from the side.

  Args:
    path: the file, `.gif`.
    motions: caption to motion; at least one.
    frames_per_s: pictures a second; motions play at their own speed.

  Raises:
    InputError: if there is no motion, or one is malformed.
  """
  check_motions(motions)
  duration = max(
    (len(motion.focus) - 1) * motion.frame_period_s
    for motion in motions.values()
  )
  times = np.arange(0.0, duration + 1e-9, 1.0 / frames_per_s)
  drawn = {
    caption: np.minimum(
      np.round(times / motion.frame_period_s).astype(int),
      len(motion.focus) - 1,
    )
    for caption, motion in motions.items()
  }
  low, high = _bounds(motions, drawn)
  half_width = 0.5 * max(
    _FRAME_ASPECT * (high[1] - low[1]),
    *(0.8 * np.linalg.norm(motion.eye) for motion in motions.values()),
  )
  row_inches = _FRAME_WIDTH_INCHES * (high[1] - low[1]) / (2 * half_width)
  figure = _new_figure(_FRAME_WIDTH_INCHES * len(motions), row_inches + 0.6)
  canvas = FigureCanvasAgg(figure)
  all_axes = figure.subplots(1, len(motions), squeeze=False)[0]
  images = []
  for i in range(len(times)):
    for axes, (caption, motion) in zip(all_axes, motions.items(), strict=True):
      frame = drawn[caption][i]
      axes.clear()
      _draw_frame(axes, motion, frame)
      _dress(axes, caption, low[1], high[1])
      middle = motion.focus[frame, 0]
      axes.set_xlim(middle - half_width, middle + half_width)
    canvas.draw()
    images.append(np.asarray(canvas.buffer_rgba())[..., :3].copy())
  write_frames(path, np.stack(images), frames_per_s=frames_per_s)


def check_motions(motions: Mapping[str, Motion]) -> None:
  """Checks that there are motions and that their arrays fit together.

  Raises:
    InputError: if not, naming the motion.
  """
  if not motions:
    raise InputError('motions: expected at least one, got none')
  for caption, motion in motions.items():
    for shape in motion.shapes:
      check_choice(f'motions[{caption!r}].shapes', shape, SHAPES)
    num_frames, num_shapes = len(motion.focus), len(motion.shapes)
    expected = {
      'sizes': (num_shapes, 3),
      'colours': (num_shapes, 4),
      'poses': (num_frames, num_shapes, 7),
      'focus': (max(num_frames, 1), 3),
      'eye': (3,),
    }
    for name, shape in expected.items():
      got = np.shape(getattr(motion, name))
      if got != shape:
        raise InputError(
          f'motions[{caption!r}].{name}: expected shape {shape}, got {got}'
        )
    if not np.isfinite(motion.poses).all():
      raise InputError(f'motions[{caption!r}].poses: expected finite numbers')


def _base64(array: np.ndarray) -> str:
  little_endian = np.ascontiguousarray(array, dtype='<f4')
  return base64.b64encode(little_endian.tobytes()).decode('ascii')


def _new_figure(width: float, height: float) -> Figure:
  return Figure(figsize=(width, height), layout='constrained')


def _dress(axes, caption: str, bottom: float, top: float) -> None:
  """Gives axes one metre a metre, a ground line and a caption."""
  axes.set_aspect('equal')
  axes.set_ylim(bottom, top)
  axes.axhline(0.0, color=_GROUND, linewidth=1.2, zorder=-1)
  axes.set_title(caption, loc='left', fontsize=10, color=_INK)
  axes.set_yticks([])
  axes.tick_params(colors=_INK, labelsize=8)
  axes.spines[['top', 'left', 'right', 'bottom']].set_visible(False)


def _bounds(
  motions: Mapping[str, Motion], drawn: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the lowest and highest [x, z] of the frames drawn, m."""
  points = [np.zeros((1, 2))]
  for caption, motion in motions.items():
    for frame in np.unique(drawn[caption]):
      near = _near(motion, frame)
      reach = motion.sizes[near].sum(axis=-1, keepdims=True)
      centres = motion.poses[frame, near][:, [0, 2]]
      points += [centres - reach, centres + reach]
  points = np.concatenate(points)
  low, high = points.min(axis=0), points.max(axis=0)
  # What reaches below the ground is a bound of ours, not a body.
  return np.array([low[0], -0.06 * high[1]]), high


def _near(motion: Motion, frame: int) -> np.ndarray:
  """Returns [shapes] bool, what stands no farther from the focus than the eye.

  Planes never do: they are endless.
  """
  gaps = motion.poses[frame, :, :3] - motion.focus[frame]
  solid = np.array([name != 'plane' for name in motion.shapes], bool)
  return solid & (np.linalg.norm(gaps, axis=-1) <= np.linalg.norm(motion.eye))


def _draw_frame(
  axes, motion: Motion, frame: int, *, strength: float = 1.0, order: int = 0
) -> None:
  """Draws the silhouettes of one frame, the farther ones first.

  Args:
    axes: matplotlib's.
    motion: the motion.
    frame: which of its frames.
    strength: opacity in [0, 1].
    order: later poses, of a greater order, cover earlier ones.
  """
  for name, size, colour, pose, near in zip(
    motion.shapes,
    motion.sizes,
    motion.colours,
    motion.poses[frame],
    _near(motion, frame),
    strict=True,
  ):
    if not near:
      continue
    points = _surface(name, size) @ _rotation(pose[3:]).T + pose[:3]
    outline = _convex_hull(points[:, [0, 2]])
    axes.add_patch(
      Polygon(
        outline,
        facecolor=(*colour[:3], colour[3] * strength),
        edgecolor=(*(0.55 * colour[:3]), colour[3] * strength),
        linewidth=0.8,
        # Seen from negative y.
        zorder=order + 0.5 - 0.01 * float(np.clip(pose[1], -10, 10)),
      )
    )


def _rotation(quaternion: np.ndarray) -> np.ndarray:
  """Returns the [3, 3] matrix of a unit quaternion (w, x, y, z)."""
  w, x, y, z = quaternion
  return np.array(
    [
      [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
      [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
      [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
  )


def _surface(name: str, size: np.ndarray) -> np.ndarray:
  """Returns points whose convex hull is the shape, [points, 3], m."""
  if name == 'box':
    corners = np.indices((2, 2, 2)).reshape(3, -1).T * 2 - 1
    return corners * size
  turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
  if name == 'cylinder':
    circle = size[0] * np.stack([np.cos(turn), np.sin(turn)], axis=-1)
    return np.concatenate(
      [np.insert(circle, 2, height, axis=1) for height in (-size[1], size[1])]
    )
  tilt = np.linspace(-np.pi / 2, np.pi / 2, 13)
  ball = np.stack(
    [
      np.outer(np.cos(tilt), np.cos(turn)).ravel(),
      np.outer(np.cos(tilt), np.sin(turn)).ravel(),
      np.outer(np.sin(tilt), np.ones_like(turn)).ravel(),
    ],
    axis=-1,
  )
  if name == 'ellipsoid':
    return ball * size
  ball = ball * size[0]
  if name == 'sphere':
    return ball
  axis = np.array([0.0, 0.0, size[1]])
  return np.concatenate([ball - axis, ball + axis])


def _convex_hull(points: np.ndarray) -> np.ndarray:
  """Returns the convex hull of [points, 2], counter-clockwise.

  Andrew's monotone chain: the lower half from left to right, then the upper.
  """
  ordered = sorted(map(tuple, np.unique(np.round(points, 9), axis=0)))

  def half(points):
    chain = []
    for point in points:
      while len(chain) > 1 and not _turns_left(chain[-2], chain[-1], point):
        chain.pop()
      chain.append(point)
    return chain[:-1]

  return np.array(half(ordered) + half(ordered[::-1]))


def _turns_left(a, b, c) -> bool:
  return (b[0] - a[0]) * (c[1] - a[1]) > (b[1] - a[1]) * (c[0] - a[0])
