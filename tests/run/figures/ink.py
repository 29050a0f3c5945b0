"""What can be told of a figure from its file."""

from pathlib import Path

from matplotlib import image


def share_of_ink(path: Path) -> float:
  """Returns the share of a PNG that is not white."""
  pixels = image.imread(path)[..., :3]
  assert pixels.shape[0] > 200
  assert pixels.shape[1] > 200
  return float((pixels.min(axis=-1) < 0.95).mean())
