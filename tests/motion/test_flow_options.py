"""What an option of the flow does to a whole movie."""

import numpy as np
import pytest
import tifffile

from pyflow.motion.compensate import compensate_arr
from pyflow.motion.options import OFOptions
from pyflow.simulate import simulate_recording

OPTIONS = OFOptions(alpha=10, n_workers=2)
INNER = (slice(None), slice(12, -12), slice(12, -12))


def error(displacement, shifts):
    return np.linalg.norm((displacement - shifts[:, None, None])[INNER], axis=-1).mean()


@pytest.fixture
def lit(scene, shifts):
    """A movie in which light drifts through the field of view."""
    movie = scene.movie(shifts, np.float32)
    y, x = np.mgrid[: movie.shape[1], : movie.shape[2]]
    for t, frame in enumerate(movie):
        spot = np.exp(-((y - 4 * t - 10) ** 2 + (x - 36) ** 2) / (2 * 20**2))[..., np.newaxis]
        frame[:] = frame * (1 + 0.5 * spot) + 1000 * spot
    return movie


def test_census_survives_light_that_breaks_gray(scene, shifts, lit):
    def found(const_assumption, alpha):
        options = OPTIONS.replace(const_assumption=const_assumption, alpha=alpha)
        return error(compensate_arr(lit, scene.frame(), options)[1], shifts)

    assert found("census", 10) < 0.2
    assert min(found("gray", alpha) for alpha in (0.1, 1, 4)) > 1


@pytest.mark.parametrize("channels", [(), (1,)])
def test_a_map_of_weights_hides_what_does_not_belong_to_the_tissue(tmp_path, rng, scene, shifts, channels):
    movie = scene.movie(shifts)
    movie[:, 20:44, 24:48] = rng.integers(200, 6000, (24, 24, 1))  # dirt on the sensor: it does not move
    weight = np.ones(movie.shape[1:3])
    weight[16:48, 20:52] = 0
    np.save(tmp_path / "weight.npy", weight.reshape(*weight.shape, *channels))
    blind, told = (
        error(compensate_arr(movie, scene.frame(), OPTIONS.replace(**changes))[1], shifts)
        for changes in ({}, {"weight": tmp_path / "weight.npy"})
    )
    assert told < 0.15
    assert blind > 3 * told


@pytest.fixture(scope="module")
def beside_noise():
    """A recording (T, H, W, 2) whose second channel, the brighter one, is noise and nothing else."""
    movie = simulate_recording((64, 64), 30, seed=1).movie
    noise = np.random.default_rng(3).poisson(12, movie.shape) * 3 * int(movie.mean()) // 12
    return np.stack([movie, noise.astype(np.uint16)], axis=-1)


AUTO = OFOptions(reference_frames="0:30", n_workers=2, channel_normalization="separate")


@pytest.mark.parametrize("kind", ["numbers", "a map", "a file", "an image"])
def test_a_channel_of_noise_without_weight_changes_nothing(tmp_path, beside_noise, kind):
    """Neither the displacement nor the smoothness that ``alpha="auto"`` finds."""
    weight = {"numbers": (1, 0), "a map": np.array([1.0, 0.0]) * np.ones((64, 64, 1))}.get(kind)
    if kind == "a file":
        np.save(weight := tmp_path / "weight.npy", np.array([1, 0]) * np.ones((64, 64, 1), int))
    elif kind == "an image":
        mask = np.array([255, 0], np.uint8) * np.ones((64, 64, 1), np.uint8)
        tifffile.imwrite(weight := tmp_path / "weight.tif", mask, photometric="minisblack", planarconfig="contig")
    _, displacement = compensate_arr(beside_noise, options=AUTO.replace(weight=weight))
    _, alone = compensate_arr(beside_noise[..., :1], options=AUTO)
    np.testing.assert_allclose(displacement, alone, atol=2e-3)


def test_a_frame_of_something_else_is_found_beside_a_channel_of_noise(beside_noise):
    movie = beside_noise.astype(np.float32)
    movie[..., 1] *= 30
    movie[20, ..., 0] = movie[20, ::-1, ::-1, 0]
    for options in (AUTO.replace(weight=(1, 0)), AUTO.replace(channel_idx=[0])):
        _, displacement = compensate_arr(movie, options=options)
        assert [t for t in range(30) if not displacement[t].any()] == [20]


def test_images_and_maps_that_are_no_weights(tmp_path):
    tifffile.imwrite(tmp_path / "movie.tif", np.ones((3, 4, 5), np.uint8), photometric="minisblack")
    with pytest.raises(ValueError, match=r"movie\.tif has 3 frames, expected an image"):
        OFOptions(weight=tmp_path / "movie.tif").channel_weights((4, 5, 1))
    for wrong in (np.zeros((4, 5)), -np.ones((4, 5)), np.full((4, 5), np.nan)):
        with pytest.raises(ValueError, match="weight: the map holds other values than weights"):
            OFOptions(weight=wrong).channel_weights((4, 5, 1))


def test_a_map_of_weights_in_memory():
    weight = np.ones((4, 5))
    options = OFOptions(weight=weight)
    key = options.result_fields()["weight"]
    weight[0] = 0
    assert options.channel_weights((4, 5, 1)).all()
    assert options.replace(alpha=3).result_fields()["weight"] == key
    assert OFOptions(weight=weight).result_fields()["weight"] != key


def test_a_map_of_weights_of_another_shape_is_refused(tmp_path, scene, shifts):
    np.save(tmp_path / "weight.npy", np.ones((5, 6)))
    with pytest.raises(ValueError, match=r"weight.npy has shape \(5, 6\), expected \(64, 72\) or \(64, 72, 1\)"):
        compensate_arr(scene.movie(shifts), scene.frame(), OPTIONS.replace(weight=tmp_path / "weight.npy"))


def test_gnc_schedule_finds_what_robust_smoothness_alone_does_not(scene):
    shifts = np.array([[6.0, -5.0], [-5.0, 6.0]])
    robust = OPTIONS.replace(a_smooth=0.5, a_data=0.2, alpha=5, grid_spacing=1)
    alone, graduated = (
        error(compensate_arr(scene.movie(shifts), scene.frame(), options)[1], shifts)
        for options in (robust, robust.replace(gnc_schedule=(0, 1)))
    )
    assert graduated < 0.1
    assert alone > 10 * graduated
