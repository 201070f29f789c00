"""Whole flows, against OpenCV's DIS (the fastest dense flow a user can install)."""

import numpy as np
import pytest

from pyflow.flow.displacement import get_displacement, prepare
from pyflow.flow.parameters import MIN_LEVEL, SCHEDULES, FlowParameters
from pyflow.flow.planes import to_planes

GROUP = "flow, 512 x 512"


def in_8_bits(image):
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


@pytest.mark.parametrize("quality", ["quality", "balanced", "fast"])
def test_prepared(benchmark, pair, quality, n_threads):
    benchmark.group = GROUP
    prepared = prepare(pair[0], FlowParameters(min_level=MIN_LEVEL[quality]))
    w = benchmark(prepared.estimate, to_planes(pair[1])[np.newaxis], n_threads=n_threads)[0]
    benchmark.extra_info["endpoint error"] = float(np.hypot(*np.moveaxis(w - pair[2], -1, 0)).mean())


@pytest.mark.parametrize("quality", SCHEDULES)
def test_scheduled(benchmark, pair, quality, n_threads):
    benchmark.group = GROUP
    parameters = FlowParameters(alpha=60, grid_spacing="auto", **SCHEDULES[quality]._asdict())
    prepared = prepare(pair[0], parameters)
    w = benchmark(prepared.estimate, to_planes(pair[1])[np.newaxis], n_threads=n_threads)[0]
    benchmark.extra_info["endpoint error"] = float(np.hypot(*np.moveaxis(w - pair[2], -1, 0)).mean())


@pytest.mark.parametrize("quality", ["quality", "balanced", "fast"])
def test_get_displacement(benchmark, pair, quality):
    benchmark.group = GROUP
    benchmark(get_displacement, pair[0], pair[1], quality=quality, n_threads=1)


@pytest.mark.parametrize("preset", ["FAST", "MEDIUM"])
def test_opencv_dis(benchmark, pair, cv2, preset):
    benchmark.group = GROUP
    dis = cv2.DISOpticalFlow_create(getattr(cv2, f"DISOPTICAL_FLOW_PRESET_{preset}"))
    w = benchmark(dis.calc, in_8_bits(pair[0]), in_8_bits(pair[1]), None)
    benchmark.extra_info["endpoint error"] = float(np.hypot(*np.moveaxis(w - pair[2], -1, 0)).mean())
