"""Movies in memory: known motion is found, whatever the type, the batches and the number of threads."""

import numpy as np
import pytest

from pyflow.flow.warp import imregister, valid_mask
from pyflow.io import open_video
from pyflow.motion import beginning, frames
from pyflow.motion.compensate import compensate_arr
from pyflow.motion.options import OFOptions
from pyflow.motion.register import FrameRegistration

INNER = (slice(None), slice(8, -8), slice(8, -8))
OPTIONS = OFOptions(alpha=10, n_workers=2)


def test_still_movie_is_returned_as_it_is(scene):
    movie = scene.movie(np.zeros((4, 2)))
    registered, displacement = compensate_arr(movie, movie[0])
    np.testing.assert_array_equal(registered, movie)
    assert not displacement.any()


@pytest.mark.parametrize(
    "changes", [{}, {"cc_initialization": True, "cc_up": 4}, {"update_reference": True, "buffer_size": 5}]
)
def test_finds_known_motion(scene, shifts, changes):
    movie = scene.movie(shifts)
    registered, displacement = compensate_arr(movie, scene.frame(), OPTIONS.replace(**changes))
    assert (displacement.shape, displacement.dtype) == ((*movie.shape[:3], 2), np.float32)
    error = np.linalg.norm(displacement[INNER] - shifts[:, None, None], axis=-1)
    assert error.mean() < 0.05
    before = np.abs(movie[INNER] - scene.frame()[INNER[1:]]).mean()
    assert np.abs(registered[INNER] - scene.frame()[INNER[1:]]).mean() < 0.05 * before


def test_cc_initialization_finds_what_the_flow_alone_cannot(scene):
    shifts = np.array([[12.0, -10.0], [-11.0, 12.0]])
    movie = scene.movie(shifts)
    _, displacement = compensate_arr(movie, scene.frame(), OPTIONS.replace(cc_initialization=True))
    inner = (slice(None), slice(14, -14), slice(14, -14))
    assert np.linalg.norm(displacement[inner] - shifts[:, None, None], axis=-1).mean() < 0.1


def test_builds_its_own_reference(scene, shifts):
    movie = scene.movie(shifts)
    registered, _ = compensate_arr(movie, options=OPTIONS)
    assert registered[INNER].std(axis=0).mean() < 0.1 * movie[INNER].std(axis=0).mean()


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_keeps_shape_and_type(scene, shifts, dtype):
    movie = scene.movie(shifts[:3], np.float64)[..., 0]
    movie = (movie * (250 / movie.max())).astype(dtype)
    registered, _ = compensate_arr(movie, movie[0], OPTIONS.replace(update_initialization_w=False))
    assert (registered.shape, registered.dtype) == (movie.shape, movie.dtype)
    np.testing.assert_allclose(registered[0], movie[0])


def test_output_type(scene, shifts):
    movie = scene.movie(shifts[:3])
    as_double, _ = compensate_arr(movie, scene.frame(), OPTIONS.replace(output_typename="double"))
    as_uint16, _ = compensate_arr(movie, scene.frame(), OPTIONS)
    as_uint8, _ = compensate_arr(movie, scene.frame(), OPTIONS.replace(output_typename="uint8"))
    assert (as_double.dtype, as_uint8.dtype) == (np.float64, np.uint8)
    np.testing.assert_array_equal(np.rint(as_double), as_uint16)
    np.testing.assert_array_equal(np.minimum(as_uint16, 255), as_uint8)


def test_pixels_from_outside_are_the_reference_s(scene):
    movie = scene.movie([[4.0, 0.0]])
    reference = np.rint(scene.frame())
    registered, displacement = compensate_arr(movie, reference, OPTIONS)
    outside = ~valid_mask(displacement[0])
    assert outside.any()
    np.testing.assert_array_equal(registered[0][outside], reference[outside])


def test_channels_share_one_displacement(two_channels, shifts):
    movie = two_channels.movie(shifts)
    registered, displacement = compensate_arr(movie, two_channels.frame(), OPTIONS)
    assert registered.shape == movie.shape
    assert np.linalg.norm(displacement[INNER] - shifts[:, None, None], axis=-1).mean() < 0.05
    one, _ = compensate_arr(movie, two_channels.frame()[..., 1:], OPTIONS.replace(channel_idx=[1]))
    assert one.shape == (*movie.shape[:3], 1)


def test_a_channel_without_weight_does_not_count(rng, two_channels, shifts):
    movie = two_channels.movie(shifts[:4])
    movie[..., 1] = rng.integers(0, 3000, movie.shape[:3])
    options = OPTIONS.replace(weight=(1, 0), channel_normalization="separate")
    _, displacement = compensate_arr(movie, two_channels.frame(), options)
    alone = options.replace(channel_idx=[0])
    _, expected = compensate_arr(movie, two_channels.frame()[..., :1], alone)
    np.testing.assert_allclose(displacement, expected, atol=1e-4)


@pytest.mark.parametrize(
    "changes",
    [{}, {"update_reference": True}, {"cc_initialization": True}, {"sigma": (1, 1, 0.5)}, {"bin_size": 2}],
)
def test_threads_and_pieces_change_nothing(monkeypatch, scene, shifts, changes):
    movie = scene.movie(shifts)
    options = OPTIONS.replace(buffer_size=5, **changes)
    expected = compensate_arr(movie, options=options.replace(n_workers=1))
    monkeypatch.setattr(frames, "PIECE_BYTES", 2 * movie[0].nbytes)
    for result, value in zip(compensate_arr(movie, options=options.replace(n_workers=3)), expected, strict=True):
        np.testing.assert_array_equal(result, value)


def test_batches_start_from_the_one_before(scene, shifts):
    movie = scene.movie(shifts)
    options = OPTIONS.replace(update_initialization_w=False, grid_spacing=1)  # the means are those of the flow's grid
    whole, in_batches = (compensate_arr(movie, scene.frame(), options.replace(buffer_size=n))[1] for n in (12, 5))
    np.testing.assert_array_equal(whole, in_batches)
    carried = compensate_arr(movie, scene.frame(), OPTIONS.replace(buffer_size=5, grid_spacing=1))[1]
    assert (carried != whole).any()
    # the second batch, alone, from the mean of the first one's fields
    start = carried[:5].astype(np.float64).mean(axis=0).astype(np.float32)
    source = beginning.checked_source(movie, options, "movie")
    state = beginning.first_state(source, options, scene.frame())
    preprocess = beginning.Preprocessor(state.reference, options, source.dtype)
    register = FrameRegistration(state.template, state.reference, preprocess, options, movie.dtype)
    np.testing.assert_array_equal(register.estimate([movie[5]], register.start(start)).displacement, carried[5])


def test_the_flow_sees_what_a_function_makes_and_the_result_is_as_recorded(scene, shifts, rng):
    """Light that stays in place hides the motion from the flow, unless a function takes it away."""
    movie = scene.movie(shifts, np.float32)
    light = 4e4 * rng.random(movie.shape[1:]).astype(np.float32)
    options = OPTIONS.replace(preprocess=lambda image: image - light)
    registered, w = compensate_arr(movie + light, scene.frame() + light, options)
    _, expected = compensate_arr(movie, scene.frame(), OPTIONS)
    _, misled = compensate_arr(movie + light, scene.frame() + light, OPTIONS)
    assert np.abs(w - expected).max() < 0.05 < np.abs(misled - expected).mean()
    by_hand = [
        imregister(frame, field, fill=scene.frame() + light) for frame, field in zip(movie + light, w, strict=True)
    ]
    np.testing.assert_allclose(registered, by_hand, rtol=1e-5)


def test_bins(scene):
    movie = scene.movie(np.repeat([[0, 0], [2.0, 1.0], [-1.0, 2.0]], [2, 2, 1], axis=0))
    registered, displacement = compensate_arr(movie, scene.frame(), OPTIONS.replace(bin_size=2))
    expected, field = compensate_arr(movie[::2], scene.frame(), OPTIONS)
    np.testing.assert_array_equal(displacement, field)
    np.testing.assert_array_equal(registered, expected)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0, 7])
def test_frames_without_image_change_no_other(scene, shifts, value):
    movie = scene.movie(shifts, np.float32)
    broken = movie.copy()
    broken[3], broken[8, :, :4] = value, np.nan
    registered, displacement = compensate_arr(broken, scene.frame(), OPTIONS.replace(update_initialization_w=False))
    expected, field = compensate_arr(movie, scene.frame(), OPTIONS.replace(update_initialization_w=False))
    others = np.delete(np.arange(len(movie)), [3, 8])
    np.testing.assert_array_equal(registered[others], expected[others])
    np.testing.assert_array_equal(displacement[others], field[others])
    np.testing.assert_array_equal(registered[[3, 8]], broken[[3, 8]])
    assert not displacement[[3, 8]].any()


def test_frame_without_image_as_integers(scene, shifts):
    movie = scene.movie(shifts[:3], np.float32)
    movie[1] = np.nan
    registered, _ = compensate_arr(movie, scene.frame(), OPTIONS.replace(output_typename="uint16"))
    assert not registered[1].any()


def test_progress_counts_frames_and_can_stop(scene, shifts):
    movie = scene.movie(shifts)
    calls = []
    compensate_arr(movie, scene.frame(), OPTIONS, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(i + 1, len(movie)) for i in range(len(movie))]

    def stop(done, total):
        if done == 3:
            raise InterruptedError("enough")

    with pytest.raises(InterruptedError, match="enough"):
        compensate_arr(movie, scene.frame(), OPTIONS, progress=stop)


@pytest.mark.parametrize("axes", [3, 4])
def test_batches_are_handed_over_as_they_are_done(scene, shifts, axes):
    movie = scene.movie(shifts)[..., : None if axes == 4 else 1].reshape(12, 64, 72, *[1] * (axes - 3))
    seen, kept = [], {"frames": [], "w": []}

    def keep(name):
        def callback(batch, start, end):
            seen.append((name, start, end))
            kept[name].append(batch.copy())
            batch[:] = 0  # it is ours

        return callback

    done = []
    options = OPTIONS.replace(buffer_size=5)
    registered, w = compensate_arr(
        *(movie, scene.frame(), options),
        progress=lambda n, total: done.append((n, len(seen))),
        on_registered=keep("frames"),
        on_displacement=keep("w"),
    )
    assert seen == [(name, *span) for span in ((0, 5), (5, 10), (10, 12)) for name in ("frames", "w")]
    assert [n_seen for _, n_seen in done] == [0] * 4 + [2] * 5 + [4] * 2 + [6]
    expected = compensate_arr(movie, scene.frame(), options)
    for result, value in zip((registered, w, *map(np.concatenate, kept.values())), expected * 2, strict=True):
        np.testing.assert_array_equal(result, value)
        assert result.dtype == value.dtype


@pytest.mark.parametrize(
    ("movie", "reference", "changes", "error", "message"),
    [
        (np.zeros((4, 5)), None, {}, ValueError, r"movie has shape \(4, 5\)"),
        (np.zeros((0, 4, 5)), None, {}, ValueError, "no empty axis"),
        (np.zeros((2, 4, 5), complex), None, {}, ValueError, "complex128"),
        (np.ones((2, 4, 5)), np.zeros((5, 4)), {}, ValueError, r"reference has shape \(5, 4\)"),
        (np.ones((2, 4, 5)), np.zeros((4, 5)), {}, ValueError, "reference is constant"),
        (np.zeros((2, 4, 5)), None, {}, ValueError, "none of the 2 reference frames"),
        (np.ones((2, 4, 5)), None, {"channel_idx": [1]}, ValueError, "channel_idx.*1 channel"),
    ],
)
def test_errors_say_what_was_found(movie, reference, changes, error, message):
    with pytest.raises(error, match=message):
        compensate_arr(movie, reference, OFOptions(**changes))


def test_no_frame_is_registered_for_nothing(monkeypatch, scene, shifts):
    """Fewer than 12 frames tell nothing about the usual misfit: none is registered to learn it."""
    register, calls = FrameRegistration.estimate, []
    monkeypatch.setattr(FrameRegistration, "estimate", lambda *args, **kw: calls.append(1) or register(*args, **kw))
    options = OPTIONS.replace(update_initialization_w=False, quality_setting="fast")
    compensate_arr(scene.movie(shifts[:11]), scene.frame(), options)
    assert len(calls) == 11
    compensate_arr(scene.movie(shifts), scene.frame(), options)
    assert len(calls) == 11 + 12 + 12


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (("day1.tif",), TypeError, r"found the name 'day1.tif'; pyflow.open_video\('day1.tif'\)\[:\]"),
        ((np.ones((3, 8, 9)), OPTIONS), TypeError, "reference: .*options=..."),
        ((np.ones((3, 8, 9)), None, {"alpha": 4}), TypeError, r"found dict; pyflow.OFOptions\(\*\*options\)"),
        ((np.ones((3, 2, 32, 40)),), ValueError, r"40 channels; .*np.moveaxis\(movie, 1, -1\)"),
    ],
)
def test_what_was_given_in_place_of_a_movie_is_told(given, error, message):
    with pytest.raises(error, match=message):
        compensate_arr(*given)


def test_a_movie_with_time_last_is_taken_as_it_is_with_a_warning(scene, caplog):
    movie = np.random.default_rng(0).normal(100, 10, (40, 48, 10)).astype(np.float32)
    compensate_arr(movie, options=OPTIONS)
    assert "40 frames of 48 x 10 pixels, which is improbable" in caplog.text
    caplog.clear()
    compensate_arr(scene.movie(np.zeros((3, 2))), options=OPTIONS)
    assert "improbable" not in caplog.text


def test_an_open_reader_is_a_movie(scene):
    movie = scene.movie(np.zeros((3, 2)))
    registered, _ = compensate_arr(open_video(movie), options=OPTIONS)
    np.testing.assert_array_equal(registered, compensate_arr(movie, options=OPTIONS)[0])
