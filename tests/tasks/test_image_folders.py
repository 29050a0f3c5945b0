"""Folders of images: read to the pixel, and what is bad is refused by name."""

import io
import os
import stat
import struct
import zipfile
import zlib

import numpy as np
from PIL import Image
import pytest

from metajax.core.validation import InputError
from metajax.tasks import image_folders as module
from metajax.tasks.image_folders import ImageTree, image_folders
from tests.tasks.image_writers import (
  encoded,
  noise,
  write,
  write_image_folders,
)


def refused(root, *, size=8, channels=3):
  """Returns the one line that says why a data set is refused."""
  with pytest.raises(InputError) as raised:
    image_folders(str(root), size=size, channels=channels)
  message = str(raised.value)
  assert len(message.splitlines()) == 1
  return message


def test_pixels_are_those_of_the_files(tmp_path):
  write_image_folders(tmp_path, classes=2, images=3, size=8)
  found = image_folders(str(tmp_path), size=8)
  expected = np.stack([noise(8, index) for index in range(6)])
  np.testing.assert_array_equal(found.images, expected)
  np.testing.assert_array_equal(found.count, [3, 3])
  np.testing.assert_array_equal(found.first, [0, 3])


def test_resizing_is_lanczos_and_keeps_the_middle(tmp_path):
  pixels = np.random.default_rng(0).integers(0, 256, (20, 12, 3), np.uint8)
  write(tmp_path / 'a' / '0.png', encoded(pixels))
  found = image_folders(str(tmp_path), size=5)
  middle = Image.fromarray(pixels[4:16])
  expected = middle.resize((5, 5), Image.Resampling.LANCZOS)
  np.testing.assert_array_equal(found.images[0], expected)


def test_an_archive_reads_as_its_folder_does(tmp_path):
  write_image_folders(tmp_path / 'set', classes=2, images=2)
  archive = tmp_path / 'set.zip'
  with zipfile.ZipFile(archive, 'w', zipfile.ZIP_DEFLATED) as file:
    for path in sorted((tmp_path / 'set').rglob('*.png')):
      file.write(path, path.relative_to(tmp_path / 'set'))
    file.writestr('__MACOSX/a/0.png', b'what a Mac leaves')
  np.testing.assert_array_equal(
    image_folders(str(archive), size=8).images,
    image_folders(str(tmp_path / 'set'), size=8).images,
  )


def test_hidden_files_and_other_files_are_passed_over(tmp_path):
  write_image_folders(tmp_path, classes=2, images=1)
  write(tmp_path / 'class0' / '.hidden.png', b'')
  write(tmp_path / 'class0' / 'notes.txt', b'')
  assert len(image_folders(str(tmp_path), size=8).images) == 2


# ------------------------------------------------------------ what is refused


def test_nothing_there(tmp_path):
  assert f'{tmp_path}/none: expected a folder' in refused(tmp_path / 'none')
  assert 'there is no image' in refused(tmp_path)


def test_an_image_beside_the_class_folders(tmp_path):
  write_image_folders(tmp_path)
  write(tmp_path / 'stray.png', encoded(noise(8, 0)))
  assert f'{tmp_path}/stray.png: expected' in refused(tmp_path)


@pytest.mark.parametrize('form', ['PNG', 'JPEG'])
def test_a_truncated_image(tmp_path, form):
  write_image_folders(tmp_path)
  path = tmp_path / 'class1' / f'cut.{form.lower()}'
  whole = encoded(noise(64, 0), form)
  write(path, whole[: len(whole) // 2])
  assert f'{path}: expected a whole PNG or JPEG image' in refused(tmp_path)


def test_what_is_no_image_whatever_it_is_called(tmp_path):
  write_image_folders(tmp_path)
  path = tmp_path / 'class1' / 'text.png'
  write(path, b'not an image')
  assert f'{path}: expected a whole PNG' in refused(tmp_path)
  buffer = io.BytesIO()
  Image.fromarray(noise(8, 0)).save(buffer, format='GIF')
  write(path, buffer.getvalue())
  assert f'{path}: expected a whole PNG' in refused(tmp_path)


def test_transparency_and_sixteen_bits(tmp_path):
  path = tmp_path / 'a' / '0.png'
  write(path, encoded(np.zeros((8, 8, 4), np.uint8)))
  assert f'{path}: expected an opaque image' in refused(tmp_path)
  write(path, encoded(np.zeros((8, 8), np.uint16)))
  assert f'{path}: expected an opaque image' in refused(tmp_path, channels=1)


def test_an_image_that_would_not_fit(tmp_path):
  """A header of 9,000 x 9,000 pixels: refused before they are allocated."""
  path = tmp_path / 'a' / '0.png'
  content = bytearray(encoded(noise(8, 0)))
  content[16:24] = struct.pack('>II', 9_000, 9_000)
  content[29:33] = struct.pack('>I', zlib.crc32(bytes(content[12:29])))
  write(path, bytes(content))
  message = refused(tmp_path)
  assert str(path) in message
  assert '9000 x 9000' in message


def test_a_file_that_is_too_large(tmp_path, monkeypatch):
  write_image_folders(tmp_path, classes=1, images=1)
  monkeypatch.setattr(ImageTree.read, '__kwdefaults__', {'max_bytes': 20})
  message = refused(tmp_path)
  assert f'{tmp_path}/class0/000.png: expected at most 20 bytes' in message


def test_a_link_out_of_the_folder(tmp_path):
  write(tmp_path / 'elsewhere.png', encoded(noise(8, 0)))
  root = tmp_path / 'set'
  write_image_folders(root)
  link = root / 'class1' / 'link.png'
  link.symlink_to(tmp_path / 'elsewhere.png')
  assert f'{link}: expected no link out of {root}' in refused(root)
  link.unlink()
  link.symlink_to(root / 'class0' / '000.png')  # inside: as any file
  assert len(image_folders(str(root), size=8).images) == 13
  folder = root / 'class9'
  folder.symlink_to(root / 'class0')
  assert f'{folder}: expected a folder, got a link' in refused(root)


def test_a_pipe_does_not_make_it_wait(tmp_path):
  write_image_folders(tmp_path)
  path = tmp_path / 'class0' / 'pipe.png'
  os.mkfifo(path)
  assert f'{path}: cannot be read' in refused(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason='root may read everything')
def test_a_folder_that_may_not_be_read(tmp_path):
  write_image_folders(tmp_path)
  folder = tmp_path / 'class1'
  folder.chmod(0)
  try:
    assert str(folder) in refused(tmp_path)
  finally:
    folder.chmod(stat.S_IRWXU)


def test_sizes_and_channels(tmp_path):
  write_image_folders(tmp_path)
  assert refused(tmp_path, size=0).startswith('size: expected')
  assert refused(tmp_path, size=5000).startswith('size: expected at most')
  assert refused(tmp_path, channels=2).startswith('channels: expected')


# ---------------------------------------------------------------- archives


def zipped(path, members):
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as file:
    for name, content in members:
      file.writestr(name, content)
  return path


def test_a_zip_bomb_that_says_so(tmp_path, monkeypatch):
  monkeypatch.setattr(module, '_MAX_UNPACKED_BYTES', 10_000)
  path = zipped(tmp_path / 'bomb.zip', [('a/0.png', bytes(20_000))])
  assert path.stat().st_size < 1000
  message = refused(path)
  assert message.startswith(f'{path}: expected at most 10000 bytes unpacked')


def test_a_zip_bomb_that_lies(tmp_path):
  """The directory says one byte; what is unpacked is never more than that."""
  path = zipped(tmp_path / 'bomb.zip', [('a/0.png', bytes(2**20))])
  content = bytearray(path.read_bytes())
  directory = content.rfind(b'PK\x01\x02')
  content[directory + 24 : directory + 28] = struct.pack('<I', 1)
  path.write_bytes(bytes(content))
  assert refused(path).startswith(f'{path}/a/0.png: ')


@pytest.mark.parametrize('name', ['../a/0.png', '/a/0.png'])
def test_a_member_that_escapes(tmp_path, name):
  path = zipped(tmp_path / 'set.zip', [(name, encoded(noise(8, 0)))])
  assert f'{path}: expected members inside it' in refused(path)


def test_a_member_that_is_a_link(tmp_path):
  link = zipfile.ZipInfo('a/0.png')
  link.external_attr = (stat.S_IFLNK | 0o777) << 16
  path = tmp_path / 'set.zip'
  with zipfile.ZipFile(path, 'w') as file:
    file.writestr(link, '/etc/passwd')
  assert f"{path}: expected files, got the link 'a/0.png'" in refused(path)


@pytest.mark.filterwarnings('ignore:Duplicate name')
def test_two_members_of_one_name(tmp_path):
  path = zipped(tmp_path / 'set.zip', [('a/0.png', b'1'), ('a/0.png', b'2')])
  assert f'{path}: two members are called' in refused(path)


def test_a_damaged_archive(tmp_path):
  whole = zipped(tmp_path / 'a.zip', [('a/0.png', encoded(noise(8, 0)))])
  path = tmp_path / 'cut.zip'
  path.write_bytes(whole.read_bytes()[:-30])
  assert f'{path}: expected a zip archive' in refused(path)
  path.write_bytes(b'no archive at all')
  assert f'{path}: expected a zip archive' in refused(path)


def test_a_damaged_member(tmp_path):
  path = zipped(tmp_path / 'a.zip', [('a/0.png', encoded(noise(64, 0)))])
  content = bytearray(path.read_bytes())
  content[60:80] = bytes(20)
  path.write_bytes(bytes(content))
  assert refused(path).startswith(f'{path}/a/0.png: ')
