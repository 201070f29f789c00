"""Frames registered while they are recorded: one in, one out, each within a given time.

1. The first frames are passed on as they are; from them come the reference, alpha and the misfit that is usual, as
   from a recording in memory (`pyflow.motion.compensate`).
2. Each frame then goes to the loop of recordings (`pyflow.motion.loop`), on a thread of its own. What a recording
   takes from the frames after a frame (the filter in time, neighbours that inform each other) ends at the frame itself:
   it is registered as the last frame of a recording.
3. A frame whose displacement is not there in time, or that comes while the one before is still worked on, is shifted
   as a whole instead, which takes a few milliseconds, and is marked.
"""

import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from math import ceil
from numbers import Integral, Real
from threading import TIMEOUT_MAX, Condition
from typing import Any, NoReturn

import numpy as np

from pyflow._help import short_repr
from pyflow.flow.rigid import RigidShift
from pyflow.motion.beginning import checked_source, first_state, output_dtype
from pyflow.motion.loop import FrameLoop
from pyflow.motion.options import OFOptions, checked_options
from pyflow.motion.outputs import without_single_channel
from pyflow.motion.preprocess import Preprocessor
from pyflow.motion.quality import PROBLEMS, frame_problem
from pyflow.motion.reference import as_reference
from pyflow.motion.register import FrameEstimate, RegisteredFrame, passed_on
from pyflow.motion.states import registration

FLOW, RIGID, PASSED_ON, WAITING = "flow", "rigid", "passed on", "waiting"

_LATENCIES = 10_000  # of the last frames: five minutes at 30 Hz
_RECENT = 15  # frames whose median time tells how long the next one will take
_SHIFT_STEP_PX = 0.125  # of the frame, whatever size the shift is looked for at


@short_repr
@dataclass(frozen=True)
class LiveFrame:
    """What became of one frame; ``registered, w = live.register(frame)`` takes the first two fields.

    Parameters
    ----------
    registered
        The frame's shape and type (or `OFOptions.output_typename`).
    displacement
        float32 (H, W, 2), pixels, backward, as of `pyflow.compensate_arr`.
    valid
        bool (H, W): the pixel comes from inside the frame.
    how
        ``"flow"``; ``"rigid"``, shifted as a whole because the flow came too late; ``"passed on"``, as it was, see
        `problem`; ``"waiting"``, as it was, because the reference was not there yet.
    problem
        Why the frame could not be registered, in words (`pyflow.motion.quality.PROBLEMS`), or "".
    jump_px
        How far the field of view lies from where it lay in the registered frame before, pixels; NaN where that is not
        known.
    jumped
        Whether that is more than `LiveRegistration` was told to expect.
    misfit
        1 less the correlation with the reference, both reduced to a quarter; NaN if not registered.
    latency_ms
        Milliseconds from the call to its end.
    """

    registered: np.ndarray
    displacement: np.ndarray
    valid: np.ndarray
    how: str
    problem: str = ""
    jump_px: float = np.nan
    jumped: bool = False
    misfit: float = np.nan
    latency_ms: float = np.nan

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter((self.registered, self.displacement))


@dataclass(frozen=True)
class LiveStatistics:
    """What happened so far; frames count from when they were returned.

    Parameters
    ----------
    frames
        All frames.
    waiting
        Frames that came before the reference was there.
    registered
        Frames registered by their flow.
    late
        Frames shifted as a whole, because their flow came too late.
    passed_on
        Why other frames were not registered, in words -> how many.
    jumps
        Frames that jumped.
    renewed
        How often the reference was renewed (`OFOptions.update_reference`).
    alpha
        Smoothness weight (x, y); None before the reference is there.
    noise_px
        Noise of a frame's deformation, where frames inform each other; else 0.
    latency_ms
        float64 (N,), milliseconds, of the last 10000 frames that did not wait for the reference.
    """

    frames: int
    waiting: int
    registered: int
    late: int
    passed_on: dict[str, int]
    jumps: int
    renewed: int
    alpha: tuple[float, float] | None
    noise_px: float
    latency_ms: np.ndarray = field(repr=False)

    def latency_percentile_ms(self, percent: float) -> float:
        """Return the latency, in milliseconds, that so many percent of the frames did not exceed; NaN without any."""
        return float(np.percentile(self.latency_ms, percent)) if self.latency_ms.size else np.nan


class LiveRegistration:
    """Registers frames while they are recorded; safe to use from several threads.

    Parameters
    ----------
    options
        How; paths and what is saved do not count. With `update_reference` the reference follows the recording: after
        every `buffer_size` frames it is made anew from the last of them, and registered to the first one, so that it
        does not drift. None: the defaults, with ``quality_setting="fast"``.
    reference
        Image (H, W) or (H, W, C) to register to, in the frames' grey values; None: as `OFOptions.reference_frames`
        says, from the first frames.
    n_first
        How many frames with an image in them are passed on before the first is registered. They tell reference, alpha
        and which misfit is usual, which is worked out in the background while further frames are passed on. 0, where
        reference and alpha are given: none; then no frame is refused for its misfit.
    max_latency_ms
        How long a frame may take, in milliseconds; if its flow is not there by then, it is shifted as a whole. None:
        frames wait for their flow however long it takes, and no result depends on how fast the machine is.
    jump_px
        Frames that lie further than this from the one before are marked, in pixels.
    clock
        Tells the time in seconds.

    Raises
    ------
    TypeError
        The options are no `OFOptions`.
    ValueError
        An option has no meaning for single frames, or a number is out of its range.

    Examples
    --------
    >>> live = LiveRegistration(OFOptions(quality_setting="fast"))
    >>> registered, w = live.register(frame)
    """

    def __init__(
        self,
        options: OFOptions | None = None,
        *,
        reference: np.ndarray | None = None,
        n_first: int = 100,
        max_latency_ms: float | None = 25.0,
        jump_px: float = 10.0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        options = OFOptions(quality_setting="fast") if options is None else checked_options(options)
        if options.bin_size != 1:
            raise ValueError(
                f"bin_size is {options.bin_size}: live, a frame comes out for each that comes in; expected 1"
            )
        if not isinstance(n_first, Integral) or isinstance(n_first, bool) or n_first < 0:
            raise ValueError(f"n_first is {n_first!r}, expected a whole number of frames from 0 on")
        asked = _asked_of_frames(options, reference)
        if n_first == 0 and asked:
            raise ValueError(
                f"n_first is 0, but {asked} is found in the first frames: give it, or let some frames come"
            )
        if max_latency_ms is not None and not (isinstance(max_latency_ms, Real) and max_latency_ms > 0):
            raise ValueError(f"max_latency_ms is {max_latency_ms!r}, expected a number above 0, or None")
        if not (isinstance(jump_px, Real) and jump_px > 0):
            raise ValueError(f"jump_px is {jump_px!r}, expected a number above 0")
        self._options = options
        # what is done to frames before anything is known of them
        self._before = options.replace(bidiphase=0) if options.bidiphase == "auto" else options
        self._reference = None if reference is None else np.array(reference)
        self._n_first = n_first
        self._limit_s = np.inf if max_latency_ms is None else max_latency_ms / 1000
        self._jump_px = jump_px
        self._clock = clock
        self._process = os.getpid()
        self._worker = ThreadPoolExecutor(1, "live")
        self._changed = Condition()  # guards what follows
        self._closed = False
        self._kind: tuple[tuple[int, ...], np.dtype] | None = None
        self._first: list[np.ndarray] = []
        self._engine: Future[_Engine] | None = None
        self._job: _Job | None = None
        self._took_s: deque[float] = deque(maxlen=_RECENT)
        self._counts: Counter[str] = Counter()
        self._passed_on: Counter[str] = Counter()
        self._jumps = self._renewed = 0
        self._latencies_ms: deque[float] = deque(maxlen=_LATENCIES)
        self._position: np.ndarray | None = None

    def prepare(self, frames: np.ndarray) -> None:
        """Find reference, alpha and the usual misfit in given frames, instead of in those that come first.

        What was found before is replaced, so that another field of view can be looked at. Until it is done, frames that
        other threads register are passed on. Where it fails, all is as before.

        Parameters
        ----------
        frames
            (T, H, W) or (T, H, W, C).

        Raises
        ------
        ValueError
            As of `pyflow.compensate_arr`.
        RuntimeError
            This is closed, or belongs to another process.
        """
        self._check_usable()
        frames = np.array(frames, order="C")
        if frames.ndim not in (3, 4) or 0 in frames.shape:
            raise ValueError(f"frames have shape {frames.shape}, expected (T, H, W) or (T, H, W, C) with no empty axis")
        frames = _native(frames if frames.ndim == 4 else frames[..., np.newaxis])
        kind = self._kind_of(frames[0])
        with self._changed:
            before = self._kind, self._first, self._position, self._engine
            found, self._kind = self._begin(frames), kind
        try:
            found.result()
        except BaseException:
            with self._changed:
                if self._engine is found:
                    self._kind, self._first, self._position, self._engine = before
            raise

    def register(self, frame: np.ndarray) -> LiveFrame:
        """Register a frame.

        Parameters
        ----------
        frame
            (H, W) or (H, W, C), of the same shape and type as the frames before. A copy is taken.

        Returns
        -------
        LiveFrame
            The registered frame and its displacement, and what else is known. Frames that cannot be registered, because
            they hold NaN, are constant or do not resemble the reference, are passed on and marked.

        Raises
        ------
        ValueError
            The frame is of another shape or type than those before, or nothing can be registered to the reference. Then
            the frame does not count; others can follow.
        RuntimeError
            This is closed, or belongs to another process.
        Exception
            Whatever a flow back end raised at this frame, or at one before that had not waited for it.
        """
        arrived = self._clock()
        self._check_usable()
        frame = np.array(frame, order="C")
        if frame.ndim not in (2, 3) or 0 in frame.shape:
            raise ValueError(f"frame has shape {frame.shape}, expected (H, W) or (H, W, C) with no empty axis")
        planes = _native(frame if frame.ndim == 3 else frame[..., np.newaxis])
        with self._changed:
            self._check_kind(planes)
            ready = self._engine is not None and self._engine.done()
            found = self._engine or self._gather(planes)
        if found is None or (self._n_first and not found.done()):
            result, how = _untouched(planes, self._before), WAITING
        else:
            engine = self._prepared(found)
            # the one frame that waits for the reference has its time afterwards
            begun = arrived if ready else self._clock()
            planes, how = engine.cut(planes), FLOW
            result = self._by_flow(engine, planes, begun + max(self._limit_s - engine.shift_s, self._limit_s / 2))
            if result is None:
                result, how = engine.by_shift(planes), RIGID
        return self._told(result, PASSED_ON if result.problem else how, frame.ndim == 2, arrived)

    @property
    def reference(self) -> np.ndarray | None:
        """The first reference, raw, float64 (H, W) or (H, W, C); None while it is not there."""
        found = self._engine
        ready = found is not None and found.done() and found.exception() is None
        return without_single_channel(found.result().state.reference).copy() if ready else None

    @property
    def statistics(self) -> LiveStatistics:
        """What happened so far."""
        self._check_process()
        with self._changed:
            found, counts = self._engine, self._counts
            state = found.result().state if found and found.done() and found.exception() is None else None
            return LiveStatistics(
                frames=counts.total(),
                waiting=counts[WAITING],
                registered=counts[FLOW],
                late=counts[RIGID],
                passed_on=dict(self._passed_on),
                jumps=self._jumps,
                renewed=self._renewed,
                alpha=tuple(state.alpha.tolist()) if state else None,
                noise_px=float(state.noise_px) if state else 0.0,
                latency_ms=np.array(self._latencies_ms),
            )

    def close(self) -> None:
        """End what is worked on and give the threads back; frames cannot be registered afterwards."""
        if os.getpid() == self._process:
            with self._changed:
                self._closed = True
            self._worker.shutdown()

    def __enter__(self) -> "LiveRegistration":
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a LiveRegistration holds threads and cannot be copied or pickled: make one where it is needed")

    def _check_process(self) -> None:
        # its threads and whatever locks they held are gone in a child
        if os.getpid() != self._process:
            raise RuntimeError(
                f"this LiveRegistration was made in process {self._process}, this is {os.getpid()}: make one in each"
            )

    def _check_usable(self) -> None:
        self._check_process()
        if self._closed:
            raise RuntimeError("this LiveRegistration is closed")

    def _kind_of(self, planes: np.ndarray) -> tuple[tuple[int, ...], np.dtype]:
        """Return shape and type of a first frame, which shows whether the options fit at all."""
        source = checked_source(planes[np.newaxis], self._before, "the first frame")
        self._options.channel_weights(source.frame_shape)
        if self._reference is not None:
            as_reference(self._reference, source.frame_shape)
        return planes.shape, planes.dtype

    def _check_kind(self, planes: np.ndarray) -> None:
        """Compare a frame with those before."""
        if self._kind is None:
            self._kind = self._kind_of(planes)
        elif self._kind != (planes.shape, planes.dtype):
            shape, dtype = self._kind
            raise ValueError(
                f"frame has shape {planes.shape} and dtype {planes.dtype}, those before had {shape} and {dtype}"
            )

    def _gather(self, planes: np.ndarray) -> "Future[_Engine] | None":
        """Keep one of the first frames; with the last of them, begin."""
        if not frame_problem(planes):
            self._first.append(planes)
        if len(self._first) < max(self._n_first, 1):
            return None
        return self._begin(np.stack(self._first))

    def _begin(self, frames: np.ndarray) -> "Future[_Engine]":
        self._check_usable()
        self._first, self._position = [], None
        self._engine = self._worker.submit(_Engine, frames, self._options, self._reference, self._clock)
        return self._engine

    def _prepared(self, found: "Future[_Engine]") -> "_Engine":
        """Wait for what the first frames tell; where they tell nothing, the next are asked."""
        try:
            return found.result()
        except BaseException:
            with self._changed:
                if self._engine is found:
                    self._engine = None
            raise

    def _by_flow(self, engine: "_Engine", planes: np.ndarray, deadline: float) -> RegisteredFrame | None:
        """Register a frame by its flow; None where that is not there in time."""
        with self._changed:
            usual = sorted(self._took_s)[len(self._took_s) // 2] if self._took_s else 0.0
            # begun later than this the flow would be late, and so would the next frame's
            if not self._happens(lambda: self._job is None or self._job.over, deadline - usual):
                return None
            self._check_usable()
            missed, self._job = self._job, None
            if missed is not None and missed.error is not None and not missed.told:
                raise missed.error
            job = self._job = _Job()
            self._worker.submit(self._work, engine, planes, job)
            if not self._happens(lambda: job.over or job.result is not None, deadline):
                return None
            if job.result is None:
                job.told = True
                raise job.error
            return job.result

    def _happens(self, happened: Callable[[], bool], deadline: float) -> bool:
        """Wait for something that others change; return whether it was in time."""
        while not happened():
            left = deadline - self._clock()
            if left <= 0:
                return False
            self._changed.wait(min(left, TIMEOUT_MAX))
        return True

    def _work(self, engine: "_Engine", planes: np.ndarray, job: "_Job") -> None:
        """Register a frame; then, while nobody waits, renew the reference if it is time to."""
        began = self._clock()
        error, renewed = None, False
        try:
            result = engine.by_flow(planes)
            with self._changed:
                job.result = result
                self._took_s.append(self._clock() - began)
                self._changed.notify_all()
            renewed = engine.renew()
        except BaseException as raised:
            error = raised
        with self._changed:
            job.over, job.error = True, error
            self._renewed += renewed
            self._changed.notify_all()

    def _told(self, result: RegisteredFrame, how: str, flat: bool, arrived: float) -> LiveFrame:
        """Count a frame, and say what became of it."""
        registered, displacement = how in (FLOW, RIGID), result.displacement
        position = result.field.mean(axis=(0, 1), dtype=np.float64) if registered else None
        with self._changed:
            known = registered and self._position is not None
            jump_px = float(np.hypot(*(position - self._position))) if known else np.nan
            jumped = jump_px > self._jump_px
            if registered:
                self._position = position
            problem = PROBLEMS.get(result.problem, "")
            self._counts[how] += 1
            self._passed_on.update([problem] if problem else [])
            self._jumps += jumped
            latency_ms = 1000 * (self._clock() - arrived)
            if how != WAITING:
                self._latencies_ms.append(latency_ms)
        return LiveFrame(
            registered=result.frame[..., 0] if flat else result.frame,
            displacement=displacement,
            valid=result.valid,
            how=how,
            problem=problem,
            jump_px=jump_px,
            jumped=jumped,
            misfit=result.statistics[-1] if registered else np.nan,
            latency_ms=latency_ms,
        )


class _Job:
    """A frame that is registered by its flow, and what came of it."""

    def __init__(self) -> None:
        self.result: RegisteredFrame | None = None
        self.error: BaseException | None = None
        self.over = False
        self.told = False


class _Engine:
    """What registers frames, once the first have told how; its loop is for one thread at a time."""

    def __init__(
        self, frames: np.ndarray, options: OFOptions, reference: np.ndarray | None, clock: Callable[[], float]
    ) -> None:
        source = checked_source(frames, options, "the first frames")
        self.state = first_state(source, options, reference)
        known, dtype = options.with_alpha(tuple(self.state.alpha)), output_dtype(source, options)
        self._loop = FrameLoop(self.state, options, source.dtype, dtype, _Here(), 0, live=True)
        self._loop.start_from(source.read(t, t + 1)[0] for t in range(len(source)))
        self._incoming: list[np.ndarray] = []
        self._results = self._loop.register(self._coming())

        self._preprocess = Preprocessor(self.state.reference, options, source.dtype)
        references = [self.state.reference, *self.state.others]
        templates = [self._preprocess.image(reference) for reference in references]
        self._register = registration(
            templates[0],
            references,
            self._preprocess,
            known.replace(update_reference=False),
            dtype,
            misfit_limit=float(self.state.misfit_limit),
        )
        shape, size = templates[0].shape, known.cc_hw
        weight, reduced = known.channel_weights(shape), max(1.0, *np.divide(shape[:2], size))
        steps = ceil(reduced / _SHIFT_STEP_PX)
        self._shifts = [RigidShift(image, weight=weight, max_size=size, upsample=steps) for image in templates]
        self._reference = 0
        self.shift_s = min(self._shift_s(source.read(0, 1)[0], clock) for _ in range(_RECENT))
        self._source = replace(source, reader=frames[:0].copy())  # frees the frames

    def _shift_s(self, frame: np.ndarray, clock: Callable[[], float]) -> float:
        began = clock()
        self.by_shift(frame)
        return clock() - began

    def cut(self, planes: np.ndarray) -> np.ndarray:
        """Return a frame as the loop takes it."""
        return replace(self._source, reader=planes[np.newaxis]).read(0, 1)[0]

    def by_flow(self, frame: np.ndarray) -> RegisteredFrame:
        """Register the next frame."""
        self._incoming.append(frame)
        try:
            result = next(self._results)
        except BaseException:
            # an iteration that raised is at its end: the frames to come begin another
            self._incoming.clear()
            self.state.forget_frames()
            self._results = self._loop.register(self._coming())
            raise
        self._reference = result.reference
        return result

    def _coming(self) -> Iterator[np.ndarray]:
        while True:
            yield self._incoming.pop()

    def renew(self) -> bool:
        """See `FrameLoop.renew`."""
        return self._loop.renew()

    def by_shift(self, frame: np.ndarray) -> RegisteredFrame:
        """Shift a frame as a whole, onto the reference of the last frame whose flow was found; on any thread."""
        problem, last = frame_problem(frame), self._reference
        if problem:
            return self._register.finish([FrameEstimate(frame, problem)])
        field = np.array(self._shifts[last](self._preprocess.image(frame)), np.float32)[np.newaxis, np.newaxis]
        return self._register.finish([FrameEstimate(frame, field=field, residual=field, reference=last)])


class _Here(Executor):
    """Runs what it is given in the caller's thread."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future:
        done: Future = Future()
        done.set_result(function(*arguments, **named))
        return done


def _asked_of_frames(options: OFOptions, reference: np.ndarray | None) -> str:
    """Return what the first frames are needed for, or nothing."""
    if reference is None and not options.gives_reference:
        return "the reference"
    if options.alpha == "auto":
        return "alpha"
    if options.coherent:
        return "the noise, for temporal_coherence,"
    return "bidiphase" if options.bidiphase == "auto" else ""


def _native(planes: np.ndarray) -> np.ndarray:
    """Return an array in this machine's byte order."""
    return planes.astype(planes.dtype.newbyteorder("="), copy=False)


def _untouched(planes: np.ndarray, options: OFOptions) -> RegisteredFrame:
    """Return a frame as it is, in the channels and type of registered ones."""
    source = checked_source(planes[np.newaxis], options, "frame")
    frame = source.read(0, 1)[0]
    return passed_on(frame, frame_problem(frame), output_dtype(source, options))
