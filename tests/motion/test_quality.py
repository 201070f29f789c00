"""What makes a frame, or a pair of recordings, worth believing."""

import numpy as np
import pytest

from pyflow.flow.filters import gaussian_filter
from pyflow.motion.quality import LEAST_FRAMES, Misfit, least_jacobian, misfit_limit, overlap


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return [gaussian_filter(rng.random((64, 96, 2)), 3) for _ in range(2)]


def test_pixels_from_outside_do_not_count(images):
    """They hold the reference, so that they would fit whatever the frame shows."""
    reference, other = images
    misfit = Misfit(reference)
    valid = np.zeros(reference.shape[:2], bool)
    valid[:, :32] = True
    filled = np.where(valid[..., np.newaxis], other, reference)
    assert misfit(filled, valid) > 0.7
    assert misfit(np.where(valid[..., np.newaxis], reference, other), valid) < 0.01
    assert misfit(filled, np.zeros_like(valid)) == 1
    assert misfit(other, np.ones_like(valid)) == misfit(other)


def test_reduced_images_are_compared(images):
    """Noise that is finer than what frames have in common does not count."""
    reference = images[0].astype(np.float32)
    noise = np.random.default_rng(1).normal(0, reference.std(), reference.shape).astype(np.float32)
    assert np.corrcoef(reference.ravel(), (reference + noise).ravel())[0, 1] < 0.75
    assert Misfit(reference)(reference + noise) < 0.1


def test_overlap():
    assert [overlap(np.arange(8).reshape(2, 4) < n) for n in (0, 2, 8)] == [0, 0.25, 1]


def test_misfit_limit():
    assert misfit_limit(np.full(LEAST_FRAMES - 1, 0.1)) == np.inf
    assert misfit_limit(np.full(24, 0.1)) == 0.5
    # hardly any spread: twice what is usual is still no other image
    assert misfit_limit(np.full(24, 0.4)) == pytest.approx(0.8)
    # robust against frames that do not fit, and far from those that do
    usual = np.random.default_rng(0).normal(0.3, 0.05, 21)
    limit = misfit_limit(np.append(usual, [1, 1, 1]))
    assert usual.max() + 0.1 < limit < 1


def test_least_jacobian():
    y, x = np.mgrid[:20, :30].astype(np.float32)
    assert least_jacobian(np.full((20, 30, 2), 7.5)) == 1
    assert least_jacobian(np.stack([0.5 * x, -0.25 * y], axis=-1)) == pytest.approx(1.5 * 0.75)
    # a rotation by 30 degrees neither stretches nor folds
    c, s = np.cos(np.pi / 6), np.sin(np.pi / 6)
    assert least_jacobian(np.stack([(c - 1) * x - s * y, s * x + (c - 1) * y], axis=-1)) == pytest.approx(1, abs=1e-4)
    fold = np.zeros((20, 30, 2))
    fold[4, 7, 0] = -2
    assert least_jacobian(fold) < 0
    assert least_jacobian(np.zeros((1, 30, 2))) == 1
