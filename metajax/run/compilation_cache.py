"""Compiled programs that are kept between runs."""

import os
from pathlib import Path
import stat

from absl import logging
import jax


def share_compiled_programs() -> None:
  """Keeps compiled programs between runs, in a directory of the user's own.

  Whoever can write there decides what runs: the directory is private, or it
  is not used. `JAX_COMPILATION_CACHE_DIR` names another one.
  """
  if jax.config.values['jax_compilation_cache_dir'] is not None:
    return
  home = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
  directory = Path(home) / 'metajax' / 'compilation'
  try:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
      raise PermissionError(f'{directory} is not a directory of this user')
    directory.chmod(0o700)
  except OSError as error:
    logging.warning('programs are compiled anew each time: %s', error)
    return
  jax.config.update('jax_compilation_cache_dir', str(directory))
