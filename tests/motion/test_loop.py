"""The loop needs no file and no number of frames."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pyflow.motion import beginning
from pyflow.motion.compensate import compensate_arr
from pyflow.motion.loop import FrameLoop
from pyflow.motion.options import OFOptions
from pyflow.motion.register import FrameRegistration
from pyflow.simulate import simulate_recording

OPTIONS = OFOptions(alpha=20, quality_setting="fast", update_initialization_w=False, n_workers=2)


def begun(movie, reference, options):
    source = beginning.checked_source(movie, options, "movie")
    return beginning.first_state(source, options, reference)


def test_one_frame_in_one_frame_out(scene, shifts):
    """As frames come from a microscope: none is waited for, and nobody knows how many there will be."""
    movie = scene.movie(shifts)
    options = OPTIONS.replace(buffer_size=5, update_reference=True)
    expected, _ = compensate_arr(movie, scene.frame(), options)
    state = begun(movie, scene.frame(), options)
    given = []

    def coming():
        for frame in movie:
            given.append(frame)
            yield frame

    with ThreadPoolExecutor(1) as workers:
        loop = FrameLoop(state, options, movie.dtype, movie.dtype, workers, 0)
        ends = []
        for t, result in enumerate(loop.register(coming())):
            assert len(given) == t + 1 == state.frames_done
            np.testing.assert_array_equal(result.frame, expected[t])
            ends.append(loop.batch_ended)
    assert np.flatnonzero(ends).tolist() == [4, 9]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"update_initialization_w": True, "update_reference": True},
        {"temporal_coherence": True, "sigma": (1, 1, 0.5), "update_initialization_w": True},
    ],
)
def test_goes_on_after_any_frame(scene, shifts, changes):
    """The state is whole after each frame, inside a batch too."""
    movie = scene.movie(shifts, np.float32)
    options = OPTIONS.replace(buffer_size=5, **changes)
    expected, _ = compensate_arr(movie, scene.frame(), options)
    state = begun(movie, scene.frame(), options)
    with ThreadPoolExecutor(2) as workers:
        for t in range(len(movie)):
            state = type(state).from_arrays(state.arrays())
            loop = FrameLoop(state, options, movie.dtype, movie.dtype, workers, 2)
            result = next(loop.register(movie[loop.first_frame :]))
            np.testing.assert_array_equal(result.frame, expected[t])


def test_goes_on_inside_a_batch_whose_frames_inform_each_other(scene, shifts):
    movie = scene.movie(shifts, np.float32)
    options = OPTIONS.replace(buffer_size=5, temporal_coherence=True)

    def noisy():
        state = begun(movie, scene.frame(), options)
        state.noise_px = np.float64(0.5)
        return state

    with ThreadPoolExecutor(2) as workers:
        whole = FrameLoop(noisy(), options, movie.dtype, movie.dtype, workers, 2)
        expected = [result.displacement for result in whole.register(movie)]
        state = noisy()
        for displacement in expected:
            loop = FrameLoop(state, options, movie.dtype, movie.dtype, workers, 2)
            result = next(loop.register(movie[loop.first_frame :]))
            np.testing.assert_array_equal(result.displacement, displacement)


def test_long_batches_start_the_next_from_their_last_21_frames():
    """As Flow-Registration: a batch of more than 100 frames; of at most 100, all of them."""
    recording = simulate_recording((32, 32), 104, photons=50, rigid_px=2, nonrigid_px=1, jerks=0, seed=2)
    movie, reference = recording.movie[..., np.newaxis], recording.template
    options = OPTIONS.replace(alpha=40, update_initialization_w=True)
    for size, last in ((102, 21), (100, 100)):
        changed = options.replace(buffer_size=size)
        _, w = compensate_arr(movie[..., 0], reference, changed)
        start = w[size - last : size].astype(np.float64).mean(axis=0).astype(np.float32)
        state = begun(movie, reference, changed)
        preprocess = beginning.Preprocessor(state.reference, changed, movie.dtype)
        register = FrameRegistration(state.template, state.reference, preprocess, changed, movie.dtype)
        np.testing.assert_array_equal(register.estimate([movie[size]], register.start(start)).displacement, w[size])


def test_first_start_is_the_mean_of_the_first_22_frames():
    recording = simulate_recording((32, 32), 30, photons=50, rigid_px=2, nonrigid_px=1, jerks=0, seed=2)
    movie, options = recording.movie[..., np.newaxis], OPTIONS.replace(alpha=40)
    _, alone = compensate_arr(movie[..., 0], recording.template, options)
    start = alone[:22].astype(np.float64).mean(axis=0).astype(np.float32)
    _, w = compensate_arr(movie[..., 0], recording.template, options.replace(update_initialization_w=True))
    state = begun(movie, recording.template, options)
    preprocess = beginning.Preprocessor(state.reference, options, movie.dtype)
    register = FrameRegistration(state.template, state.reference, preprocess, options, movie.dtype)
    np.testing.assert_array_equal(register.estimate([movie[0]], register.start(start)).displacement, w[0])


@pytest.mark.parametrize("size", [104, 40])
def test_next_template_is_the_mean_of_a_batch_s_last_101_frames(size):
    recording = simulate_recording((32, 32), size + 1, photons=50, rigid_px=2, nonrigid_px=1, jerks=0, seed=2)
    movie, options = recording.movie[..., np.newaxis], OPTIONS.replace(alpha=40, update_reference=True)
    state = begun(movie, recording.template, options)
    preprocess = beginning.Preprocessor(state.reference, options, movie.dtype)
    register = FrameRegistration(state.template, state.reference, preprocess, options, movie.dtype)
    last = movie[max(size - 101, 0) : size]
    template = np.mean([register.alone([frame]).filtered for frame in last], axis=0, dtype=np.float64)
    _, w = compensate_arr(movie[..., 0], recording.template, options.replace(buffer_size=size))
    after = FrameRegistration(template.astype(np.float32), state.reference, preprocess, options, movie.dtype)
    zero = after.start(np.zeros((32, 32, 2), np.float32))
    np.testing.assert_array_equal(after.estimate([movie[size]], zero).displacement, w[size])
