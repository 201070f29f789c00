"""The simulator's truth is true."""

import numpy as np
import pytest
from scipy import ndimage

from pyflow import simulate


def lookup(image, w):
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    return ndimage.map_coordinates(image.astype(float), (rows + w[..., 1], columns + w[..., 0]), order=3)


@pytest.mark.parametrize("scan_shear", [True, False])
def test_warping_by_the_truth_gives_the_scene_at_rest(scan_shear):
    """The frame looked up at the truth is the template.

    The tolerance is the shot noise, known exactly, and what interpolating the frame once more costs: 1 % of the
    template's range.
    """
    recording = simulate.simulate_recording(
        (96, 112), 6, photons=300, rigid_px=5, nonrigid_px=1.5, scan_shear=scan_shear, read_noise=0, seed=3
    )
    # transients brighten somata: compare where there are none
    quiet = ~ndimage.binary_dilation(recording.masks.any(axis=0), iterations=5)
    quiet[:16], quiet[-16:], quiet[:, :16], quiet[:, -16:] = False, False, False, False
    template = recording.template
    shot = np.mean(30 * (template[quiet] - 200))
    for frame, w in zip(recording.movie, recording.displacement_px, strict=True):
        assert np.hypot(w[..., 0], w[..., 1]).mean() > 0.3
        difference = (lookup(frame, w) - template)[quiet]
        assert np.mean(difference**2) < shot + (0.01 * np.ptp(template[quiet])) ** 2


def test_same_seed_same_recording():
    first, second = (simulate.simulate_recording((48, 64), 3, seed=7) for _ in range(2))
    np.testing.assert_array_equal(first.movie, second.movie)
    np.testing.assert_array_equal(first.displacement_px, second.displacement_px)
    assert not np.array_equal(first.movie, simulate.simulate_recording((48, 64), 3, seed=8).movie)


def test_photons_are_what_was_asked_for():
    still = simulate.simulate_recording((64, 64), 40, photons=9, rigid_px=0, nonrigid_px=0, seed=1)
    assert not still.displacement_px.any()
    assert (still.template.mean() - 200) / 30 == pytest.approx(9, rel=1e-3)
    quiet = ~ndimage.binary_dilation(still.masks.any(axis=0), iterations=4)
    photons = (still.movie[:, quiet] - 200.0) / 30
    expected = (still.template[quiet] - 200) / 30 + 0.5**2  # shot noise and read noise
    assert np.mean(photons.var(axis=0, ddof=1) / expected) == pytest.approx(1, abs=0.1)


def test_motion_stays_within_what_was_asked_for():
    recording = simulate.simulate_recording((64, 64), 50, rigid_px=3, nonrigid_px=1, jerks=0, seed=2)
    assert 1.5 < np.abs(recording.displacement_px).max() < 3 + 1.5


def test_session_truth_maps_every_day_onto_the_centre():
    session = simulate.simulate_session(
        3,
        (96, 96),
        1,
        photons=50,
        offset_px=6,
        deformation_px=1,
        turnover=0,
        rigid_px=0,
        nonrigid_px=0,
        jerks=0,
    )
    assert session.center == 1
    assert not session.between_px[1].any()
    centre = session.recordings[1].template
    inside = (slice(16, -16), slice(16, -16))
    for recording, w in zip(session.recordings, session.between_px, strict=True):
        aligned = lookup(recording.template, w)
        assert np.corrcoef(aligned[inside].ravel(), centre[inside].ravel())[0, 1] > 0.995
    assert np.abs(session.between_px[[0, 2]]).max() > 1


def test_cells_keep_their_identity_and_come_and_go():
    session = simulate.simulate_session(3, (96, 96), 1, turnover=0.3, offset_px=5)
    first, second = session.recordings[0], session.recordings[1]
    shared, at, of = np.intersect1d(first.cell_ids, second.cell_ids, return_indices=True)
    assert 0 < len(shared) < min(len(first.cell_ids), len(second.cell_ids))
    for a, b in zip(at, of, strict=True):
        moved = ndimage.center_of_mass(first.masks[a]), ndimage.center_of_mass(second.masks[b])
        assert np.abs(np.subtract(*moved)).max() < 5 + 1.5 + 5  # offset, deformation, a soma cut by the border


def test_save_and_load(tmp_path):
    session = simulate.simulate_session(2, (40, 48), 3, seed=5)
    session.save(tmp_path / "a folder")
    again = simulate.SimulatedSession.load(tmp_path / "a folder")
    assert again.names == session.names
    for one, other in zip(session.recordings, again.recordings, strict=True):
        for name, value in vars(one).items():
            np.testing.assert_array_equal(value, getattr(other, name), err_msg=name)


def test_errors_are_measured_as_said():
    truth = np.zeros((5, 20, 20, 2), np.float32)
    w = truth + np.float32([3, 4])
    assert simulate.endpoint_error(w, truth) == pytest.approx(5)
    assert simulate.jitter(w, truth) == 0
    w[2] += 1
    assert simulate.jitter(w, truth) == pytest.approx(np.sqrt(2) / 5)


@pytest.mark.parametrize("wrong", [{"shape": (8, 64)}, {"photons": 0}, {"n_frames": 0}, {"rigid_px": -1}])
def test_impossible_recordings_are_refused(wrong):
    with pytest.raises(ValueError, match="expected at least"):
        simulate.simulate_recording(**{"shape": (64, 64), "n_frames": 2, **wrong})


def test_a_jerk_late_in_a_long_recording_has_no_effect_before():
    recording = simulate.simulate_recording((64, 64), 230, seed=9)
    assert np.isfinite(recording.displacement_px).all()
    assert recording.movie.any(axis=(1, 2)).all()
