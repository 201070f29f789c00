"""The smoothness found from a recording follows its noise and its motion; the noise that is left is known."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage

from pyflow import OFOptions, compensate_arr
from pyflow.flow.filters import gaussian_filter
from pyflow.flow.warp import imregister
from pyflow.motion import noise
from pyflow.motion.coherence import deformation
from pyflow.motion.frames import FrameSource
from pyflow.motion.noise import _ALPHAS, START_ALPHA, Tuning, _peak, tune
from pyflow.motion.preprocess import Preprocessor
from pyflow.motion.register import FrameRegistration
from pyflow.simulate import endpoint_error, jitter, simulate_recording
from pyflow.simulate.movement import bending
from pyflow.simulate.truth import invert


def chosen(movie, reference, **options):
    return tune(FrameSource(movie[..., np.newaxis]), reference[..., np.newaxis], OFOptions(**options))


def test_noise_asks_for_smoothness():
    """Two photons a pixel leave little but noise, two hundred hardly any; motion is the same.

    In 20 small frames the best alpha stands out little: of one recording it may be off by a factor.
    """
    ratios = []
    for seed in (4, 5, 6, 7):
        motion = {"rigid_px": 3, "nonrigid_px": 1, "jerks": 0, "seed": seed}
        dark, bright = (simulate_recording((128, 128), 20, photons=photons, **motion) for photons in (2, 200))
        found = [chosen(recording.movie, recording.template) for recording in (dark, bright)]
        ratios.append(found[0].alpha / found[1].alpha)
        assert found[0].noise_px > 0
    assert np.median(ratios) > 1.5


@pytest.mark.parametrize("alpha", [20, 60])
def test_the_noise_told_by_halves_follows_that_between_repetitions(alpha):
    """The same light recorded twice shows the noise itself; halves tell 0.6 of it, measured, not derived."""
    conditions = {"rigid_px": 1, "nonrigid_px": 1, "jerks": 0, "seed": 1}
    photons, dtype = 12, np.dtype(np.float32)
    recording = simulate_recording((128, 128), 12, photons=photons, **conditions)
    bright = simulate_recording((128, 128), 12, photons=3000, **conditions).movie
    light = np.maximum((bright - 200.0) / 30, 0) * photons / 3000
    reference = recording.template[..., np.newaxis]
    options = OFOptions(alpha=alpha, quality_setting="balanced", min_level=2, temporal_coherence=True)
    preprocess = Preprocessor(reference, options.in_space_only(), dtype)
    register = FrameRegistration(preprocess.image(reference), reference, preprocess, options, dtype)
    rng = np.random.default_rng(1)

    def repetition():
        frames = (200 + 30 * rng.poisson(light)).astype(dtype)[..., np.newaxis]
        return np.stack([deformation(register.estimate([frame]).displacement) for frame in frames])

    variances = ((repetition() - repetition()) ** 2).mean(axis=(1, 2, 3)) / 2
    told = chosen(recording.movie, recording.template, alpha=alpha, temporal_coherence=True).noise_px
    assert 0.5 < told / np.sqrt(np.median(variances)) < 0.7


def test_neighbours_allow_less_smoothness():
    """With neighbours that take noise away, the alpha that is best for frames alone leaves more jitter."""
    before, after = [], []
    for seed in (1, 2, 3):
        recording = simulate_recording((128, 128), 24, photons=8, rigid_px=4, nonrigid_px=1.5, seed=seed)
        for errors, coherence in ((before, False), (after, True)):
            alpha = chosen(recording.movie, recording.template, temporal_coherence=coherence).alpha
            options = OFOptions(alpha=alpha, quality_setting="balanced", temporal_coherence=True)
            w = compensate_arr(recording.movie, recording.template, options)[1]
            errors.append(jitter(w, recording.displacement_px, 12))
    assert np.mean(after) < 0.99 * np.mean(before)


@pytest.mark.parametrize("seed", [1, 2])
def test_close_to_the_best_of_all(seed):
    recording = simulate_recording((128, 128), 24, photons=12, rigid_px=4, nonrigid_px=1.5, seed=seed)

    def error(alpha):
        options = OFOptions(alpha=alpha, quality_setting="balanced")
        w = compensate_arr(recording.movie, recording.template, options)[1]
        return jitter(w, recording.displacement_px, 12)

    best = min(error(float(alpha)) for alpha in _ALPHAS[::2])
    assert error("auto") < 1.15 * best


def bright_cells(seed, n_frames=24, shape=(128, 128), photons=30):
    """Bright cells on dim texture, which bend and are shaken: light, truth and the mean of the frames put right."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0] + 40, : shape[1] + 40]
    scene = 0.4 * np.exp(0.3 * _standardized(gaussian_filter(rng.standard_normal(y.shape), 3)))
    for row, column, brightness in zip(*rng.uniform(0, y.shape, (70, 2)).T, rng.lognormal(1.2, 0.7, 70), strict=True):
        scene += brightness / (1 + np.exp((np.hypot(y - row, x - column) - 4) / 0.7))
    motion = bending(shape, n_frames, 1.5, rng) + rng.normal(0, 1.5, (n_frames, 1, 1, 2))
    rows, columns = np.mgrid[20 : shape[0] + 20, 20 : shape[1] + 20]
    light = [ndimage.map_coordinates(scene, (rows + w[..., 1], columns + w[..., 0]), order=3) for w in motion]
    movie = rng.poisson(photons * np.maximum(light, 0) / scene.mean()).astype(np.uint16)
    truth = np.stack([invert(w) for w in motion])
    registered = [imregister(frame.astype(np.float32), w) for frame, w in zip(movie, truth, strict=True)]
    return movie, truth, np.mean(registered, axis=0, dtype=np.float64)


def _standardized(image):
    return (image - image.mean()) / image.std()


def test_close_to_the_best_where_few_bright_cells_show_most():
    """They must not decide alone."""
    movie, truth, reference = bright_cells(2)

    def error(alpha):
        options = OFOptions(alpha=alpha, quality_setting="balanced", temporal_coherence=False)
        return jitter(compensate_arr(movie, reference, options)[1], truth, 12)

    assert error("auto") < 1.2 * min(error(alpha) for alpha in (4, 10, 25, 60))


def test_frames_exchange_their_deformation_to_its_finest_detail():
    """What a frame kept of its own would register its own noise."""
    fields = np.random.default_rng(0).random((2, 160, 150, 2), dtype=np.float32)

    class Register:
        def estimate(self, window):
            return SimpleNamespace(field=fields[window[0]])

        def warp(self, image, field, fill):
            return SimpleNamespace(image=field)

    for own, found in enumerate(noise.registered_by_each_other(Register(), [0, 1], [None, None])):
        motion = fields[own].mean(axis=1, keepdims=True)
        other = fields[1 - own] - fields[1 - own].mean(axis=1, keepdims=True)
        np.testing.assert_allclose(found, motion + other, atol=1e-5)


def test_dim_structure_counts_beside_bright_one_and_noise_does_not():
    structure = np.random.default_rng(0).standard_normal((64, 144, 1)).astype(np.float32)
    structure[:, :48] *= 10
    structure[:, 96:] *= 0.1
    counted = (structure * noise._leveled(structure, np.ones(1)))[..., 0]
    bright, dim, empty = (counted[:, columns].sum() for columns in (slice(0, 16), slice(64, 80), slice(128, 144)))
    assert 1 < bright / dim < 30
    assert empty < 0.05 * dim


def test_a_still_noisy_recording_is_left_still():
    recording = simulate_recording((128, 128), 24, photons=5, rigid_px=0, nonrigid_px=0, jerks=0, seed=3)
    w = compensate_arr(recording.movie, recording.template)[1]
    assert endpoint_error(w, recording.displacement_px, 12) < 0.15
    given = compensate_arr(recording.movie, recording.template, OFOptions(alpha=1.5))[1]
    assert endpoint_error(given, recording.displacement_px, 12) > 0.4


def test_the_same_every_time_on_any_number_of_threads():
    recording = simulate_recording((64, 64), 12, seed=5)
    one, two = (chosen(recording.movie, recording.template, n_workers=n) for n in (1, 2))
    assert one == two


def test_frames_that_hold_no_image_do_not_count():
    recording = simulate_recording((64, 64), 5, seed=5)
    movie = recording.movie.astype(np.float32)
    movie[1:] = np.nan
    assert chosen(movie, recording.template).noise_px > 0
    movie[:] = np.nan
    assert chosen(movie, recording.template) == Tuning(START_ALPHA, 0.0)


def test_frames_whose_odd_rows_show_nothing_tell_no_noise():
    movie = np.zeros((12, 40, 40), np.float32)
    movie[:, 20, 20] = 1000
    assert chosen(movie, movie[0]).noise_px == 0


@pytest.mark.parametrize("shape", [(5, 9), (3, 40)])
def test_a_few_rows_do_not_tell_the_noise(shape):
    movie = np.random.default_rng(0).poisson(20, (12, *shape))
    assert chosen(movie, movie.mean(axis=0)).noise_px == 0


@pytest.mark.parametrize("seed", [1, 2])
def test_noise_that_rows_share_is_no_motion(seed):
    """A movie that was interpolated before: what one row suggests, the next confirms, noise or not."""
    recording = simulate_recording((128, 128), 24, photons=8, rigid_px=2, nonrigid_px=1, jerks=0, seed=seed)
    movie = recording.movie.astype(np.float32)
    blurred = (movie[:, 1:] + movie[:, :-1]) / 2
    as_it_is, interpolated = chosen(movie, recording.template), chosen(blurred, recording.template[1:])
    assert interpolated.alpha > as_it_is.alpha / 2
    assert interpolated.noise_px == 0


@pytest.mark.parametrize("seed", [1, 2])
def test_jerks_are_no_deformation_where_rows_share_their_noise(seed):
    """What shakes the field of view as a whole between two frames is not taken for a deformation that was missed."""
    conditions = {"photons": 12, "rigid_px": 6, "nonrigid_px": 1.5, "jerks": 6}
    recording = simulate_recording((128, 128), 24, seed=seed, **conditions)
    movie = recording.movie.astype(np.float32)
    as_it_is = chosen(movie, recording.template)
    interpolated = chosen((movie[:, 1:] + movie[:, :-1]) / 2, recording.template[1:])
    assert interpolated.alpha < 3 * as_it_is.alpha


@pytest.mark.parametrize("alpha", [40, "auto"])
def test_channels_may_be_smoothed_differently_over_time(alpha):
    movie = simulate_recording((64, 64), 12, seed=5).movie
    options = OFOptions(alpha=alpha, sigma=((1, 1, 1.0), (1, 1, 0.1)), quality_setting="fast")
    w = compensate_arr(np.stack([movie, movie], axis=-1), None, options)[1]
    assert np.isfinite(w).all()


def test_a_given_alpha_is_kept():
    recording = simulate_recording((64, 64), 5, seed=5)
    assert chosen(recording.movie, recording.template, alpha=7) == Tuning(7, 0.0)
    tuning = chosen(recording.movie, recording.template, alpha=7, temporal_coherence=True)
    assert tuning.alpha == 7
    assert tuning.noise_px > 0


@pytest.mark.parametrize(("nonrigid_px", "untried"), [(0.5, True), (3, False)])
def test_small_alphas_are_tried_only_where_they_may_be_the_best(monkeypatch, nonrigid_px, untried):
    tried = []

    class Noted(FrameRegistration):
        def __init__(self, template, fill, preprocess, options, dtype):
            tried.append(float(options.alpha))
            super().__init__(template, fill, preprocess, options, dtype)

    monkeypatch.setattr(noise, "FrameRegistration", Noted)
    recording = simulate_recording((96, 96), 12, photons=8, rigid_px=3, nonrigid_px=nonrigid_px, seed=2)
    alpha = chosen(recording.movie, recording.template, temporal_coherence=False).alpha
    assert tried == sorted(tried, reverse=True)
    assert (tried[-1] > _ALPHAS[0]) == untried
    if untried:
        assert len(tried) - 1 - np.abs(np.log(tried) - np.log(alpha)).argmin() in (1, 2)


def test_the_peak_lies_between_the_alphas_tried():
    x = np.arange(len(_ALPHAS))
    assert _peak(-((x - 3.0) ** 2)) == pytest.approx(_ALPHAS[3], rel=0.05)
    assert _ALPHAS[3] < _peak(-((x - 3.4) ** 2)) < _ALPHAS[4]
    assert _peak(x) == pytest.approx(400, rel=0.05)
    assert _peak(-x) == pytest.approx(1.5, rel=0.05)


def test_the_template_is_not_imprinted_on_noise():
    """Frames without any structure, registered, must not show the template's; toolbox defaults reach 0.5 here."""
    template = simulate_recording((128, 128), 1, rigid_px=0, nonrigid_px=0, jerks=0, seed=3).template
    noise = np.random.default_rng(0).poisson(12, (100, 128, 128)).astype(np.float32)
    registered = compensate_arr(noise, template)[0].mean(axis=0)
    fine = [image - gaussian_filter(image, 4) for image in (registered, template)]
    inside = [image[8:-8, 8:-8].ravel() for image in fine]
    assert np.corrcoef(inside)[0, 1] < 0.1
