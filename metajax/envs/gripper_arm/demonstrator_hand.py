"""A free-flying hand that shows the robot's tasks with another body."""

import dataclasses
import functools
from typing import Any

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from metajax.core.validation import check_choice
from metajax.envs.appearance import Appearance, painted
from metajax.envs.environment import Env
from metajax.envs.gripper_arm.bodies import Body
from metajax.envs.gripper_arm.objects import geoms_of
from metajax.envs.gripper_arm.placing import build_placing
from metajax.envs.gripper_arm.pushing import build_pushing
from metajax.envs.physics import ModelFields

_FAMILIES = {
  'placing': functools.partial(build_placing, is_held=True),
  'pick_and_place': functools.partial(build_placing, is_held=False),
  'gripper_pushing': build_pushing,
}
_PARTS = ('hand', 'fingers', 'thumb')
_SPEED_M_PER_S = (0.2, 0.4)
# Of the compiled hand, in training and held out; neither meets the other.
_SCALES = {'training': (0.88, 1.08), 'held out': (1.1, 1.18)}
# Skin from the darkest to the lightest, red, green and blue, and which part
# of that range is held out.
_DARKEST, _LIGHTEST = (0.24, 0.15, 0.11), (0.96, 0.80, 0.70)
_HELD_OUT_TONES = (0.4, 0.6)
_SLEEVE_SEEDS = {'training': (1, 1000), 'held out': (1000, 2000)}
_FINGERTIP_PADS = ('pad_0', 'pad_1', 'pad_2', 'pad_3')


def demonstrator_hand(
  family: str = 'placing',
  horizon: int = 80,
  held_out: str = 'test',
  *,
  physics: str = 'mjx',
) -> Env:
  """Builds a robot's task for the body of a demonstrator.

  It stands in for the person in the videos of Yu et al. (2018, section VI): a
  palm with four fingers, a thumb and a sleeve, carried by three slides and
  three hinges, which no policy controls. It pinches from above between thumb
  and fingertips, and pushes with the backs of its fingers. All it does, it
  does by contact; nothing is attached to it.

  Table, things, rewards, success and observation are those of the family (the
  observation is 2 shorter: the hand has 6 joints that carry it). The action
  [7], at 10 Hz, is the hand's velocity, linear and angular (2 rad/s at 1), and
  how far it closes. The linear speed of an action of 1 is the task's: 0.2 to
  0.4 m/s, as people take more or less time.

  Equal keys draw the same things, target and friction as the family's own
  `sample_task` and `sample_test_task`. Size, skin and sleeve are drawn beside
  them; held-out tasks take sizes, skin tones and sleeves that training tasks
  never have. A larger hand is larger in all lengths but its fingertips' balls;
  its masses stay.

  Args:
    family: `placing`, `gripper_pushing` or `pick_and_place`.
    horizon: control steps, of 0.1 s, in an episode.
    held_out: which things `sample_test_task` draws, `validation` or `test`.
    physics: name of the engine, `mjx` or `c`.

  Returns:
    The environment; its tasks are `TabletopTask`.

  Raises:
    InputError: if an argument is out of its range.
  """
  check_choice('family', family, tuple(_FAMILIES))
  return _FAMILIES[family](
    HAND, family, horizon=horizon, held_out=held_out, physics=physics
  )


def _dress(
  model: Any,
  fields: dict[str, Array],
  appearance: Appearance,
  key: Array,
  split: str,
) -> tuple[dict[str, Array], Appearance, Array]:
  """Draws a demonstrator: size, skin, sleeve and speed."""
  is_held_out = split != 'training'
  which = 'held out' if is_held_out else 'training'
  keys = jax.random.split(key, 4)
  scale = _uniform(keys[0], _SCALES[which])
  fields = _resize(model, fields, scale)
  tone = _uniform(keys[1], (0.0, 1.0))
  low, high = _HELD_OUT_TONES
  # Training tones: all of [0, 1] but the part held out, squeezed around it.
  outside = jnp.where(
    tone < 0.5, 2 * tone * low, 1 - 2 * (1 - tone) * (1 - high)
  )
  tone = low + (high - low) * tone if is_held_out else outside
  dark, light = jnp.array(_DARKEST), jnp.array(_LIGHTEST)
  skin = [i for part in _PARTS for i in geoms_of(model, part)]
  rgba = appearance.geom_rgba.at[jnp.array(skin), :3].set(
    (dark + tone * (light - dark))[None]
  )
  sleeve = jnp.array([model.geom('sleeve').id])
  looks = painted(
    dataclasses.replace(appearance, geom_rgba=rgba),
    sleeve,
    keys[2],
    seed_range=_SLEEVE_SEEDS[which],
  )
  return fields, looks, _uniform(keys[3], _SPEED_M_PER_S)


def _resize(
  model: Any, fields: dict[str, Array], scale: Array
) -> dict[str, Array]:
  """Makes the hand larger in all lengths but the fingertips' balls."""
  geoms = np.array([i for part in _PARTS for i in geoms_of(model, part)])
  balls = np.array([model.geom(name).id for name in _FINGERTIP_PADS])
  bodies = np.array([model.body(name).id for name in _PARTS[1:]])
  sizes, positions = fields['geom_size'], fields['geom_pos']
  body_positions = jnp.asarray(model.body_pos, jnp.float32)
  return {
    **fields,
    'geom_size': sizes.at[geoms]
    .multiply(scale)
    .at[balls]
    .set(jnp.asarray(model.geom_size[balls], jnp.float32)),
    'geom_pos': positions.at[geoms].multiply(scale),
    'body_pos': body_positions.at[bodies].multiply(scale),
  }


def _scale_of(model: Any, model_fields: ModelFields) -> Array:
  """Returns how large a task's hand is; the compiled one: 1."""
  fingers = model.body('fingers').id
  return model_fields['body_pos'][fingers, 0] / model.body_pos[fingers, 0]


def _uniform(key: Array, limits: tuple[float, float]) -> Array:
  return jax.random.uniform(key, minval=limits[0], maxval=limits[1])


HAND = Body(
  name='hand_',
  file_name='hand_body.xml',
  speeds=(_SPEED_M_PER_S[1], 2.0),
  dress=_dress,
  scale=_scale_of,
)
