"""Masses put in at run time are those of a recompiled model."""

import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from metajax.core.compilation import compile_hot
from metajax.core.validation import InputError
from metajax.envs.engines import compile_model, load_model, make_physics
from metajax.envs.mass_properties import mass_properties

_BALL_ON_A_BOX = """
<mujoco><worldbody><body pos="0 0 1"><freejoint/>
<geom type="box" size="0.1 0.2 0.3" mass="2"/>
<body pos="0.1 0 0.3"><joint type="ball"/>
<geom type="capsule" fromto="0 0 0 0.3 0 0.2" size="0.05" mass="1"/></body>
<body pos="0 0.3 0"><joint type="slide" axis="0 1 0" armature="0.3"/>
<geom size="0.1" mass="0.5"/></body></body></worldbody></mujoco>"""


@pytest.mark.parametrize('name', ['half_cheetah.xml', 'tree'])
def test_what_follows_from_masses_is_what_the_compiler_derives(name):
  model = compile_model(_BALL_ON_A_BOX) if name == 'tree' else load_model(name)
  factors = np.random.default_rng(0).uniform(0.5, 2.0, model.nbody)
  model_fields = mass_properties(model)(
    jnp.asarray(model.body_mass * factors, jnp.float32),
    jnp.asarray(model.body_inertia * factors[:, None], jnp.float32),
  )
  model.body_mass[:] *= factors
  model.body_inertia[:] *= factors[:, None]
  mujoco.mj_setConst(model, mujoco.MjData(model))
  for field, value in model_fields.items():
    expected = getattr(model, field)
    np.testing.assert_allclose(
      value, expected, rtol=2e-3, atol=1e-5, err_msg=field
    )


@pytest.mark.slow
def test_masses_at_run_time_equal_a_recompiled_model():
  model, heavy = (load_model('half_cheetah.xml') for _ in range(2))
  factors = np.linspace(0.5, 2.0, model.nbody)
  heavy.body_mass[:] *= factors
  heavy.body_inertia[:] *= factors[:, None]
  mujoco.mj_setConst(heavy, mujoco.MjData(heavy))
  model_fields = mass_properties(model)(
    jnp.asarray(heavy.body_mass, jnp.float32),
    jnp.asarray(heavy.body_inertia, jnp.float32),
  )
  start, ctrl = model.qpos0 - np.eye(model.nq)[1] * 0.1, jnp.full((6,), 0.5)

  def advance(physics, model_fields):
    state = physics.reset(start)
    return physics.step(
      state, ctrl, num_substeps=20, model_fields=model_fields
    )[0].qpos

  for engine in ('mjx', 'c'):
    one, other = make_physics(model, engine), make_physics(heavy, engine)
    compiled = compile_hot(
      lambda fields, one=one: advance(one, fields), holds_physics=True
    )
    expected = compile_hot(
      lambda other=other: advance(other, None), holds_physics=True
    )()
    np.testing.assert_allclose(compiled(model_fields), expected, atol=2e-5)


def test_masses_alone_are_refused():
  model = load_model('half_cheetah.xml')
  physics = make_physics(model)
  masses = jnp.asarray(model.body_mass, jnp.float32)
  with pytest.raises(InputError, match='mass_properties'):
    physics.measure(
      physics.reset(model.qpos0), model_fields={'body_mass': masses}
    )
