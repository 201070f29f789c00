"""One level: tensor, 50 sweeps with ten updates of psi."""

import numpy as np
import pytest

from pyflow.flow.backends import LevelGeometry, LevelParameters, NativeLevel, aligned_zeros
from pyflow.flow.filters import resize_planes


@pytest.mark.parametrize("side", [512, 256, 64])
@pytest.mark.parametrize("a_smooth", [1.0, 0.5])
def test_level(benchmark, pair, side, a_smooth, n_threads):
    benchmark.group = f"level of {side} x {side}, a_smooth {a_smooth}"
    reference, moving = (resize_planes(image[None], (side, side)) for image in pair[:2])
    parameters = LevelParameters(
        alpha=(1.5, 1.5),
        a_smooth=a_smooth,
        a_data=np.float32([0.45]),
        weight=np.float32([1]),
        weight_map=None,
        constancy="gc",
        iterations=50,
        update_lag=5,
    )
    level = NativeLevel(LevelGeometry((side, side), (512 / side, 512 / side)), reference, parameters)
    flow, step = np.zeros((2, 2, side, side), np.float32)
    benchmark(level, moving, flow, step, aligned_zeros(level.scratch_size(n_threads)), n_threads)
