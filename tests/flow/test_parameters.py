"""Bounds of the flow's parameters: in one place, and what is inside them can be computed."""

import itertools

import numpy as np
import pytest
from pydantic import ValidationError

from pyflow.flow.displacement import get_displacement
from pyflow.flow.parameters import LIMITS, FlowParameters
from pyflow.motion.options import OFOptions


def test_equal_where_values_are_equal():
    assert FlowParameters(alpha=2, a_data=[0.4, 0.5]) == FlowParameters(alpha=(2.0, 2.0), a_data=(0.4, 0.5))
    assert FlowParameters(gnc_schedule=np.linspace(0, 1, 3)) == FlowParameters(gnc_schedule=(0, 0.5, 1))
    assert FlowParameters(alpha=2) != FlowParameters(alpha=(2, 3))
    assert len({FlowParameters(), FlowParameters(), FlowParameters(eta=0.5)}) == 2


@pytest.mark.parametrize("name", LIMITS)
def test_options_and_parameters_have_the_same_bounds(name):
    low, high = LIMITS[name]
    step = 1 if isinstance(low, int) else 1e-3 * low
    for value in (low, high):
        assert getattr(OFOptions(**{name: value}), name) == value
        FlowParameters(**{name: value})
    for value in (low - step, high + step):
        if name == "min_level" and value == -1:  # the toolbox's mark for the preset's
            continue
        with pytest.raises(ValidationError, match=name):
            OFOptions(**{name: value})
        with pytest.raises(ValueError, match=name):
            FlowParameters(**{name: value})


def test_options_give_parameters():
    options = OFOptions(
        alpha=(2, 3), quality_setting="fast", iterations=7, gnc_schedule=(0, 1), const_assumption="gray"
    )
    assert options.flow() == FlowParameters(
        alpha=(2, 3), min_level=6, iterations=7, gnc_schedule=(0, 1), const_assumption="gray"
    )
    assert options.replace(quality_setting="custom", min_level=2).flow().min_level == 2
    with pytest.raises(ValueError, match="alpha is 'auto', expected a number"):
        OFOptions().flow()


EXTREMES = {name: LIMITS[name] for name in ("a_smooth", "a_data", "update_lag", "eta")}


@pytest.mark.parametrize("scene", ["flat", "texture", "bright"])
@pytest.mark.parametrize("const_assumption", ["gc", "gray", "census"])
def test_the_ends_of_the_bounds_give_finite_fields(scene, const_assumption):
    rng = np.random.default_rng(0)
    reference = np.full((40, 48), 0.5) if scene == "flat" else rng.random((40, 48)) * (1e4 if scene == "bright" else 1)
    moving = np.roll(reference, 1, axis=1)
    alphas = [*LIMITS["alpha"], LIMITS["alpha"], LIMITS["alpha"][::-1]]
    for values in itertools.product(alphas, *EXTREMES.values()):
        settings = dict(zip(("alpha", *EXTREMES), values, strict=True))
        w = get_displacement(
            reference, moving, iterations=60, levels=8, const_assumption=const_assumption, n_threads=1, **settings
        )
        assert np.isfinite(w).all(), settings
