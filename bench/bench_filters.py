"""Gaussian and 5x5 median, against OpenCV."""

import pytest

from pyflow.flow.filters import gaussian_filter, median_filter_5x5


@pytest.mark.parametrize("sigma", [1.0, 3.0])
def test_gaussian(benchmark, pair, sigma, n_threads):
    benchmark.group = f"Gaussian, sigma {sigma}"
    benchmark(gaussian_filter, pair[0], sigma, n_threads=n_threads)


@pytest.mark.parametrize("sigma", [1.0, 3.0])
def test_opencv_gaussian(benchmark, pair, cv2, sigma):
    benchmark.group = f"Gaussian, sigma {sigma}"
    side = 2 * int(4 * sigma + 0.5) + 1
    benchmark(cv2.GaussianBlur, pair[0], (side, side), sigma)


def test_median(benchmark, pair, n_threads):
    benchmark.group = "5x5 median"
    benchmark(median_filter_5x5, pair[0], n_threads=n_threads)


def test_opencv_median(benchmark, pair, cv2):
    benchmark.group = "5x5 median"
    benchmark(cv2.medianBlur, pair[0], 5)
