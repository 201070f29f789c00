"""The depth of frames is found in a stack, against known truth."""

from dataclasses import replace

import numpy as np
import pytest

from pyflow.flow.warp import imregister
from pyflow.motion.compensate import compensate_arr
from pyflow.motion.depth import DepthEstimate, _peaks, estimate_depth
from pyflow.plots import plot_depth
from pyflow.simulate import simulate_depth


@pytest.fixture(scope="module")
def simulated():
    found = simulate_depth(n_frames=60, photons=6, seed=1)
    return found, compensate_arr(found.recording.movie)[0]


def test_depth_of_frames_within_a_third_of_a_plane(simulated):
    truth, registered = simulated
    assert np.ptp(truth.depth) == pytest.approx(1.5)
    found = estimate_depth(registered, truth.stack, smoothing_frames=1)
    assert np.abs(found.depth - truth.depth).max() < 0.3
    assert np.abs(found.smoothed - truth.depth).mean() < 0.1
    assert abs(found.center - truth.depth.mean()) < 0.2
    assert not found.at_border.any()


def test_frames_as_recorded_are_not_drawn_to_the_depth_of_the_average():
    """Over a large drift, from motion that is not taken out beforehand."""
    truth = simulate_depth(n_frames=60, photons=6, seed=4, drift_planes=2.8)
    found = estimate_depth(truth.recording.movie, truth.stack, smoothing_frames=1)
    assert np.abs(found.depth - truth.depth).max() < 0.25
    assert np.abs(found.smoothed - truth.depth).mean() < 0.08
    assert np.polyfit(truth.depth, found.depth, 1)[0] == pytest.approx(1, abs=0.08)
    assert found.likeness > 0.6


def test_threads_change_nothing(simulated):
    truth, registered = simulated
    one, three = (estimate_depth(registered[:9], truth.stack, n_threads=n) for n in (1, 3))
    np.testing.assert_array_equal(one.correlation, three.correlation)


def test_a_stack_upside_down_gives_the_depth_upside_down(simulated):
    truth, registered = simulated
    found = estimate_depth(registered[:20], truth.stack, smoothing_frames=0)
    other = estimate_depth(registered[:20], truth.stack[::-1], smoothing_frames=0)
    np.testing.assert_allclose(other.depth, 4 - found.depth, atol=0.02)


def test_focus_beyond_the_stack_is_said(simulated):
    truth, registered = simulated
    beyond = estimate_depth(registered[:20], truth.stack[3:][[0, 1, 1]], smoothing_frames=0)
    assert beyond.at_border.all()


def test_every_plane_is_brought_to_its_place(simulated):
    """Wherever it lay in the stack, the first and the last one too."""
    truth, _ = simulated
    moved = np.stack([np.roll(plane, (3 - 2 * z, z - 1), axis=(0, 1)) for z, plane in enumerate(truth.stack)])
    found = [estimate_depth(truth.recording.movie[:3], stack) for stack in (truth.stack, moved)]
    inside = found[0].valid & found[1].valid
    for one, other in zip(found[0].planes, found[1].planes, strict=True):
        assert np.corrcoef(one[inside], other[inside])[0, 1] > 0.98


def test_a_stack_that_lies_otherwise_is_bent_onto_the_recording(simulated):
    truth, _ = simulated
    y, x = np.mgrid[:128, :128] / 128 * 2 * np.pi
    field = np.stack([2.5 * np.sin(y), 2.5 * np.cos(x)], axis=-1).astype(np.float32)
    bent = np.stack([imregister(plane.astype(np.float32), field) for plane in truth.stack])
    movie = truth.recording.movie[::6]
    plain, found = (estimate_depth(movie, stack) for stack in (truth.stack, bent))
    assert found.likeness > 0.85 * plain.likeness  # two thirds of it as it lies
    assert np.abs(found.depth - truth.depth[::6]).max() < 0.3


def test_frames_that_move_far_are_brought_together_before_they_are_averaged(simulated):
    truth, _ = simulated
    shifts = [np.random.default_rng(t).integers(-8, 9, 2) for t in range(10)]
    moving = [np.roll(frame, shift, (0, 1)) for frame, shift in zip(truth.recording.movie[::6], shifts, strict=True)]
    found = estimate_depth(np.stack(moving), truth.stack)
    assert found.likeness > 0.6  # as they lie 0.52
    assert np.abs(found.depth - truth.depth[::6]).max() < 0.15


@pytest.mark.parametrize(
    ("correlation", "neighbours", "depth"),
    [
        ((0.9, 0.1, 0.0), (0.2, 0.2), 0.0),  # nothing lies before the first plane,
        ((0.0, 0.1, 0.9), (0.2, 0.2), 2.0),  # nor behind the last
        ((0.1, 0.5, 0.6), (0.2, 1.0), 2.0),  # of two planes that are one the better,
        ((0.1, 0.6, 0.5), (0.2, 1.0), 1.0),  # with nothing between them
        ((0.6, 0.6, 0.1), (0.2, 0.2), 0.5),
    ],
)
def test_where_a_frame_lies_between_planes(correlation, neighbours, depth):
    assert _peaks(np.array([correlation]), np.array(neighbours)) == pytest.approx([depth])


def test_the_border_is_the_first_and_the_last_plane(simulated, tmp_path):
    """Also of what was saved, which holds no planes."""
    truth, _ = simulated
    found = estimate_depth(truth.recording.movie[:3], truth.stack)
    replace(found, smoothed=np.array([0, 0.1, 1, 3.9, 4, np.nan])).save(tmp_path / "depth.npz")
    again = DepthEstimate.load(tmp_path / "depth.npz")
    assert again.at_border.tolist() == [True, False, False, False, True, False]
    for name in ("depth", "correlation", "center", "likeness", "change", "valid"):
        np.testing.assert_array_equal(getattr(again, name), getattr(found, name))


def test_smoothing_leaves_out_frames_without_structure(simulated):
    truth, registered = simulated
    damaged = registered[:20].copy()
    damaged[7] = 500
    found = estimate_depth(damaged, truth.stack, smoothing_frames=1)
    whole = estimate_depth(registered[:20], truth.stack, smoothing_frames=1)
    assert np.flatnonzero(np.isnan(found.depth)).tolist() == [7]
    assert np.abs(found.smoothed - whole.smoothed).max() < 0.1


def test_invalid_pixels_are_not_compared(simulated):
    truth, registered = simulated
    valid = np.zeros(registered.shape[1:], bool)
    valid[20:-20, 20:-20] = True
    damaged = registered[:20].copy()
    damaged[:, :16] = registered[:20, -16:]
    found = estimate_depth(damaged, truth.stack, valid=valid, smoothing_frames=0)
    assert not found.valid[~valid].any()
    assert np.abs(found.depth - truth.depth[:20]).max() < 0.4


def test_channels_and_progress(simulated):
    truth, registered = simulated
    calls = []
    both = np.stack([registered[:40]] * 2, axis=-1)
    found = estimate_depth(both, truth.stack, smoothing_frames=0, progress=lambda *at: calls.append(at))
    np.testing.assert_allclose(found.depth, estimate_depth(registered[:40], truth.stack, smoothing_frames=0).depth)
    assert calls == [(32, 40), (40, 40)]


@pytest.mark.parametrize(
    ("stack", "options", "message"),
    [
        (np.ones((2, 128, 128)), {}, r"stack has shape \(2, 128, 128\), expected .* at least 3 planes"),
        (np.ones((5, 64, 128)), {}, r"planes of \(64, 128\) pixels, expected the recording's \(128, 128\)"),
        (np.ones((5, 128, 128)), {"smoothing_frames": -1}, "smoothing_frames is -1, expected 0 or more"),
        (np.ones((5, 128, 128)), {"smoothing_frames": np.nan}, "smoothing_frames is nan, expected 0 or more"),
        (np.ones((5, 128, 128)), {"valid": np.ones((3, 3))}, r"valid has shape \(3, 3\), expected \(128, 128\)"),
        (np.ones((5, 128, 128)), {"valid": np.zeros((128, 128))}, "0 pixels are valid"),
    ],
)
def test_what_does_not_fit_is_named(simulated, stack, options, message):
    with pytest.raises(ValueError, match=message):
        estimate_depth(simulated[1][:5], stack, **options)


def test_result_is_saved_and_drawn(simulated, tmp_path):
    truth, registered = simulated
    found = estimate_depth(registered, truth.stack)
    found.save(tmp_path / "depth.npz")
    with np.load(tmp_path / "depth.npz") as saved:
        np.testing.assert_array_equal(saved["depth"], found.depth)
        np.testing.assert_array_equal(saved["smoothed"], found.smoothed)
    figure = plot_depth(found, step_um=5, frame_rate_hz=15)
    assert figure.axes[0].get_ylabel() == "depth (µm)"
    np.testing.assert_allclose(figure.axes[0].lines[1].get_ydata(), 5 * found.smoothed)
    figure.savefig(tmp_path / "depth.png")


def test_frames_without_an_image_have_no_depth_and_no_part_in_the_average(simulated):
    truth, registered = simulated
    damaged = registered[:20].astype(np.float32)
    damaged[3], damaged[5, 2, 2], damaged[11] = np.nan, np.inf, 4
    found = estimate_depth(damaged, truth.stack, smoothing_frames=1)
    bad = np.isin(np.arange(20), (3, 5, 11))
    np.testing.assert_array_equal(np.isnan(found.depth), bad)
    clean = estimate_depth(np.delete(registered[:20], (3, 5, 11), axis=0), truth.stack, smoothing_frames=1)
    np.testing.assert_allclose(found.depth[~bad], clean.depth, atol=0.01)
    assert found.center == pytest.approx(clean.center, abs=0.01)


@pytest.mark.parametrize("value", [7, np.nan])
def test_a_recording_of_nothing_has_no_depth_and_is_drawn(simulated, value):
    found = estimate_depth(np.full((4, 64, 64), value, np.float32), simulated[0].stack[:, :64, :64])
    assert np.isnan(found.depth).all()
    assert np.isnan(found.center)
    assert "no frame" in plot_depth(found).texts[0].get_text()


@pytest.mark.parametrize(("value", "message"), [(7, "all pixels are equal"), (np.nan, "contains NaN or inf")])
def test_a_plane_without_an_image_is_named(simulated, value, message):
    stack = simulated[0].stack.astype(np.float32)
    stack[1] = value
    with pytest.raises(ValueError, match=f"plane 1 of the stack: {message}"):
        estimate_depth(simulated[1][:3], stack)
