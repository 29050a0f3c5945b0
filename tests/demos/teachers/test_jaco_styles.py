"""The two operators of the Jaco move as their table says."""

import jax
import numpy as np
import pytest

from metajax.demos.teachers.jaco_styles import OPERATOR_A, OPERATOR_B, Phase

# Of each operator: speed m/s, tilt deg, lift m, pauses, pause s, misses,
# detours.
TABLE = {
  'a': (OPERATOR_A, (0.10, 0.16), (0, 15), (0.08, 0.12), (0, 2), (0.2, 0.5)),
  'b': (OPERATOR_B, (0.06, 0.10), (20, 40), (0.12, 0.20), (2, 5), (0.3, 1.0)),
}
PROBABILITIES = {'a': (0.05, 0.1), 'b': (0.2, 0.3)}


@pytest.mark.parametrize('name', TABLE)
def test_styles_are_drawn_from_the_stated_ranges(name):
  operator, *ranges = TABLE[name]
  count = 2000
  styles = jax.jit(jax.vmap(operator))(
    jax.random.split(jax.random.key(0), count)
  )
  pauses = np.asarray(styles.pauses_s)
  drawn = [
    styles.speed_m_per_s,
    np.degrees(styles.tilt_rad),
    styles.lift_m,
    (pauses > 0).sum(axis=1),
    pauses[pauses > 0],
  ]
  for values, (low, high) in zip(drawn, ranges, strict=True):
    values = np.asarray(values)
    assert low - 1e-5 <= values.min() <= low + 0.02 * (high - low) + 1e-5
    assert high + 1e-5 >= values.max() >= high - 0.02 * (high - low) - 1e-5
  assert not pauses[:, : Phase.APPROACH].any()

  misses, detours = PROBABILITIES[name]
  tolerance = 4 * 0.5 / np.sqrt(count)
  first = np.asarray(styles.first_phase)
  np.testing.assert_allclose(styles.num_misses.mean(), misses, atol=tolerance)
  np.testing.assert_allclose(
    (first < Phase.APPROACH).mean(), detours, atol=tolerance
  )
  for phase in (Phase.BESIDE, Phase.HOVER):
    np.testing.assert_allclose(
      (first == phase).mean(), detours / 2, atol=tolerance
    )


def test_the_operators_differ_where_the_table_says_so():
  a, b = OPERATOR_A, OPERATOR_B
  assert a.side == -b.side
  assert (a.tremor_m, b.tremor_m) == (0.002, 0.004)
  assert a.arc_m == (0.0, 0.0)
  assert b.arc_m[0] > 0
  assert (a.rests_beside, b.rests_beside) == (False, True)
