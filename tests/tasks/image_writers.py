"""Tiny copies of image data sets, in the layouts that they are published in.

Every image differs from every other, and what it is can be told from it.
"""

import io
from pathlib import Path
import zipfile

import numpy as np
from PIL import Image

from metajax.tasks.celeba import ATTRIBUTES
from metajax.tasks.omniglot import NUM_DRAWINGS, PARTS, SIDE

FOLDERS = ('train', 'val', 'test')


def encoded(pixels: np.ndarray, form: str = 'PNG') -> bytes:
  """Returns `[height, width]` or `[height, width, 3]` pixels as a file's."""
  buffer = io.BytesIO()
  Image.fromarray(pixels).save(buffer, format=form, quality=95)
  return buffer.getvalue()


def noise(size: int, seed: int, channels: int = 3) -> np.ndarray:
  """Returns coarse noise of `[size, size, channels]` uint8."""
  coarse = np.random.default_rng(seed).integers(
    0, 256, (4, 4, channels), np.uint8
  )
  return coarse.repeat(size // 4, axis=0).repeat(size // 4, axis=1)


def write(path: Path, content: bytes) -> None:
  """Writes a file into a folder that is made if it is not there."""
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(content)


def write_image_folders(
  root: Path, *, classes: int = 3, images: int = 4, size: int = 8
) -> None:
  """Writes one folder of colour PNG images a class."""
  for index in range(classes * images):
    folder = root / f'class{index // images}'
    write(folder / f'{index:03}.png', encoded(noise(size, index)))


def omniglot_drawing(character: int, drawing: int) -> bytes:
  """Returns ink on white; its place is the character, its length the drawing.

  From the left the bar starts at pixel `5 + character`, from the top it goes
  down to pixel `10 + drawing`.
  """
  pixels = np.ones((SIDE, SIDE), bool)
  pixels[: 10 + drawing, 5 + character : 15 + character] = False
  return encoded(pixels)


def write_omniglot(
  root: Path, *, characters: tuple[int, ...] = (10, 6), zipped: bool = False
) -> None:
  """Writes both parts, of two alphabets each that share so many characters."""
  first = 0
  for part, number in zip(PARTS, characters, strict=True):
    files = {}
    for index in range(number):
      alphabet, place = divmod(index, number // 2)
      folder = f'{part}/Alphabet_{alphabet}/character{place + 1:02}'
      for drawing in range(NUM_DRAWINGS):
        files[f'{folder}/{first + index:04}_{drawing + 1:02}.png'] = (
          omniglot_drawing(first + index, drawing)
        )
    first += number
    if zipped:
      root.mkdir(parents=True, exist_ok=True)
      with zipfile.ZipFile(root / f'{part}.zip', 'w') as archive:
        for name, content in files.items():
          archive.writestr(name, content)
    else:
      for name, content in files.items():
        write(root / name, content)


def write_mini_imagenet(
  root: Path,
  *,
  classes: tuple[int, ...] = (6, 5, 5),
  images: int = 4,
  size: int = 16,
  tables: bool = False,
) -> None:
  """Writes the three splits, as folders or as tables beside images."""
  index = 0
  for folder, number in zip(FOLDERS, classes, strict=True):
    rows = ['filename,label']
    for _ in range(number):
      label = f'n{index:08}'
      for image in range(images):
        name = f'{label}{image:08}.jpg'
        content = encoded(noise(size, 1000 * index + image), 'JPEG')
        write(
          root / ('images' if tables else f'{folder}/{label}') / name, content
        )
        rows.append(f'{name},{label}')
      index += 1
    if tables:
      write(root / f'{folder}.csv', ('\n'.join(rows) + '\n').encode())


def write_celeba(root: Path, attributes: np.ndarray) -> None:
  """Writes one photograph a row of `[images, 40]` bool attributes."""
  rows = [str(len(attributes)), ' '.join(ATTRIBUTES)]
  for index, present in enumerate(attributes):
    name = f'{index + 1:06}.jpg'
    pixels = np.full((218, 178, 3), (10 * index) % 250, np.uint8)
    write(root / 'img_align_celeba' / name, encoded(pixels, 'JPEG'))
    rows.append(' '.join([name, *('1' if on else '-1' for on in present)]))
  write(root / 'list_attr_celeba.txt', ('\n'.join(rows) + '\n').encode())
