"""The centre that is found is the average that resembles the others, and of equals the middle one."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pyflow.align.center import most_central


def tissue(seed):
    return gaussian_filter(np.random.default_rng(seed).standard_normal((48, 56)), 1.5)


def found(images):
    return most_central([lambda image=image: image for image in images])


@pytest.mark.parametrize(("n", "middle"), [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2)])
def test_of_equals_the_middle_one_is_taken(n, middle):
    assert found([tissue(1)] * n) == middle


def test_of_the_best_that_are_equal_the_one_nearest_to_the_middle_is_taken():
    a, b = tissue(1), tissue(2)
    assert found([a, a, b, b, a]) == 1
    assert found([a, b, b, a, a]) == 3


def test_an_average_with_nothing_in_it_is_not_the_centre():
    assert found([np.zeros((48, 56)), tissue(1), tissue(1)]) in (1, 2)
