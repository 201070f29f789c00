"""Rigid shifts by phase cross-correlation."""

import numpy as np
import pytest

from pyflow.motion.rigid import RigidShift


@pytest.mark.parametrize("shift", [(0, 0), (5, -3), (-7.25, 2.5)])
def test_finds_shift(scene, shift):
    found = RigidShift(scene.frame(), upsample=4)(scene.frame(*shift))
    np.testing.assert_allclose(found, shift, atol=0.26)


def test_reduced_images_give_full_size_pixels(scene):
    found = RigidShift(scene.frame(), max_size=48, upsample=8)(scene.frame(6, -4))
    np.testing.assert_allclose(found, (6, -4), atol=0.5)


def test_channels_without_weight_do_not_count(rng, two_channels):
    moving = two_channels.frame(4, 2)
    moving[..., 1] = rng.normal(size=moving.shape[:2]) * 1e4
    shift = RigidShift(two_channels.frame(), weight=np.array([1, 0], np.float32))
    np.testing.assert_allclose(shift(moving), (4, 2), atol=0.5)


def test_constant_image_has_no_shift(scene):
    assert RigidShift(scene.frame())(np.ones_like(scene.frame())) == (0, 0)


def test_refuses_other_shape(scene):
    with pytest.raises(ValueError, match=r"\(3, 4\).*does not match"):
        RigidShift(scene.frame())(np.zeros((3, 4)))
