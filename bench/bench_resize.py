"""Antialiased resize, against OpenCV's area and cubic."""

import pytest

from pyflow.flow.filters import resize_planes


@pytest.mark.parametrize("side", [410, 256, 134])
def test_shrink(benchmark, pair, side, n_threads):
    benchmark.group = f"resize 512 -> {side}"
    benchmark(resize_planes, pair[0][None], (side, side), n_threads=n_threads)


@pytest.mark.parametrize("side", [410, 256, 134])
def test_opencv_area(benchmark, pair, cv2, side):
    benchmark.group = f"resize 512 -> {side}"
    benchmark(cv2.resize, pair[0], (side, side), interpolation=cv2.INTER_AREA)


def test_grow(benchmark, pair, n_threads):
    benchmark.group = "resize 410 -> 512"
    benchmark(resize_planes, resize_planes(pair[0][None], (410, 410)), (512, 512), n_threads=n_threads)


def test_opencv_cubic(benchmark, pair, cv2):
    benchmark.group = "resize 410 -> 512"
    benchmark(cv2.resize, cv2.resize(pair[0], (410, 410)), (512, 512), interpolation=cv2.INTER_CUBIC)
