"""Rigid shifts by phase cross-correlation."""

import time

import numpy as np
import pytest
from scipy import ndimage

from pyflow.flow.rigid import RigidShift


def frame(u=0.0, v=0.0, seed=0):
    """64 x 72 pixels of a scene, displaced by (u, v)."""
    scene = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((96, 104)), 2)
    return ndimage.shift(scene, (v, u), order=3)[16:-16, 16:-16]


@pytest.mark.parametrize("shift", [(0, 0), (5, -3), (-7.25, 2.5)])
def test_finds_shift(shift):
    np.testing.assert_allclose(RigidShift(frame(), upsample=4)(frame(*shift)), shift, atol=0.26)


def test_reduced_images_give_full_size_pixels():
    found = RigidShift(frame(), max_size=48, upsample=8)(frame(6, -4))
    np.testing.assert_allclose(found, (6, -4), atol=0.5)


def test_each_side_may_be_reduced_to_its_own_size():
    moving, found = frame(6, -4), {}
    for size in (None, (64, 72), 48, (48, 48), (64, 36)):
        found[size] = RigidShift(frame(), max_size=size, upsample=8)(moving)
        np.testing.assert_allclose(found[size], (6, -4), atol=0.5)
    assert found[None] == found[64, 72]
    assert found[48] == found[48, 48]
    assert len(set(found.values())) == 3


def test_channels_without_weight_do_not_count():
    noise = np.random.default_rng(1).normal(size=(64, 72)) * 1e4
    shift = RigidShift(np.stack([frame(), frame(seed=2)], axis=-1), weight=np.array([1, 0], np.float32))
    np.testing.assert_allclose(shift(np.stack([frame(4, 2), noise], axis=-1)), (4, 2), atol=0.5)


def test_constant_image_has_no_shift():
    assert RigidShift(frame())(np.ones_like(frame())) == (0, 0)


def test_refuses_other_shape():
    with pytest.raises(ValueError, match=r"\(3, 4\).*does not match"):
        RigidShift(frame())(np.zeros((3, 4)))


@pytest.mark.parametrize("seed", range(4))
def test_light_that_stays_in_place_does_not_hide_the_shift(seed):
    """The floor is low enough that weak frequencies count although light that does not move holds most energy."""
    y, x = np.mgrid[:64, :72]
    light = 20 * frame(seed=seed).std() * np.exp(-((y - 20) ** 2 + (x - 40) ** 2) / (2 * 15**2))
    found = RigidShift(frame(seed=seed) + light, upsample=4)(frame(5, -3, seed=seed) + light)
    np.testing.assert_allclose(found, (5, -3), atol=0.5)


@pytest.mark.parametrize("seed", range(4))
def test_frequencies_of_nothing_but_noise_do_not_count(seed):
    """The floor is high enough that noise, weak at every frequency but present at all of them, has no say."""
    rng = np.random.default_rng(seed)
    noise = 0.1 * frame(seed=seed).std() * rng.standard_normal((2, 64, 72))
    found = RigidShift(frame(seed=seed) + noise[0], upsample=4)(frame(5, -3, seed=seed) + noise[1])
    np.testing.assert_allclose(found, (5, -3), atol=0.26)


def test_other_threads_are_left_alone():
    """Frames are registered on many threads at once, where those of a linear algebra library wait for each other."""
    image = np.random.default_rng(0).normal(size=(256, 256))
    find = RigidShift(image, upsample=8)
    find(image)
    time.sleep(0.2)  # threads that others woke go to sleep again
    all_s, own_s = time.process_time(), time.thread_time()
    for _ in range(20):
        find(image)
    all_s, own_s = time.process_time() - all_s, time.thread_time() - own_s
    assert all_s < 1.05 * own_s
