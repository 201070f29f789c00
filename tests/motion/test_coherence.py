"""Averaging the deformation over time takes noise away and leaves jumps alone."""

import numpy as np
import pytest

from pyflow import OFOptions, compensate_arr
from pyflow.flow.filters import resize
from pyflow.motion.coherence import RADIUS, coherent, deformation
from pyflow.motion.streams import surrounded
from pyflow.simulate import jitter, simulate_recording

SHAPE = (96, 80)


def smooth_field(rng, amplitude=1.0):
    return amplitude * resize(rng.standard_normal((6, 5, 2)).astype(np.float32), SHAPE)


def improved(fields, noise_px):
    parts = surrounded([deformation(w) for w in fields], RADIUS)
    return np.stack([coherent(w, around, noise_px) for w, around in zip(fields, parts, strict=True)])


def test_motion_of_scan_lines_is_no_deformation():
    w = np.zeros((*SHAPE, 2), np.float32)
    w[..., 0] = np.sin(np.arange(SHAPE[0]) / 9)[:, np.newaxis]
    assert np.abs(deformation(w)).max() < 1e-6


def test_noise_is_averaged_over_five_frames():
    rng = np.random.default_rng(1)
    truth = smooth_field(rng)
    fields = np.stack([truth + smooth_field(rng, 0.1) for _ in range(40)])
    noise = np.std([deformation(w - truth) for w in fields])
    before, after = (np.std([deformation(w - truth) for w in ws]) for ws in (fields, improved(fields, noise)))
    assert after < 0.55 * before


@pytest.mark.parametrize("missed", [0.0, 0.1, 0.3])
def test_as_good_as_the_best_weights_for_known_errors(missed):
    """Independent estimates, weighted with the inverses of their variances, have the inverse of these's sum."""
    rng = np.random.default_rng(5)
    noise = 0.2

    def rest(size):  # on the coarse grid, so that nothing is lost between the grids
        field = size * rng.standard_normal((64, 64, 2)).astype(np.float32)
        return field - field.mean(axis=1, keepdims=True)

    truth = rest(1.0)
    away = {k: rest(missed) for k in (-2, -1, 1, 2)}
    away[-1], away[-2] = away[1], away[2]  # what the mean of a pair misses
    fields = [truth + rest(noise) + (away[k] if k else 0) for k in range(-2, 3)]
    found = coherent(fields[2], [deformation(w) for w in fields], noise)
    best = 1 / (1 / noise**2 + 2 / (noise**2 / 2 + missed**2))
    assert np.mean((found - truth) ** 2) == pytest.approx(best, rel=0.05)


def test_a_jump_is_not_smeared():
    rng = np.random.default_rng(2)
    one, other = smooth_field(rng, 2), smooth_field(rng, 2)
    fields = np.stack([one] * 6 + [other] + [one] * 6)
    np.testing.assert_allclose(improved(fields, 0.05), fields, atol=0.01)


def test_deformation_that_changes_faster_than_frames_is_left():
    rng = np.random.default_rng(3)
    fields = np.stack([smooth_field(rng, 1) for _ in range(20)])
    assert np.abs(improved(fields, 0.05) - fields).mean() < 0.02


def test_without_noise_and_without_neighbours_nothing_changes():
    rng = np.random.default_rng(4)
    fields = np.stack([smooth_field(rng) for _ in range(5)])
    np.testing.assert_array_equal(improved(fields, 0.0), fields)
    alone = [None, None, deformation(fields[0]), None, None]
    np.testing.assert_array_equal(coherent(fields[0], alone, 0.1), fields[0])


@pytest.mark.parametrize("seed", [1, 2])
def test_less_jitter_in_a_noisy_recording(seed):
    recording = simulate_recording((128, 128), 24, photons=5, rigid_px=4, nonrigid_px=1.5, seed=seed)

    def error(coherence):
        options = OFOptions(alpha=40, quality_setting="balanced", temporal_coherence=coherence)
        w = compensate_arr(recording.movie, recording.template, options)[1]
        return jitter(w, recording.displacement_px, 12)

    assert error(True) < 0.97 * error(False)


def test_surrounded_gives_each_item_its_neighbours():
    assert list(surrounded("abc", 1)) == [[None, "a", "b"], ["a", "b", "c"], ["b", "c", None]]
    assert list(surrounded("ab", 0)) == [["a"], ["b"]]
    assert list(surrounded("", 2)) == []
