"""Frames registered while they come: the same numbers as a recording's, in time, for as long as it takes."""

import copy
import gc
import multiprocessing
import os
import pickle
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pyflow import LiveRegistration, OFOptions, compensate_arr
from pyflow.flow import backends
from pyflow.flow.native import NativeBackend
from pyflow.flow.rigid import RigidShift
from pyflow.motion import beginning
from pyflow.motion import live as module
from pyflow.motion.noise import Tuning
from pyflow.motion.quality import PROBLEMS
from pyflow.simulate import simulate_recording

OPTIONS = OFOptions(alpha=20, quality_setting="fast", n_workers=2)


def waiting_for_all(options=OPTIONS, **more):
    return LiveRegistration(options, **{"max_latency_ms": None, **more})


@pytest.mark.parametrize(
    ("changes", "dtype"),
    [
        ({}, np.uint16),
        (
            {"buffer_size": 5, "cc_initialization": True, "const_assumption": "gray", "output_typename": "float32"},
            ">u2",
        ),
        ({"buffer_size": 5, "update_initialization_w": False, "max_displacement": 3.0}, np.float32),
        ({"channel_idx": (1,), "bidiphase": 2, "interpolation_method": "linear"}, np.uint8),
        ({"alpha": "auto", "temporal_coherence": False}, np.int16),
    ],
)
def test_a_recording_played_through_it_gives_the_recordings_result(two_channels, shifts, changes, dtype):
    movie = (two_channels.movie(shifts, np.float64) / 13).astype(dtype)
    options = OPTIONS.replace(**changes)
    expected, expected_w = compensate_arr(movie, options=options)
    with waiting_for_all(options) as live:
        live.prepare(movie)
        for t, frame in enumerate(movie):
            registered, w = live.register(frame)
            assert registered.dtype == expected.dtype
            np.testing.assert_array_equal(registered, expected[t])
            np.testing.assert_array_equal(w, expected_w[t])


def test_several_references(scene, shifts, rng):
    """A frame that is shifted as a whole takes the reference of the frame before."""
    other = type(scene)(rng)
    other.image = 0.5 * (scene.image + other.image)
    movie = np.concatenate([scene.movie(shifts), other.movie(shifts)])
    options = OPTIONS.replace(reference_frames="0:6", n_references=2, min_frames_per_reference=4)
    expected, expected_w = compensate_arr(movie, options=options)
    with waiting_for_all(options) as live:
        live.prepare(movie)
        engine, misfit = live._engine.result(), []
        assert len(engine.state.others) == 1
        for t, frame in enumerate(movie):
            misfit.append(engine.by_shift(other.frame()).statistics[-1])
            registered, w = live.register(frame)
            np.testing.assert_array_equal(registered, expected[t])
            np.testing.assert_array_equal(w, expected_w[t])
    assert min(misfit[:12]) > 5 * max(misfit[13:])


@pytest.mark.parametrize("changes", [{"sigma": (1, 1, 0.6)}, {"temporal_coherence": True}])
def test_each_frame_is_registered_as_a_recordings_last(scene, shifts, changes, monkeypatch):
    """What a recording takes from the future: the filter in time and neighbours that inform each other."""
    monkeypatch.setattr(beginning, "tune", lambda *_: Tuning(20.0, 0.5 if "temporal_coherence" in changes else 0.0))
    movie, options = scene.movie(shifts)[..., 0], OPTIONS.replace(update_initialization_w=False, **changes)
    with waiting_for_all(options, reference=scene.frame()) as live:
        live.prepare(movie)
        for t, frame in enumerate(movie):
            registered, w = live.register(frame)
            if t in (0, 1, 4, 11):
                expected, expected_w = compensate_arr(movie[: t + 1], scene.frame(), options)
                np.testing.assert_array_equal(w, expected_w[-1])
                np.testing.assert_array_equal(registered, expected[-1])


def test_the_first_frames_tell_the_reference(scene, rng):
    movie = scene.movie(rng.uniform(-2, 2, (16, 2)))
    dark = np.zeros_like(movie[0])
    with waiting_for_all(n_first=12) as live:
        assert live.reference is None
        for frame in [dark, *movie[:12]]:
            result = live.register(frame)
            np.testing.assert_array_equal(result.registered, frame)
            assert not result.displacement.any()
            assert not result.valid.any()
            assert result.how == ("passed on" if frame is dark else "waiting")
        until = time.monotonic() + 30
        while (result := live.register(movie[12])).how == "waiting":
            assert time.monotonic() < until
            time.sleep(0.01)
        assert result.how == "flow"
        assert result.valid.any()
        statistics = live.statistics
        assert statistics.alpha == (20.0, 20.0)
        assert statistics.passed_on == {"all pixels are equal": 1}
        assert statistics.frames == statistics.waiting + 2
        assert len(statistics.latency_ms) == 2
        expected, _ = compensate_arr(movie[12:13], live.reference, OPTIONS.replace(update_initialization_w=False))
        assert np.abs(result.registered.astype(float) - expected[0]).mean() < 5


def test_with_reference_and_alpha_the_first_frame_is_registered(scene, shifts):
    frame = scene.movie(shifts)[0, ..., 0]
    with waiting_for_all(reference=scene.frame()[..., 0], n_first=0) as live:
        result = live.register(frame)
        assert result.how == "flow"
        assert np.abs(result.displacement - shifts[0])[16:-16, 16:-16].max() < 0.5
        np.testing.assert_array_equal(live.reference, scene.frame()[..., 0])


def test_the_first_frame_has_its_time_when_everything_is_ready(scene):
    """The clock goes on by a second whenever it is looked at, which is done often in between."""
    clock = Clock()
    clock.step = 1.0
    with LiveRegistration(GATED, reference=scene.frame(), n_first=0, max_latency_ms=10_000, clock=clock) as live:
        result = live.register(scene.frame())
    assert result.latency_ms > 10_000
    assert result.how == "flow"


class Gate:
    """A back end whose flows wait until they are let through, or raise what they are told to."""

    def __init__(self, monkeypatch):
        self.open, self.begun = threading.Event(), 0
        self.error = None
        self.open.set()
        monkeypatch.setitem(backends._FACTORIES, "gated", lambda: self)
        self.name, self.device = "gated", "cpu"
        self._native = NativeBackend()

    def unsupported(self, parameters):
        return None

    def prepare(self, *arguments, **named):
        prepared, gate = self._native.prepare(*arguments, **named), self

        class Gated:
            start = prepared.start

            def estimate(self, *arguments, **named):
                gate.begun += 1
                assert gate.open.wait(30)
                if gate.error:
                    raise gate.error
                return prepared.estimate(*arguments, **named)

        return Gated()


@pytest.fixture
def gate(monkeypatch):
    return Gate(monkeypatch)


class Clock:
    """A clock that goes on by a step whenever somebody looks at it."""

    now, step = 100.0, 0.0

    def __call__(self):
        self.now += self.step
        return self.now


GATED = OPTIONS.replace(update_initialization_w=False)


def settled(live):
    """Wait until nothing is worked on."""
    live._worker.submit(int).result(30)


@pytest.fixture
def held(gate, scene):
    """A live registration whose flows come when the gate is open, its clock, and the gate."""
    clock = Clock()
    options = GATED.replace(flow_backend="gated")
    with LiveRegistration(options, reference=scene.frame(), n_first=0, max_latency_ms=20, clock=clock) as live:
        assert live.register(scene.frame().astype(np.float32)).how == "flow"
        settled(live)
        yield live, clock, gate
        gate.open.set()


def late(held, frame, step=0.006):
    """Register a frame whose flow does not come while the clock goes on."""
    live, clock, gate = held
    gate.open.clear()
    clock.step = step
    result = live.register(frame)
    clock.step = 0.0
    return result


def test_a_late_frame_is_shifted_as_a_whole(held, scene):
    live, _, gate = held
    frame = scene.frame(2.0, -1.0).astype(np.float32)
    result = late(held, frame)
    assert result.how == "rigid"
    assert result.problem == ""
    np.testing.assert_allclose(result.displacement, np.broadcast_to([2.0, -1.0], (64, 72, 2)), atol=0.2)
    assert np.ptp(result.displacement, axis=(0, 1)).max() < 1e-6
    assert result.misfit < 0.1
    assert late(held, frame).how == "rigid"
    assert gate.begun == 2, "the flow of the frame before is still worked on: no other is begun"
    gate.open.set()
    settled(live)
    result = live.register(frame)
    assert result.how == "flow"
    assert gate.begun == 3
    assert live.statistics.late == 2
    assert live.statistics.registered == 2


def test_a_late_frame_without_an_image_is_passed_on(held, scene):
    late(held, scene.frame().astype(np.float32))
    result = late(held, np.full((64, 72, 1), np.nan, np.float32))
    assert result.how == "passed on"
    assert result.problem == "contains NaN or inf"


def test_a_slow_shift_leaves_the_flow_half_the_time(held, scene):
    """A machine that was busy when the shift was timed must not keep all flows from being waited for."""
    live, *_ = held
    live._engine.result().shift_s = 1.0
    assert live.register(scene.frame().astype(np.float32)).how == "flow"


def test_the_shift_of_a_late_frame_is_in_time(held, scene):
    live, *_ = held
    live._engine.result().shift_s = 0.01
    result = late(held, scene.frame().astype(np.float32), step=0.001)
    assert result.how == "rigid"
    assert 10 < result.latency_ms < 20


def test_latencies_are_the_clocks(held, scene):
    live, *_ = held
    late(held, scene.frame().astype(np.float32))
    in_time, too_late = live.statistics.latency_ms
    assert in_time == 0
    assert 20 <= too_late <= 40
    assert live.statistics.latency_percentile_ms(100) == too_late


def test_a_failed_flow_is_told_and_the_next_frame_registered(held, scene):
    live, _, gate = held
    frame = scene.frame().astype(np.float32)
    gate.error = OSError("lost the device")
    with pytest.raises(OSError, match="lost the device"):
        live.register(frame)
    gate.error = None
    assert live.register(frame).how == "flow"
    assert live.statistics.frames == 2


def test_what_a_late_flow_failed_with_is_told_once(held, scene):
    live, _, gate = held
    frame = scene.frame().astype(np.float32)
    gate.error = TimeoutError("lost the device")
    assert late(held, frame).how == "rigid"
    gate.open.set()
    settled(live)
    gate.error = None
    with pytest.raises(TimeoutError, match="lost the device"):
        live.register(frame)
    assert live.register(frame).how == "flow"


def test_a_reference_that_cannot_be_renewed_is_told_once(scene, shifts, monkeypatch):
    """The frame before has been returned by then."""
    movie, options = scene.movie(shifts), GATED.replace(update_reference=True, buffer_size=3)

    def fail(*_):
        raise MemoryError("no room")

    with waiting_for_all(options, reference=scene.frame(), n_first=0) as live:
        hows = [live.register(frame).how for frame in movie[:2]]
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("pyflow.motion.register.FrameRegistration.onto_template", fail)
            hows.append(live.register(movie[2]).how)
            settled(live)
        with pytest.raises(MemoryError, match="no room"):
            live.register(movie[3])
        hows += [live.register(frame).how for frame in movie[4:8]]
        settled(live)
        assert hows == ["flow"] * 7
        assert live.statistics.renewed == 1


def test_closing_waits_for_what_is_worked_on(held, scene):
    """Whoever waits for a frame gets it."""
    live, _, gate = held
    gate.open.clear()
    live._limit_s = np.inf
    with ThreadPoolExecutor(3) as pool:
        first, second = (pool.submit(live.register, scene.frame().astype(np.float32)) for _ in range(2))
        while gate.begun < 2:
            time.sleep(0.001)
        closing = pool.submit(live.close)
        while not live._closed:
            time.sleep(0.001)
        gate.open.set()
        closing.result(30)
        assert "flow" in {future.result(30).how for future in (first, second) if future.exception(30) is None}
        for future in (first, second):
            assert future.exception() is None or "closed" in str(future.exception())


def test_another_field_of_view(scene, two_channels, shifts):
    with waiting_for_all(reference=None) as live:
        for other in (scene, two_channels):
            movie = other.movie(shifts)
            live.prepare(movie)
            result = live.register(movie[3])
            assert result.how == "flow"
            assert np.isnan(result.jump_px)
            assert live.reference.reshape(movie[0].shape).shape == movie[0].shape


def test_what_fails_to_prepare_leaves_all_as_it_was(scene, shifts):
    movie, failing = scene.movie(shifts), threading.Event()

    def preprocess(image):
        if failing.is_set():
            raise LookupError("mine")
        return image

    with waiting_for_all(OPTIONS.replace(preprocess=preprocess), n_first=2) as live:
        live.register(movie[0])
        for refused in (movie[:, :8, :8] * 0, movie.astype(complex), np.full(movie.shape, 3)):
            with pytest.raises(ValueError, match=r"."):
                live.prepare(refused)
        live.prepare(movie)
        reference = live.reference
        expected = live.register(movie[3])
        failing.set()
        with pytest.raises(LookupError, match="mine"):
            live.prepare(movie[:, ::-1])
        with pytest.raises(LookupError, match="mine"):
            live.register(movie[3])
        failing.clear()
        np.testing.assert_array_equal(live.reference, reference)
        again = live.register(movie[3])
        assert (again.how, again.jump_px) == ("flow", 0)
        np.testing.assert_array_equal(again.registered, expected.registered)


def test_frames_in_any_memory_layout(scene, shifts):
    movie = scene.movie(shifts)[..., 0]
    with waiting_for_all(GATED, reference=scene.frame(), n_first=0) as live:
        expected = live.register(movie[1])
        for same in (np.asfortranarray(movie[1]), movie[1][::-1].copy()[::-1], movie[1].tolist()):
            if isinstance(same, list):
                same = np.array(same, np.uint16)
            result = live.register(same)
            np.testing.assert_array_equal(result.registered, expected.registered)
            np.testing.assert_array_equal(result.displacement, expected.displacement)


def test_threads_at_once(scene, shifts):
    """All of them get their own frame back, registered."""
    movie = scene.movie(shifts)
    with waiting_for_all(GATED, reference=scene.frame(), n_first=0) as live, ThreadPoolExecutor(6) as pool:
        expected = [live.register(frame).registered for frame in movie]
        results = list(pool.map(live.register, [*movie] * 4))
        for t, result in enumerate(results):
            assert result.how == "flow"
            np.testing.assert_array_equal(result.registered, expected[t % len(movie)])
        assert live.statistics.registered == 5 * len(movie)


@pytest.mark.parametrize("anchored", [True, False])
def test_a_renewed_reference_does_not_drift(anchored, monkeypatch):
    """In 5000 frames it is renewed 250 times; if it were not registered to the first, it would soon wander off."""
    if not anchored:
        monkeypatch.setattr("pyflow.motion.register.FrameRegistration.onto_template", lambda self, filtered: filtered)
    recording = simulate_recording((48, 48), 250, photons=4, rigid_px=2, nonrigid_px=0.5, jerks=0, seed=5)
    options = GATED.replace(alpha=5, update_reference=True, buffer_size=20, max_displacement=20.0)
    find = RigidShift(recording.template, upsample=50)
    far_px = []
    with waiting_for_all(options, reference=recording.template, n_first=0) as live:
        for t in range(5000 if anchored else 1000):
            live.register(recording.movie[t % 250])
            if t % 500 == 499:
                settled(live)
                assert live.statistics.renewed == (t + 1) // 20
                far_px.append(np.hypot(*find(live._engine.result().state.template[..., 0])))
    if anchored:
        assert max(far_px) < 0.2
    else:
        assert far_px[0] > 0.4
        assert far_px[-1] > 0.9


def test_a_reference_of_few_frames_waits_for_more(scene, rng):
    """Where most frames of a batch show nothing, those that do would make a template of noise."""
    movie, nothing = scene.movie(rng.uniform(-2, 2, (30, 2))), np.zeros((64, 72, 1), np.uint16)
    options = GATED.replace(update_reference=True, buffer_size=10)
    with waiting_for_all(options, reference=scene.frame(), n_first=0) as live:
        for renewed, shown in ((0, 4), (1, 4), (2, 10)):
            for t in range(10):
                live.register(movie[t] if t < shown else nothing)
            settled(live)
            assert live.statistics.renewed == renewed


def test_the_first_frames_are_not_kept(scene, shifts):
    movie = np.tile(scene.movie(shifts), (20, 1, 1, 1))
    with waiting_for_all(GATED.replace(n_workers=1), reference=scene.frame()) as live:
        tracemalloc.start()
        try:
            live.prepare(movie)
            assert held_bytes() < movie.nbytes / 2
        finally:
            tracemalloc.stop()


def held_bytes():
    """Memory that Python and numpy hold, less what the trace itself takes."""
    gc.collect()
    own = tracemalloc.Filter(False, tracemalloc.__file__)
    return sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([own]).traces)


def test_memory_does_not_grow(scene, shifts, monkeypatch):
    monkeypatch.setattr(module, "_LATENCIES", 50)
    movie, options = scene.movie(shifts), GATED.replace(buffer_size=25, update_reference=True, temporal_coherence=True)
    with waiting_for_all(options, reference=scene.frame()) as live:
        live.prepare(movie)
        held = []
        tracemalloc.start()
        try:
            for t in range(450):
                live.register(movie[t % len(movie)])
                if t in (149, 449):
                    settled(live)
                    held.append(held_bytes())
        finally:
            tracemalloc.stop()
    assert held[1] - held[0] < 10_000, "bytes; statistics of 300 frames would be 14 400"


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (np.zeros((64, 73)), r"shape \(64, 73, 1\).*before had \(64, 72, 1\)"),
        (np.zeros((64, 72, 2)), r"shape \(64, 72, 2\).*before had \(64, 72, 1\)"),
        (np.zeros((64, 72), np.float32), "dtype float32, .* float64"),
        (np.zeros((64, 72), complex), "dtype complex128"),
        (np.zeros(64), r"shape \(64,\), expected \(H, W\)"),
        (np.zeros((0, 72)), r"shape \(0, 72\), .* no empty axis"),
        (None, r"shape \(\), expected"),
    ],
)
def test_a_frame_of_another_kind_is_refused_and_does_not_count(scene, frame, said):
    with waiting_for_all(reference=scene.frame(), n_first=0) as live:
        before = live.register(scene.frame())
        with pytest.raises(ValueError, match=said):
            live.register(frame)
        assert live.statistics.frames == 1
        assert live.register(scene.frame()[..., 0]).registered.shape == (64, 72)
        np.testing.assert_array_equal(live.register(scene.frame()).registered, before.registered)


@pytest.mark.parametrize(
    ("options", "frame", "said"),
    [
        ({}, np.zeros((64, 72), complex), "first frame has dtype complex128"),
        ({}, np.zeros((64, 70)), r"reference has shape \(64, 72, 1\), .* \(64, 70, 1\)"),
        ({"channel_idx": (1,)}, np.zeros((64, 72)), r"channel_idx \(1,\)"),
        ({"weight": np.ones((3, 4))}, np.zeros((64, 72)), r"weight: the map has shape \(3, 4\)"),
    ],
)
def test_what_does_not_fit_is_told_with_the_first_frame(scene, options, frame, said):
    with waiting_for_all(OPTIONS.replace(**options), reference=scene.frame()) as live:
        for _ in range(2):
            with pytest.raises(ValueError, match=said):
                live.register(frame)


def test_first_frames_that_tell_nothing_are_told_once_and_the_next_asked(scene):
    """Here the reference would be made from a frame that never comes."""
    with waiting_for_all(OPTIONS.replace(reference_frames=(7,)), n_first=4) as live:
        frame, happened, said = scene.frame(), [], "reference_frames (7,) names none of the recording's 4 frames"
        until = time.monotonic() + 30
        while happened.count(said) < 2:
            assert time.monotonic() < until
            try:
                happened.append(live.register(frame).how)
            except ValueError as error:
                happened.append(str(error))
        first = happened.index(said)
        assert set(happened[:first]) == set(happened[first + 1 : -1]) == {"waiting"}
        assert len(happened[first + 1 : -1]) >= 4


@pytest.mark.parametrize(
    ("kind", "problem"), [(np.nan, "contains NaN or inf"), (np.inf, "contains NaN or inf"), (7, "all pixels are equal")]
)
def test_frames_without_an_image_are_passed_on(scene, kind, problem):
    with waiting_for_all(reference=scene.frame().astype(np.float32), n_first=0) as live:
        frame = scene.frame().astype(np.float32)
        expected = live.register(frame)
        bad = np.full_like(frame, kind)
        result = live.register(bad)
        assert (result.how, result.problem) == ("passed on", problem)
        np.testing.assert_array_equal(result.registered, bad)
        assert not result.displacement.any()
        assert np.isnan(result.jump_px)
        assert live.statistics.passed_on == {problem: 1}
        np.testing.assert_array_equal(live.register(frame).registered, expected.registered)


def test_frames_that_show_something_else_are_passed_on(scene, shifts, rng):
    with waiting_for_all(reference=scene.frame()) as live:
        live.prepare(scene.movie(shifts, np.float32))
        assert live.register(rng.normal(size=(64, 72, 1)).astype(np.float32)).problem == PROBLEMS[4]


@pytest.mark.parametrize("astray", ["start", "template"])
def test_a_batch_that_was_led_astray_does_not_lead_the_next(scene, shifts, rng, astray):
    """All start from where the last registered frames lay; if none is registered from there, that must not stay."""
    movie, options = scene.movie(shifts, np.float32), OPTIONS.replace(update_reference=True, buffer_size=4)
    with waiting_for_all(options, reference=scene.frame()) as live:
        live.prepare(movie)
        loop = live._engine.result()._loop
        if astray == "start":
            loop._state.start = np.full((1, 1, 2), 40, np.float32)
        else:
            loop._state.template = loop._state.template[::-1].copy()
            loop._state.misfit_limit = np.float64(0.05)
            loop._register = loop._registration()
        hows = [live.register(frame).how for frame in movie[:8]]
    assert hows == ["passed on"] * 4 + ["flow"] * 4


def test_a_frame_that_jumps_is_marked(scene):
    with waiting_for_all(reference=scene.frame(), n_first=0, jump_px=3) as live:
        results = [live.register(scene.frame(u)) for u in (0, 2, -2, 0)]
        assert [result.jumped for result in results] == [False, False, True, False]
        assert np.isnan(results[0].jump_px)
        assert [result.jump_px for result in results[1:]] == pytest.approx([2, 4, 2], abs=0.3)
        assert {result.how for result in results} == {"flow"}
        assert live.statistics.jumps == 1


def test_a_frame_that_waits_is_said_to_hold_nan_in_any_type(scene):
    frame = scene.frame()
    frame[3, 4] = np.nan
    with waiting_for_all(OPTIONS.replace(output_typename="uint16")) as live:
        result = live.register(frame)
    assert result.registered.dtype == np.uint16
    assert (result.how, result.problem) == ("passed on", "contains NaN or inf")


def test_a_shift_is_looked_for_at_the_size_that_is_asked_for(scene):
    """And as finely, at any."""
    with waiting_for_all(OPTIONS.replace(cc_hw=(32, 40)), reference=scene.frame(), n_first=0) as live:
        live.register(scene.frame())
        shifted = live._engine.result().by_shift(scene.frame(1.25, -2.5))
    np.testing.assert_allclose(shifted.field[0, 0], [1.25, -2.5], atol=0.2)


def test_the_callers_array_may_change(scene):
    """A camera writes the next frame where the last one was."""
    buffer = scene.frame().astype(np.uint16)
    with waiting_for_all(n_first=12) as live:
        kept = live.register(buffer)
        buffer[:] = 3
        assert kept.registered.max() > 3


@pytest.mark.parametrize(
    ("options", "given", "said"),
    [
        ({"bin_size": 2}, {}, "bin_size is 2"),
        ({}, {"n_first": -1}, "n_first is -1"),
        ({}, {"n_first": 2.5}, "n_first is 2.5, expected a whole number"),
        ({}, {"n_first": True}, "n_first is True"),
        ({}, {"n_first": 0}, "the reference is found"),
        ({"alpha": "auto"}, {"n_first": 0, "reference": np.eye(9)}, "alpha is found"),
        ({"temporal_coherence": True}, {"n_first": 0, "reference": np.eye(9)}, "temporal_coherence"),
        ({"bidiphase": "auto"}, {"n_first": 0, "reference": np.eye(9)}, "bidiphase is found"),
        ({}, {"max_latency_ms": 0}, "max_latency_ms is 0"),
        ({}, {"max_latency_ms": np.nan}, "max_latency_ms is nan"),
        ({}, {"max_latency_ms": "25"}, "max_latency_ms is '25'"),
        ({}, {"jump_px": 0}, "jump_px is 0"),
        ({}, {"jump_px": "9"}, "jump_px is '9'"),
    ],
)
def test_what_cannot_be_done_live_is_refused(options, given, said):
    with pytest.raises(ValueError, match=said):
        LiveRegistration(OPTIONS.replace(**options), **given)


def test_closed(scene):
    live = LiveRegistration(OPTIONS)
    live.close()
    live.close()
    for use in (live.register, live.prepare):
        with pytest.raises(RuntimeError, match="closed"):
            use(scene.frame())


@pytest.mark.parametrize("use", [pickle.dumps, copy.copy, copy.deepcopy])
def test_threads_are_not_copied(use):
    with LiveRegistration(OPTIONS) as live, pytest.raises(TypeError, match=r"holds threads .* make one"):
        use(live)


def in_child(live, frame, pipe):
    with live:
        try:
            live.register(frame)
        except RuntimeError as error:
            pipe.send(str(error))
    with waiting_for_all(reference=frame, n_first=0) as own:
        pipe.send(own.register(frame).how)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_is_told_to_make_its_own(scene):
    context = multiprocessing.get_context("fork")
    with waiting_for_all(reference=scene.frame(), n_first=0) as live, live._changed:
        ours, theirs = context.Pipe()
        child = context.Process(target=in_child, args=(live, scene.frame(), theirs))
        child.start()
        assert ours.poll(30)
        assert "make one in each" in ours.recv()
        assert ours.poll(30)
        assert ours.recv() == "flow"
        child.join(30)
        assert child.exitcode == 0
