"""The motion of rigid shapes: what simulators record and the host draws."""

from typing import NamedTuple

import numpy as np

SHAPES = ('plane', 'sphere', 'capsule', 'ellipsoid', 'cylinder', 'box')


class Motion(NamedTuple):
  """Rigid primitive shapes over time, on the host.

  Attributes:
    shapes: [shapes] names out of `SHAPES`.
    sizes: [shapes, 3] float32, m, half-sizes in MuJoCo's manner: a sphere's
      radius first; a capsule's or cylinder's radius, then half its length; an
      ellipsoid's or box's half-extents. A plane's are not read: it is endless.
    colours: [shapes, 4] float32, red, green, blue, alpha in [0, 1].
    poses: [frames, shapes, 7] float32, position (m) and quaternion (w, x, y,
      z) in a world whose z is up.
    focus: [frames, 3] float32, m, the point that a camera follows.
    eye: [3] float32, m, where that camera stands, seen from the focus. With a
      field of view of 45 degrees from top to bottom it sees what matters;
      what is farther from the focus than the eye may stay outside a picture.
    frame_period_s: seconds between two frames.
  """

  shapes: tuple[str, ...]
  sizes: np.ndarray
  colours: np.ndarray
  poses: np.ndarray
  focus: np.ndarray
  eye: np.ndarray
  frame_period_s: float
