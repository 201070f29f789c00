"""Which frames make the reference, and what they make."""

import logging

import numpy as np
import pytest

from pyflow.motion.compensate import compensate_arr
from pyflow.motion.frames import FrameSource
from pyflow.motion.options import OFOptions
from pyflow.motion.reference import as_reference, build_reference, find_reference, reference_indices
from pyflow.simulate import jitter, simulate_recording


@pytest.mark.parametrize(
    ("frames", "n_frames", "expected"),
    [
        ("50:500", 1000, range(50, 500)),
        ("50:500", 300, range(300)),
        ("50:500", 480, range(30, 480)),
        ("50:500", 1, [0]),
        ("5:9", 7, [3, 4, 5, 6]),
        ("::3", 8, [0, 3, 6]),
        ("-2:", 8, [6, 7]),
        ([4, 1, 9], 5, [4, 1]),
    ],
)
def test_reference_indices(frames, n_frames, expected):
    assert reference_indices(OFOptions(alpha=10, reference_frames=frames), n_frames) == list(expected)


def test_says_when_the_recording_is_too_short(caplog):
    with caplog.at_level(logging.INFO, "pyflow"):
        reference_indices(OFOptions(alpha=10), 60)
    assert "has 60 frames" in caplog.text


@pytest.mark.parametrize("frames", [[7, 8], "5:5", "9:"])
def test_refuses_frames_that_are_not_there(frames):
    with pytest.raises(ValueError, match="none of the recording's 7 frames"):
        reference_indices(OFOptions(alpha=10, reference_frames=frames), 7)


def test_reference_is_sharper_than_the_mean(scene, shifts):
    movie = scene.movie(shifts - shifts.mean(axis=0))
    reference = build_reference(FrameSource(movie), OFOptions(alpha=10))
    assert (reference.dtype, reference.shape) == (np.float64, movie.shape[1:])
    inner = (slice(6, -6), slice(6, -6))
    still = scene.frame()[inner]
    error = np.abs(reference[inner] - still).mean()
    assert error < 0.3 * np.abs(movie.mean(axis=0)[inner] - still).mean()


def test_a_reference_of_many_frames_made_at_half_resolution_gives_the_same_motion(monkeypatch):
    """They register among themselves with unknowns as far apart, but on smaller images; few frames do not."""
    recording = simulate_recording((96, 96), 200, photons=12, seed=3)
    movie, truth = recording.movie[:20], recording.displacement_px[:20]
    smooth = OFOptions(alpha=60, eta=0.6, iterations=10)

    def made(n_frames, spacing):
        source = FrameSource(recording.movie[:n_frames, ..., np.newaxis])
        return build_reference(source, smooth.replace(grid_spacing=spacing))[..., 0]

    full, half = (compensate_arr(movie, made(200, spacing), smooth)[1] for spacing in (1, "auto"))
    apart = half - full - np.median(half - full, axis=0)  # where the reference itself lies is free
    assert 0 < np.hypot(apart[..., 0], apart[..., 1]).mean() < 0.02
    assert jitter(half, truth, 8) < 1.02 * jitter(full, truth, 8)
    few = made(20, "auto")
    monkeypatch.setattr("pyflow.motion.reference.MANY_FRAMES", 20)
    assert (made(20, "auto") != few).any()


def test_still_frames_give_their_mean(scene):
    movie = scene.movie(np.zeros((5, 2)))
    reference = build_reference(FrameSource(movie), OFOptions(alpha=10))
    np.testing.assert_allclose(reference, movie[0], rtol=1e-5)


def test_frames_without_image_are_left_out(scene, shifts):
    movie = scene.movie(shifts, np.float32)
    options = OFOptions(alpha=10)
    expected = build_reference(FrameSource(movie, indices=[0, 1, 4]), options)
    movie[2], movie[3] = np.nan, 0
    result = build_reference(FrameSource(movie, indices=[0, 1, 4, 2, 3]), options)
    # not equal: at the end of the frames, the filter in time repeats the last
    assert np.abs(result - expected).mean() < 2e-3 * expected.mean()
    with pytest.raises(ValueError, match="none of the 2 reference frames"):
        build_reference(FrameSource(movie, indices=[2, 3]), options)


def test_reference_from_file(tmp_path, scene):
    source = FrameSource(scene.movie(np.zeros((3, 2))))
    path = tmp_path / "reference.npy"
    np.save(path, scene.frame()[..., 0])
    np.testing.assert_array_equal(find_reference(source, OFOptions(alpha=10, reference_frames=path)), scene.frame())
    np.save(path, np.zeros((3, 4)))
    with pytest.raises(ValueError, match=r"reference.npy has shape \(3, 4\)"):
        find_reference(source, OFOptions(alpha=10, reference_frames=path))
    with pytest.raises(FileNotFoundError, match=r"absent.npy"):
        find_reference(source, OFOptions(alpha=10, reference_frames=tmp_path / "absent.npy"))


@pytest.mark.parametrize("axes", [2, 3])
def test_reference_in_memory(scene, axes):
    image = scene.frame() if axes == 3 else scene.frame()[..., 0]
    source = FrameSource(scene.movie(np.ones((3, 2))))
    np.testing.assert_array_equal(find_reference(source, OFOptions(reference_frames=image)), scene.frame())
    with pytest.raises(ValueError, match=r"reference_frames has shape \(4, 5\)"):
        find_reference(source, OFOptions(reference_frames=np.zeros((4, 5))))


def test_as_reference_checks_the_shape():
    with pytest.raises(ValueError, match=r"reference has shape \(4, 5\).*\(4, 5, 2\)"):
        as_reference(np.zeros((4, 5)), (4, 5, 2))


@pytest.mark.parametrize("content", [b"", b"junk", b"objects"])
def test_a_damaged_array_is_named(tmp_path, content):
    path = tmp_path / "damaged.npy"
    path.write_bytes(content)
    if content == b"objects":
        np.save(path, np.array([1, {}], object))
    with pytest.raises(ValueError, match=r"damaged\.npy"):
        find_reference(FrameSource(np.zeros((3, 4, 5, 1))), OFOptions(alpha=10, reference_frames=path))
    with pytest.raises(ValueError, match=r"damaged\.npy"):
        OFOptions(weight=path).channel_weights((4, 5, 1))


@pytest.mark.parametrize("image", [np.ones((4, 5), complex), np.full((4, 5), "1"), np.full((4, 5), 1j, object)])
def test_a_reference_of_other_values_than_grey_ones_is_refused(image):
    with pytest.raises(ValueError, match=f"mine has dtype {image.dtype}, expected"):
        as_reference(image, (4, 5, 1), "mine")


def test_one_frame_of_glare_spoils_no_reference():
    """Half of its pixels saturated: in the mean it outshone all others, which were then registered to its pattern."""
    recording = simulate_recording((64, 64), 30, photons=10, rigid_px=2, nonrigid_px=0.5, jerks=0, seed=4)
    movie = recording.movie.copy()
    movie[11][np.random.default_rng(0).random((64, 64)) < 0.5] = 65535
    options = OFOptions(alpha=20)
    clean, spoiled = (
        build_reference(FrameSource(frames[..., np.newaxis]), options) for frames in (recording.movie, movie)
    )
    assert np.corrcoef(clean.ravel(), spoiled.ravel())[0, 1] > 0.98
    chosen = FrameSource(movie[..., np.newaxis], indices=[11])
    np.testing.assert_array_equal(build_reference(chosen, options)[..., 0], movie[11])


def test_frames_that_are_named_in_another_way_are_no_missing_file(scene):
    with pytest.raises(FileNotFoundError, match=r"expected 'first:stop', such as '50:500'.*found '5-10'"):
        compensate_arr(scene.movie(np.zeros((3, 2))), options=OFOptions(alpha=10, reference_frames="5-10"))


def test_frames_with_a_single_nan_say_what_helps(scene):
    movie = scene.movie(np.zeros((3, 2))).astype(np.float32)
    movie[:, 0, 0] = np.nan
    with pytest.raises(ValueError, match=r"one pixel is enough .numpy.nan_to_num"):
        compensate_arr(movie, options=OFOptions(alpha=10))
