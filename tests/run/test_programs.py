"""What a chunk counts over its steps."""

import jax.numpy as jnp
import numpy as np
import pytest

from metajax.run.programs import streaks_of


@pytest.mark.parametrize('columns', [(), (3,)])
def test_streaks_are_those_of_counting_one_by_one(columns):
  generator = np.random.default_rng(0)
  skipped = generator.uniform(size=(40, *columns)) < 0.6
  skipped[:5] = True
  before = np.full(columns, 7, np.int32)
  count, expected = before, []
  for of_step in skipped:
    count = np.where(of_step, count + 1, 0)
    expected.append(count)
  np.testing.assert_array_equal(
    streaks_of(jnp.asarray(skipped), jnp.asarray(before)), expected
  )
