"""One level: tensor, 50 sweeps with ten updates of psi."""

import numpy as np
import pytest
from pyflow._ext._solver import LevelParams
from pyflow._ext._tensor import CONSTANCIES

from pyflow.flow.filters import resize_planes
from pyflow.flow.native import Level, LevelGeometry, aligned_zeros


@pytest.mark.parametrize("side", [512, 256, 64])
@pytest.mark.parametrize("a_smooth", [1.0, 0.5])
def test_level(benchmark, pair, side, a_smooth, n_threads):
    benchmark.group = f"level of {side} x {side}, a_smooth {a_smooth}"
    reference, moving = (resize_planes(image[None], (side, side)) for image in pair[:2])
    geometry = LevelGeometry((side, side), (512 / side, 512 / side), (side, side), (512 / side, 512 / side))
    exponents, weights = np.float32([0.45]), np.float32([1])
    params = LevelParams(geometry.shape, geometry.spacing, (1.5, 1.5), a_smooth, exponents, weights, None, 50, 5)
    level = Level(geometry, reference, CONSTANCIES["gc"], params)
    flow, increment = np.zeros((2, 2, side, side), np.float32)
    benchmark(level.solve, moving, flow, increment, aligned_zeros(level.scratch_size(n_threads)), n_threads)
