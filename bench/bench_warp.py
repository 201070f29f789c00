"""Cubic backward warp, against OpenCV's remap."""

import numpy as np
import pytest

from pyflow.flow.warp import imregister, valid_mask


@pytest.mark.parametrize("interpolation", ["cubic", "linear", "nearest"])
def test_warp(benchmark, pair, interpolation, n_threads):
    benchmark.group = f"warp, {interpolation}"
    reference, moving, w = pair
    benchmark(imregister, moving, w, fill=reference, interpolation=interpolation, n_threads=n_threads)


@pytest.mark.parametrize("interpolation", ["cubic", "linear", "nearest"])
def test_opencv_remap(benchmark, pair, cv2, interpolation):
    benchmark.group = f"warp, {interpolation}"
    _, moving, w = pair
    rows, columns = np.mgrid[: w.shape[0], : w.shape[1]].astype(np.float32)
    code = getattr(cv2, f"INTER_{interpolation.upper()}")
    benchmark(cv2.remap, moving, columns + w[..., 0], rows + w[..., 1], code)


def test_valid_mask(benchmark, pair, n_threads):
    benchmark.group = "valid mask"
    benchmark(valid_mask, pair[2], n_threads=n_threads)
