"""What an option of the flow does to a whole movie."""

import numpy as np
import pytest

from pyflow.motion.compensate import compensate_arr
from pyflow.motion.options import OFOptions

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


def test_a_map_of_weights_of_another_shape_is_refused(tmp_path, scene, shifts):
    np.save(tmp_path / "weight.npy", np.ones((5, 6)))
    with pytest.raises(ValueError, match=r"weight map has shape \(5, 6, 1\), expected \(64, 72, 1\)"):
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
