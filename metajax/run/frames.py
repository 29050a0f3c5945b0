"""Videos of frames, as cameras draw them: a GIF, or an MP4."""

import io
import os
from pathlib import Path
import subprocess
import tempfile

import numpy as np
from PIL import Image

from metajax.core.durable_files import write_whole
from metajax.core.validation import InputError, check_positive, reject

_SUFFIXES = ('.gif', '.mp4')


def write_frames(
  path: str | os.PathLike[str], frames: np.ndarray, *, frames_per_s: float
) -> None:
  """Writes a video; whole, or not at all.

  Args:
    path: the file: `.gif`, which plays for ever, or `.mp4`, which needs the
      extra `video` and an even number of rows and columns.
    frames: [frames, height, width, 3] uint8, at least one.
    frames_per_s: how many are shown in a second.

  Raises:
    InputError: if an argument cannot be used, or the extra is not installed.
    StorageError: if the file cannot be written.
  """
  path = Path(path)
  if path.suffix not in _SUFFIXES:
    raise reject('path', f'a name that ends in {" or ".join(_SUFFIXES)}', path)
  check_positive('frames_per_s', frames_per_s)
  frames = np.asarray(frames)
  is_film = frames.ndim == 4 and frames.shape[0] and frames.shape[3] == 3
  if not is_film or frames.dtype != np.uint8:
    raise reject(
      'frames',
      '[frames, height, width, 3] uint8',
      f'{list(frames.shape)} {frames.dtype}',
    )
  encode = _gif if path.suffix == '.gif' else _mp4
  write_whole(path, encode(frames, frames_per_s))


def _gif(frames: np.ndarray, frames_per_s: float) -> bytes:
  images = [Image.fromarray(frame).quantize(128) for frame in frames]
  buffer = io.BytesIO()
  images[0].save(
    buffer,
    format='GIF',
    save_all=True,
    append_images=images[1:],
    duration=round(1000 / frames_per_s),
    loop=0,
  )
  return buffer.getvalue()


def _mp4(frames: np.ndarray, frames_per_s: float) -> bytes:
  height, width = frames.shape[1:3]
  if height % 2 or width % 2:
    raise reject('frames', 'even numbers of pixels for .mp4', [height, width])
  try:
    import imageio_ffmpeg  # optional
  except ImportError:
    raise InputError(
      "path: .mp4 needs imageio-ffmpeg: pip install 'metajax[video]'"
    ) from None
  # The encoder writes this format to files only.
  with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / 'film.mp4'
    raw = ['-f', 'rawvideo', '-pix_fmt', 'rgb24', '-s', f'{width}x{height}']
    subprocess.run(
      [
        imageio_ffmpeg.get_ffmpeg_exe(),
        *('-loglevel', 'error', *raw, '-r', str(frames_per_s), '-i', '-'),
        *('-c:v', 'libx264', '-pix_fmt', 'yuv420p', str(file)),
      ],
      input=frames.tobytes(),
      check=True,
    )
    return file.read_bytes()
