"""The one place that compiles what runs hot, with each backend's options."""

from collections.abc import Callable, Sequence
import functools
from typing import Any

import jax

# XLA:CPU's fusion emitters recompute shared values inside every fusion, which
# is exponential in the depth of a kinematic chain: an eight-link arm steps
# 5,000 times slower with them. Its `ynn` fusions are slower there too. Both
# pay for plain networks, so only programs that hold physics do without them.
CPU_PHYSICS_OPTIONS = {
  'xla_cpu_use_fusion_emitters': False,
  'xla_cpu_experimental_ynn_fusion_type': '',
}


def compiler_options(*, holds_physics: bool) -> dict[str, Any] | None:
  """Returns XLA's options for the default backend, or None for its defaults."""
  if holds_physics and jax.default_backend() == 'cpu':
    return dict(CPU_PHYSICS_OPTIONS)
  return None


def compile_hot(
  function: Callable[..., Any],
  *,
  holds_physics: bool = False,
  donate_argnums: Sequence[int] = (),
) -> Any:
  """Jits an outermost program: backend's options, full matmul precision.

  Call it on the outermost function only: XLA takes compiler options nowhere
  else. Matrix products keep all of float32, since the shorter formats that
  accelerators prefer change meta-gradients, conjugate gradients and physics.

  Args:
    function: pure function of arrays.
    holds_physics: whether it simulates articulated bodies.
    donate_argnums: arguments whose buffers the result may take over.

  Returns:
    The jitted function, with `lower`, `trace` and the like as `jax.jit` has.
  """

  @functools.wraps(function)
  def in_full_precision(*args):
    with jax.default_matmul_precision('highest'):
      return function(*args)

  return jax.jit(
    in_full_precision,
    donate_argnums=tuple(donate_argnums),
    compiler_options=compiler_options(holds_physics=holds_physics),
  )
