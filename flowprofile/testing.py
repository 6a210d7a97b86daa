"""Laws that a measure or stage of one's own must keep, as a test class to inherit.

    from flowprofile.testing import MeasureLaws
    from mylab import sparsity

    class TestSparsity(MeasureLaws):
        measure = sparsity

Each law is something the engine relies on: results are computed in other cuts, resumed and recomputed, and must
be the same bits. A measure that breaks one would make a store depend on how it was filled.
"""

from typing import Any, ClassVar

import numpy as np
import xarray as xr

from flowprofile.axes import CASE, CHANNEL, TIME, X, Y
from flowprofile.extension import Measure, source_digest


class MeasureLaws:
    """Inherit, and set `measure`; change `shape` or `params` if the measure needs it."""

    measure: ClassVar[Measure]
    """What is tested."""
    shape: ClassVar[tuple[int, int, int]] = (3, 8, 8)
    """Channel, y, x of the states it is given."""
    params: ClassVar[dict[str, Any]] = {}
    """Parameters to test with; by default its own defaults."""
    halo: ClassVar[int] = 0
    """The halo the measure was declared with."""

    def states(self, cases: int = 3, times: int = 6) -> xr.DataArray:
        """States as the engine hands them over: dims (case, time, channel, y, x), time descending."""
        values = np.random.Generator(np.random.Philox(key=7)).standard_normal((cases, times, *self.shape))
        return xr.DataArray(
            values.astype(np.float32),
            dims=(CASE, TIME, CHANNEL, Y, X),
            coords={TIME: np.arange(times)[::-1]},
            name="x_t",
        )

    def values(self, states: xr.DataArray) -> xr.DataArray:
        """The measure's result, dims (case, time)."""
        result = type(self).measure.function(states, **self.params)
        assert isinstance(result, xr.DataArray), "a measure gives a DataArray"
        assert set(result.dims) == {CASE, TIME}, f"a measure reduces to (case, time), not {result.dims!r}"
        return result.transpose(CASE, TIME)

    def test_gives_one_finite_number_per_case_and_state(self) -> None:
        """The result has the axes it must have, and only numbers."""
        states = self.states()
        result = self.values(states)
        assert result.sizes == {CASE: states.sizes[CASE], TIME: states.sizes[TIME] - self.halo}
        assert bool(np.isfinite(result).all())
        assert np.array_equal(result[TIME], states[TIME][self.halo :])

    def test_same_input_same_bits(self) -> None:
        """No clock, no global random state."""
        np.testing.assert_array_equal(self.values(self.states()), self.values(self.states()))

    def test_leaves_its_input_alone(self) -> None:
        """Other stages read the same block."""
        states = self.states()
        before = states.copy(deep=True)
        self.values(states)
        xr.testing.assert_identical(states, before)

    def test_a_case_does_not_depend_on_the_others(self) -> None:
        """Batches are cut in many ways."""
        states = self.states()
        whole, alone = self.values(states), self.values(states.isel({CASE: [1]}))
        np.testing.assert_array_equal(whole.isel({CASE: [1]}), alone)

    def test_a_state_does_not_depend_on_the_block(self) -> None:
        """Time is cut in many ways; only the declared halo may be looked at."""
        states = self.states()
        whole, late = self.values(states), self.values(states.isel({TIME: slice(2, None)}))
        np.testing.assert_array_equal(whole.isel({TIME: slice(2, None)}), late)

    def test_its_source_can_be_recognised(self) -> None:
        """A change of the code must be noticed."""
        function = type(self).measure.function
        assert source_digest(function) == source_digest(function)
        assert len(source_digest(function)) == 32
