"""Who acts at the table: an arm with a gripper, or another body."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jax import Array
import jax.numpy as jnp

from metajax.envs.appearance import Appearance
from metajax.envs.physics import ModelFields


class Body(NamedTuple):
  """Who acts: an MJCF file, its speeds, and how its tasks make it look.

  Attributes:
    name: begins the environment's name.
    file_name: MJCF that a scene includes.
    speeds: m/s and rad/s of an action of 1.
    dress: `(model, fields, appearance, key, split) -> (fields, appearance,
      speed)`, the body's own part of a task; `speed` as in `TabletopTask`.
    scale: `(model, model_fields) -> []`, how large the body is; its file: 1.
  """

  name: str
  file_name: str
  speeds: tuple[float, float]
  dress: Callable[..., tuple[dict[str, Array], Appearance, Array | None]]
  scale: Callable[[Any, ModelFields], Array]


GRIPPER_ARM = Body(
  name='',
  file_name='gripper_arm_body.xml',
  speeds=(0.3, 1.5),
  dress=lambda model, fields, looks, key, split: (fields, looks, None),
  scale=lambda model, model_fields: jnp.ones(()),
)
